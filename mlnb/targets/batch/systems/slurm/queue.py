"""Parses SLURM's lists of jobs: squeue for queued and recently ended ones, sacct (accounting) for older ones.

Formats: squeue(1), sacct(1), and the output of SLURM 22.05.8. Lines that can't be parsed are left out;
nothing here raises. Times are seconds since the epoch, or local time if ``text.FORMATS`` was not set.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from mlnb.targets.batch.queued_job import QueuedJob
from mlnb.targets.batch.request import ARRAY_PREFIX
from mlnb.targets.batch.systems.slurm.ends import OUT_OF_MEMORY_SIGNAL, exit_of, explain_end, explain_state, phase
from mlnb.targets.batch.systems.slurm.reasons import explain_wait
from mlnb.targets.batch.systems.slurm.text import duration, expand, expand_tasks, number, text_or_empty, timestamp

_FIELDS = (
    "JobArrayID",
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

QUEUE_COMMAND = (
    "squeue",
    "--me",
    "--all",
    "--states=all",
    "--array-unique",
    "--noheader",
    "-O",
    ",".join(f"{name}:|" for name in _FIELDS),
)
"""The command that lists the user's jobs, and those that ended within SLURM's ``MinJobAge`` (5 minutes by default).

``--all`` includes hidden partitions. ``--me`` needs SLURM 20.11. A field that is followed by a separator and has no
width is printed in full. Only the comment may contain a ``|``, hence it is last; so may names, which are not requested.

``--array-unique``: without it squeue folds all pending tasks of an array into one line, which has the union of their
reasons, and the restart count of one of them. With it, only tasks that never started share a line, as ``12_[3-9]``.
"""

_ACCOUNT_FIELDS = "JobID,State,ExitCode,DerivedExitCode,Reason,Start,End,Submit,Partition,NodeList"
_STATE = re.compile(r"[A-Z_]+")


def account_command(jobs: Iterable[str]) -> tuple[str, ...]:
    """The command that lists ``jobs`` with all their attempts and steps, from accounting.

    It lists all tasks of an array: accounting does not find those that never started by their own ids.
    """
    ids = ",".join(dict.fromkeys(job.partition("_")[0] for job in jobs))
    return ("sacct", "--duplicates", "--parsable2", "--noheader", f"--format={_ACCOUNT_FIELDS}", "-j", ids)


def parse(text: str) -> dict[str, QueuedJob]:
    """The jobs of what :data:`QUEUE_COMMAND` printed, by job id; of mlnb's arrays each task, as ``12_3``.

    A task's comment is that of its array and the task's index: ``mlnb:ARRAY_3``. Arrays that mlnb did not submit stay
    folded, since they may have a million tasks.
    """
    jobs = {}
    for line in text.splitlines():
        parts = line.strip().split("|", len(_FIELDS) - 1)
        if len(parts) != len(_FIELDS):
            continue
        row = {name: text_or_empty(part) for name, part in zip(_FIELDS, parts, strict=True)}
        row["Comment"] = text_or_empty(row["Comment"].removesuffix("|"))
        if row["State"] == "REVOKED":  # --all lists those too: another cluster has the job
            continue
        is_array = row["Comment"].startswith(f"mlnb:{ARRAY_PREFIX}")
        for job_id in expand_tasks(row["JobArrayID"]) if is_array else (row["JobArrayID"],):
            job = _queued(
                job_id,
                row["State"],
                row["Reason"],
                row["StartTime"],
                row["exit_code"],
                row["NodeList"],
                partition=row["Partition"],
                submitted=timestamp(row["SubmitTime"]),
                time=duration(row["TimeLimit"]),
                count=number(row["NumNodes"]),
                restarts=number(row["RestartCnt"]) or 0,
                comment=f"{row['Comment']}_{job_id.partition('_')[2]}" if is_array else row["Comment"],
            )
            if job is not None:
                jobs[job_id] = job
    return jobs


def parse_account(text: str) -> dict[str, QueuedJob]:
    """The jobs of what :func:`account_command` printed, by job id: of several attempts the last.

    A step that was out of memory counts for its job: SLURM may call the job itself merely failed. Tasks of an array
    that were cancelled before they started are one line of ``12_[3-9]``.
    """
    attempts: dict[str, list[_Attempt]] = {}
    waiting: dict[str, list[_Attempt]] = {}
    for line in text.splitlines():
        parts = line.strip().split("|")
        state = _STATE.match(parts[1]) if len(parts) == len(_Attempt._fields) - 1 else None
        job, dot, _ = parts[0].partition(".")
        if state is None or not job:
            continue
        if not dot:
            records = waiting if job.endswith("]") else attempts
            for job_id in expand_tasks(job):
                records.setdefault(job_id, []).append(_Attempt._make((*parts, False)))
        elif job in attempts and (state[0] == "OUT_OF_MEMORY" or exit_of(parts[2])[1] == OUT_OF_MEMORY_SIGNAL):
            attempts[job][-1] = attempts[job][-1]._replace(memory=True)
    jobs = {}
    for job, each in {**waiting, **attempts}.items():  # the line of waiting tasks may be older than a task's own
        each.sort(key=lambda attempt: timestamp(attempt.submit) or 0.0)
        last = each[-1]
        queued = _queued(
            job,
            "OUT_OF_MEMORY" if last.memory and last.state == "FAILED" else last.state,
            text_or_empty(last.reason),
            last.start,
            last.exit,
            text_or_empty(last.nodes).removeprefix("None assigned"),
            partition=last.partition,
            submitted=timestamp(last.submit),
            ended=timestamp(last.end),
            derived=exit_of(last.derived),
            restarts=len(each) - 1,
            history=tuple(attempt.state.split()[0] for attempt in each),
            array=job not in attempts,
        )
        if queued is not None:
            jobs[job] = queued
    return jobs


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
    job: str, state_text: str, reason: str, start: str, exit_text: str, hosts: str, **details: Any
) -> QueuedJob | None:
    """A job from the fields that both commands print; ``None`` if they are not those of a job."""
    state_parts = state_text.split()
    state = state_parts[0] if state_parts else ""
    if not re.fullmatch(r"[0-9][0-9_+\[\]%,-]*", job) or not _STATE.fullmatch(state):
        return None
    nodes = expand(hosts)
    start_time = timestamp(start)
    code, signal = exit_of(exit_text)
    details = {"state": state, "exit": code, "signal": signal, **details}
    kind = phase(state) or ("running" if nodes else "pending")
    if kind == "ended":
        by = _canceller(state_parts)
        details["by"] = by
        explanation = explain_end(state, code, signal, reason=reason, by=by, nodes=nodes)
    elif state == "PENDING":
        restarts = int(details.get("restarts") or 0)
        explanation = explain_wait(
            reason, None, details.get("partition") or None, job=job, start=start_time, restarts=restarts
        )
    else:
        explanation = explain_state(state)
    shown = reason if state == "PENDING" and reason else state
    return QueuedJob(
        kind, explanation.cause, explanation.reason, shown, start_time, nodes, details, state == "COMPLETING"
    )


def _canceller(state_parts: Sequence[str]) -> int | None:
    """The user id in accounting's ``CANCELLED by 1000``."""
    return number(state_parts[2]) if len(state_parts) == 3 and state_parts[1] == "by" else None
