"""IBM Spectrum LSF."""

from __future__ import annotations

from typing import Any

from mlnb.targets.batch.commands import read_json, records
from mlnb.targets.batch.system import COUNTED, LOG, REQUEUE, JobRequest, QueuedJob, System, clock
from mlnb.targets.gpus.kinds import RequestSyntax

_TERMINATED = {
    "TERM_RUNLIMIT": ("time", "reached its time limit; a longer --time may help, or --resume"),
    "TERM_MEMLIMIT": ("memory", "took more memory than it may have; more --memory may help"),
    "TERM_SWAP": ("memory", "took more memory than it may have; more --memory may help"),
    "TERM_OWNER": ("cancelled", "was killed by its owner, not through mlnb"),
    "TERM_FORCE_OWNER": ("cancelled", "was killed by its owner, not through mlnb"),
    "TERM_ADMIN": ("cancelled", "was killed by an administrator"),
    "TERM_FORCE_ADMIN": ("cancelled", "was killed by an administrator"),
    "TERM_PREEMPT": ("preempted", "had to make room for a job of higher priority"),
}
"""Cause and words by the first word of ``exit_reason`` (IBM's documentation, bjobs -l, and bhist)."""


class Lsf(System):
    """LSF 10.1 or newer (``bsub -gpu``, ``bjobs -json``)."""

    kind = "lsf"
    display_name = "LSF"
    job = "lsf:LSFJob"
    submit_command = "bsub"
    cancel_command = "bkill"
    accepted = r"Job <(?P<job>[0-9]+)> is submitted to .*"
    stdin = True
    variables = ("LSF_*", "LSB_*", "EGO_*")
    gpus = RequestSyntax('-gpu "num={count}:gmodel={type}"')
    restarts = COUNTED  # LSB_RESTART says only that there was one

    def keywords(self, request: JobRequest) -> dict[str, Any]:
        """See :class:`System`. LSF writes times as ``HOUR:MINUTE``."""
        gpus = request.gpus or ((f'-gpu "num={request.resources.gpus}"',) if request.resources.gpus else ())
        return {
            "queue": request.partition,
            "project": request.account,
            "walltime": clock(request.resources.time).rpartition(":")[0] if request.resources.time else None,
            "ncpus": request.cpus,
            "mem": request.resources.memory,
            "use_stdin": True,
            "job_directives_skip": ["-M "] if request.resources.memory is None else [],
            "job_extra_directives": [
                *request.usual,
                f"-o {LOG}",
                *(["-r", f"-Q {REQUEUE}"] if request.requeue else ["-rn"]),
                *gpus,
                *request.extra,
            ],
        }

    def full_clock(self, text: str) -> str:
        """See :class:`System`."""
        return f"{text}:00" if text.count(":") == 1 else text

    def jobs(self) -> dict[str, QueuedJob]:
        """See :class:`System`."""
        fields = "jobid stat exit_code exit_reason exec_host pend_reason"
        return parse(self.run(["bjobs", "-a", "-json", "-o", fields]))


def parse(text: str) -> dict[str, QueuedJob]:
    """The jobs of what ``bjobs -json`` printed (bjobs(1)): all values are texts, and empty where there is none."""
    found = {}
    data = read_json(text, "LSF")
    for record in records(data.get("RECORDS") if isinstance(data, dict) else None):
        if not record.get("JOBID"):
            continue  # an ERROR: a job that is not found
        state, why = str(record.get("STAT", "")), str(record.get("PEND_REASON") or "").strip()
        if state == "PSUSP":
            seen = QueuedJob("pending", "hold", f"is held; bresume {record['JOBID']} lets it go on", state)
        elif state in ("PEND", "WAIT"):
            seen = QueuedJob("pending", "resources", f"waits: {why}" if why else "waits for free cores or GPUs", state)
        elif state in ("DONE", "EXIT", "ZOMBI"):
            seen = _ended(state, str(record.get("EXIT_CODE") or "0"), str(record.get("EXIT_REASON") or ""))
        else:
            host = str(record.get("EXEC_HOST") or "").partition(":")[0].rpartition("*")[2]
            words = "is suspended" if state in ("USUSP", "SSUSP") else ""
            seen = QueuedJob("running", words=words, code=state, nodes=(host,) if host else ())
        found[str(record["JOBID"])] = seen
    return found


def _ended(state: str, code: str, reason: str) -> QueuedJob:
    if state == "ZOMBI":
        return QueuedJob("ended", "node", "its node does not answer", state)
    known = _TERMINATED.get(reason.partition(":")[0].strip())
    if known and state == "EXIT":
        return QueuedJob("ended", *known, state)
    return QueuedJob(
        "ended", "completed" if state == "DONE" else "failed", f"its job ended with exit code {code}", state
    )
