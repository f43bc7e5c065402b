"""What SLURM says of jobs: of those in its queue and that ended lately, and of long gone ones (accounting).

Formats: squeue(1), sacct(1), and the output of SLURM 22.05.8. Lines that don't read are left out; nothing
here raises. Points in time are seconds since the epoch, or local time where ``slurm_text.EPOCH_TIMES`` was not set.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from mlnb.targets.batch.queued_job import QueuedJob
from mlnb.targets.batch.slurm.ends import OUT_OF_MEMORY_SIGNAL, ended, exit_of, meanwhile, phase
from mlnb.targets.batch.slurm.reasons import explain_wait
from mlnb.targets.batch.slurm.text import duration, expand, moment, number, text_or_empty

_FIELDS = (
    "JobID",
    "State",
    "Reason",
    "StartTime",
    "SubmitTime",
    "TimeLimit",
    "NumNodes",
    "Partition",
    "RestartCnt",
    "exit_code",
    "NodeList",
    "Comment",
)

QUEUE = ("squeue", "--me", "--all", "--states=all", "--noheader", "-O", ",".join(f"{name}:|" for name in _FIELDS))
"""All of the user's jobs, those too that ended within SLURM's ``MinJobAge`` (5 minutes by default): one command.

``--all``: those in hidden partitions, too. ``--me`` needs SLURM 20.11. A field with something put behind it and no
width is printed whole. The comment is the only one that may hold a ``|``, hence last; names may too, and are not asked
for.
"""

_ACCOUNT_FIELDS = "JobID,State,ExitCode,DerivedExitCode,Reason,Start,End,Submit,Partition,NodeList"
_STATE = re.compile(r"[A-Z_]+")


def ACCOUNT(jobs: Iterable[str]) -> tuple[str, ...]:  # noqa: N802
    """The command that asks accounting for ``jobs``, all their attempts and steps."""
    return ("sacct", "--duplicates", "--parsable2", "--noheader", f"--format={_ACCOUNT_FIELDS}", "-j", ",".join(jobs))


def parse(text: str) -> dict[str, QueuedJob]:
    """The jobs of what :data:`QUEUE` printed, by job id."""
    found = {}
    for line in text.splitlines():
        parts = line.strip().split("|", len(_FIELDS) - 1)
        if len(parts) != len(_FIELDS):
            continue
        row = {name: text_or_empty(part) for name, part in zip(_FIELDS, parts, strict=True)}
        row["Comment"] = text_or_empty(row["Comment"].removesuffix("|"))
        job = _queued(
            row["JobID"],
            row["State"],
            row["Reason"],
            row["StartTime"],
            row["exit_code"],
            row["NodeList"],
            partition=row["Partition"],
            submitted=moment(row["SubmitTime"]),
            time=duration(row["TimeLimit"]),
            count=number(row["NumNodes"]),
            restarts=number(row["RestartCnt"]) or 0,
            comment=row["Comment"],
        )
        if job is not None and row["State"] != "REVOKED":  # which --all shows: another cluster has the job
            found[row["JobID"]] = job
    return found


def parse_account(text: str) -> dict[str, QueuedJob]:
    """The jobs of what :func:`ACCOUNT` printed, by job id: of several attempts the last.

    A step that was out of memory counts for its job: SLURM may call the job itself merely failed.
    """
    attempts: dict[str, list[_Attempt]] = {}
    for line in text.splitlines():
        parts = line.strip().split("|")
        state = _STATE.match(parts[1]) if len(parts) == len(_Attempt._fields) - 1 else None
        job, dot, _ = parts[0].partition(".")
        if state is None or not job:
            continue
        if not dot:
            attempts.setdefault(job, []).append(_Attempt._make((*parts, False)))
        elif job in attempts and (state[0] == "OUT_OF_MEMORY" or exit_of(parts[2])[1] == OUT_OF_MEMORY_SIGNAL):
            attempts[job][-1] = attempts[job][-1]._replace(memory=True)
    found = {}
    for job, each in attempts.items():
        each.sort(key=lambda attempt: moment(attempt.submit) or 0.0)
        last = each[-1]
        queued = _queued(
            job,
            "OUT_OF_MEMORY" if last.memory and last.state == "FAILED" else last.state,
            text_or_empty(last.reason),
            last.start,
            last.exit,
            text_or_empty(last.nodes).removeprefix("None assigned"),
            partition=last.partition,
            submitted=moment(last.submit),
            ended=moment(last.end),
            derived=exit_of(last.derived),
            restarts=len(each) - 1,
            history=tuple(attempt.state.split()[0] for attempt in each),
        )
        if queued is not None:
            found[job] = queued
    return found


class _Attempt(NamedTuple):
    """The fields of :data:`_ACCOUNT_FIELDS`, and whether one of its steps was out of memory."""

    job: str
    state: str
    exit: str
    derived: str
    reason: str
    start: str
    end: str
    submit: str
    partition: str
    nodes: str
    memory: bool


def _queued(
    job: str, state_text: str, reason: str, start: str, exit_text: str, hosts: str, **about: Any
) -> QueuedJob | None:
    """A job from the fields that both commands have; ``None`` if it is none."""
    words = state_text.split()
    state = words[0] if words else ""
    if not re.fullmatch(r"[0-9][0-9_+\[\]%,-]*", job) or not _STATE.fullmatch(state):
        return None
    nodes = expand(hosts)
    when = moment(start)
    code, signal = exit_of(exit_text)
    about = {"state": state, "exit": code, "signal": signal, **about}
    kind = phase(state) or ("running" if nodes else "pending")
    if kind == "ended":
        by = _canceller(words)
        about["by"] = by
        explanation = ended(state, code, signal, reason=reason, by=by, nodes=nodes)
    elif state == "PENDING":
        restarts = int(about.get("restarts") or 0)
        explanation = explain_wait(reason, None, about.get("partition") or None, job=job, start=when, restarts=restarts)
    else:
        explanation = meanwhile(state)
    shown = reason if state == "PENDING" and reason else state
    return QueuedJob(kind, explanation.cause, explanation.reason, shown, when, nodes, about, state == "COMPLETING")


def _canceller(words: Sequence[str]) -> int | None:
    """The user id in accounting's ``CANCELLED by 1000``."""
    return number(words[2]) if len(words) == 3 and words[1] == "by" else None
