"""Describes as data how a batch system lists jobs: its command, its records' fields, and its state codes."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from mlnb.targets.batch.commands import read_json
from mlnb.targets.batch.queued_job import QueuedJob, exited

Record = Mapping[str, Any]


class State(NamedTuple):
    """What a state code means: see :class:`QueuedJob`. ``{job}`` in the reason becomes the job's id.

    Of a job that has ended, ``cause`` and ``reason`` may be left to the other fields of its record.
    """

    state: str
    cause: str = ""
    reason: str = ""
    cleaning_up: bool = False


def _first_word(value: Any) -> Collection[str]:
    """The text before the colon, in which systems explain an end: ``TERM_RUNLIMIT: job killed after…``."""
    return (str(value).partition(":")[0].strip(),)


@dataclass(frozen=True)
class JobTable:
    """The listing of a system's queue. Fields are named as in the system's records; those that it lacks are empty.

    Attributes
    ----------
    command
        lists the user's jobs, with those that ended recently if it can.
    ended_command, ended_option
        looks up jobs that the queue no longer lists; their ids are appended, each after ``ended_option``.
    system
        the system's name, for errors.
    records
        the key of the records in the output; empty if the output itself is the records.
    job_id
        template of the id, as in ``{ClusterId}.{ProcId}``; empty where the records are an object with the ids as keys.
    short_id
        regular expression of a shorter id that the system also accepts; the job is listed under both.
    state_field
        the state code.
    states
        what the codes mean.
    other_state
        what a code means that is not among ``states``; ``{code}`` in the reason becomes the code.
    end_field, end_keys, ends
        how a job ended, where its exit code does not tell: a field, a function that finds keys in the field's value,
        and cause and reason by key. The first key of ``ends`` that is found counts.
    exit_field, read_status
        the field of the exit code, and the function that makes a job of exit code and state code.
    no_exit_code
        cause and reason where that field has no number.
    end
        a function of state code and record that replaces all of these.
    owner_field
        the owner, perhaps with ``@host``: jobs of others are left out.
    nodes_field, node_pattern
        the nodes, as one text or a list; the pattern's last group is the first node's name.
    reason_field
        the system's own explanation of why a job waits; it is appended to the reason.
    run_field, submitted_field
        the id of mlnb's run, and the time of submission in seconds since the epoch.
    read
        a function of output and system name that parses output that is not JSON.
    """

    command: Sequence[str]
    state_field: str
    states: Mapping[str, State]
    system: str
    other_state: State
    records: str = ""
    job_id: str = ""
    short_id: str = ""
    owner_field: str = ""
    nodes_field: str = ""
    node_pattern: str = r"(.*)"
    reason_field: str = ""
    run_field: str = ""
    submitted_field: str = ""
    end_field: str = ""
    end_keys: Callable[[Any], Collection[str]] = field(default=_first_word)
    ends: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    exit_field: str = ""
    read_status: Callable[[int, str], QueuedJob] = field(default=exited)
    no_exit_code: tuple[str, str] = ("failed", "ended; the system does not say how")
    end: Callable[[str, Record], QueuedJob] | None = None
    ended_command: Sequence[str] = ()
    ended_option: Sequence[str] = ()
    read: Callable[[str, str], Any] = field(default=read_json)

    def parse(self, text: str, user: str = "") -> dict[str, QueuedJob]:
        """The jobs of ``user`` (of all, without) in what the command printed, by id.

        Raises
        ------
        CommandFailed
            if it can't be parsed. Callers must not take missing jobs for jobs that ended.
        """
        jobs = {}
        for job_id, record in self._records(self.read(text, self.system)):
            owner = str(record.get(self.owner_field, "")).partition("@")[0] if self.owner_field else user
            if user and owner != user:
                continue
            jobs[job_id] = self._job(job_id, record)
            if self.short_id and (short := re.match(self.short_id, job_id)):
                jobs[short[0]] = jobs[job_id]
        return jobs

    def _records(self, data: Any) -> Iterator[tuple[str, Record]]:
        if self.records:
            data = data.get(self.records) if isinstance(data, Mapping) else None
        if self.job_id:
            names = re.findall(r"{(\w+)}", self.job_id)
            for record in data if isinstance(data, list) else ():
                # a record without an id is an error message about a job that was not found
                if isinstance(record, Mapping) and all(record.get(name) not in (None, "") for name in names):
                    yield self.job_id.format_map(record), record
        elif isinstance(data, Mapping):
            yield from ((str(job_id), record) for job_id, record in data.items() if isinstance(record, Mapping))

    def _job(self, job_id: str, record: Record) -> QueuedJob:
        code = str(record.get(self.state_field, ""))
        state = self.states.get(code, self.other_state)
        if state.state == "ended":
            job = self.end(code, record) if self.end else self._end(code, state, record)
        else:
            reason = state.reason.replace("{job}", job_id).replace("{code}", code)
            explanation = str(record.get(self.reason_field) or "").strip() if state.state == "pending" else ""
            nodes = self._nodes(record) if state.state == "running" else ()
            job = QueuedJob(
                state.state,
                state.cause,
                f"{reason}: {explanation}" if explanation else reason,
                code,
                nodes=nodes,
                cleaning_up=state.cleaning_up,
            )
        if not self.run_field:
            return job
        details = {"comment": f"mlnb:{record.get(self.run_field)}", "submitted": record.get(self.submitted_field)}
        return replace(job, details=details)

    def _end(self, code: str, state: State, record: Record) -> QueuedJob:
        if state.reason:
            return QueuedJob("ended", state.cause, state.reason, code)
        keys = self.end_keys(record.get(self.end_field)) if self.end_field else ()
        for key, (cause, reason) in self.ends.items():
            if key in keys:
                return QueuedJob("ended", cause, reason, code)
        try:
            job = self.read_status(int(record[self.exit_field]), code)
        except (KeyError, TypeError, ValueError, OverflowError):
            cause, reason = self.no_exit_code
            return QueuedJob("ended", cause, reason.replace("{code}", code), code)
        return replace(job, cause=state.cause) if state.cause and job.cause == "completed" else job

    def _nodes(self, record: Record) -> tuple[str, ...]:
        given = record.get(self.nodes_field) or ()
        texts = given if isinstance(given, (list, tuple)) else (given,)
        matches = [match for text in texts if (match := re.match(self.node_pattern, str(text)))]
        return tuple(name for match in matches if (name := match.group(match.lastindex or 0)))
