"""IBM Spectrum LSF."""

from __future__ import annotations

from typing import Any

from mlnb.targets.batch.job_table import JobTable, Record, State
from mlnb.targets.batch.queued_job import HELD, MEMORY_LIMIT, SUSPENDED, TIME_LIMIT, WAITING, QueuedJob
from mlnb.targets.batch.request import JobRequest
from mlnb.targets.batch.system import COUNT_STARTS, System
from mlnb.targets.gpus.kinds import RequestSyntax

_TERMINATED = {
    "TERM_RUNLIMIT": TIME_LIMIT,
    "TERM_MEMLIMIT": MEMORY_LIMIT,
    "TERM_SWAP": MEMORY_LIMIT,
    "TERM_OWNER": ("cancelled", "was killed by its owner, not through mlnb"),
    "TERM_FORCE_OWNER": ("cancelled", "was killed by its owner, not through mlnb"),
    "TERM_ADMIN": ("cancelled", "was killed by an administrator"),
    "TERM_FORCE_ADMIN": ("cancelled", "was killed by an administrator"),
    "TERM_PREEMPT": ("preempted", "had to make room for a job of higher priority"),
}
"""Cause and reason by the first word of ``exit_reason`` (IBM's documentation of bjobs -l and bhist)."""


def _end(code: str, record: Record) -> QueuedJob:
    if code == "ZOMBI":
        return QueuedJob("ended", "node", "is lost: its node does not answer", code)
    terminated = _TERMINATED.get(str(record.get("EXIT_REASON") or "").partition(":")[0].strip())
    if terminated and code == "EXIT":
        return QueuedJob("ended", *terminated, code)
    cause = "completed" if code == "DONE" else "failed"
    return QueuedJob("ended", cause, f"ended with exit code {record.get('EXIT_CODE') or 0}", code)


class Lsf(System):
    """LSF 10.1 or newer (``bsub -gpu``, ``bjobs -json``)."""

    kind = "lsf"
    display_name = "LSF"
    job_class = "lsf:LSFJob"
    submit_command = "bsub"
    reads_stdin = True
    cancel_command = "bkill"
    accepted = r"Job <(?P<job>[0-9]+)> is submitted to .*"
    variables = ("LSF_*", "LSB_*", "EGO_*")
    restarts = COUNT_STARTS  # LSB_RESTART says only that there was one
    account_keyword = "project"
    time_format = "{hours:02d}:{minutes:02d}"
    gpu_syntax = RequestSyntax('-gpu "num={count}:gmodel={type}"', any_type='-gpu "num={count}"')
    directives = ("-o {log}",)
    requeue_directives = ("-r", "-Q {requeue_code}")
    no_requeue_directives = ("-rn",)
    memory_directive = "-M "
    table = JobTable(
        system=display_name,
        # bjobs(1): all values are texts, and empty where there is none
        command=("bjobs", "-a", "-json", "-o", "jobid stat exit_code exit_reason exec_host pend_reason"),
        records="RECORDS",
        job_id="{JOBID}",
        state_field="STAT",
        states={
            "PSUSP": State("pending", "hold", f"{HELD}: bresume {{job}} releases it"),
            "PEND": State("pending", "resources", WAITING),
            "WAIT": State("pending", "resources", WAITING),
            "USUSP": State("running", reason=SUSPENDED),
            "SSUSP": State("running", reason=SUSPENDED),
            **dict.fromkeys(("DONE", "EXIT", "ZOMBI"), State("ended")),
        },
        other_state=State("running"),
        nodes_field="EXEC_HOST",
        node_pattern=r"(?:[^:]*\*)?([^:]*)",
        reason_field="PEND_REASON",
        end=_end,
    )

    def keywords(self, request: JobRequest) -> dict[str, Any]:
        """See :class:`System`."""
        own = {"ncpus": request.cpus, "mem": request.resources.memory, "use_stdin": True}
        return {**super().keywords(request), **own}
