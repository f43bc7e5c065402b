"""IBM Spectrum LSF."""

from __future__ import annotations

from typing import Any

from mlnb.targets.batch.commands import read_json, records
from mlnb.targets.batch.system import COUNTED, LOG, REQUEUE, Ask, Queued, System, clock
from mlnb.targets.gpus.kinds import Way

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
    words = "LSF"
    job = "lsf:LSFJob"
    accepted = r"Job <(?P<job>[0-9]+)> is submitted to .*"
    stdin = True
    variables = ("LSF_*", "LSB_*", "EGO_*")
    gpus = Way('-gpu "num={count}:gmodel={type}"')
    restarts = COUNTED  # LSB_RESTART says only that there was one

    def keywords(self, ask: Ask) -> dict[str, Any]:
        """See :class:`System`. LSF writes times as ``HOUR:MINUTE``."""
        gpus = ask.gpus or ((f'-gpu "num={ask.resources.gpus}"',) if ask.resources.gpus else ())
        return {
            "queue": ask.partition,
            "project": ask.account,
            "walltime": clock(ask.resources.time).rpartition(":")[0] if ask.resources.time else None,
            "ncpus": ask.cpus,
            "mem": ask.resources.memory,
            "use_stdin": True,
            "job_directives_skip": ["-M "] if ask.resources.memory is None else [],
            "job_extra_directives": [
                *ask.usual,
                f"-o {LOG}",
                *(["-r", f"-Q {REQUEUE}"] if ask.requeue else ["-rn"]),
                *gpus,
                *ask.extra,
            ],
        }

    def full_clock(self, text: str) -> str:
        """See :class:`System`."""
        return f"{text}:00" if text.count(":") == 1 else text

    def jobs(self) -> dict[str, Queued]:
        """See :class:`System`."""
        fields = "jobid stat exit_code exit_reason exec_host pend_reason"
        return parse(self.run(["bjobs", "-a", "-json", "-o", fields]))


def parse(text: str) -> dict[str, Queued]:
    """The jobs of what ``bjobs -json`` printed (bjobs(1)): all values are texts, and empty where there is none."""
    found = {}
    data = read_json(text, "LSF")
    for record in records(data.get("RECORDS") if isinstance(data, dict) else None):
        if not record.get("JOBID"):
            continue  # an ERROR: a job that is not found
        state, why = str(record.get("STAT", "")), str(record.get("PEND_REASON") or "").strip()
        if state == "PSUSP":
            seen = Queued("pending", "hold", f"is held; bresume {record['JOBID']} lets it go on", state)
        elif state in ("PEND", "WAIT"):
            seen = Queued("pending", "resources", f"waits: {why}" if why else "waits for free cores or GPUs", state)
        elif state in ("DONE", "EXIT", "ZOMBI"):
            seen = _ended(state, str(record.get("EXIT_CODE") or "0"), str(record.get("EXIT_REASON") or ""))
        else:
            host = str(record.get("EXEC_HOST") or "").partition(":")[0].rpartition("*")[2]
            words = "is suspended" if state in ("USUSP", "SSUSP") else ""
            seen = Queued("running", words=words, code=state, nodes=(host,) if host else ())
        found[str(record["JOBID"])] = seen
    return found


def _ended(state: str, code: str, reason: str) -> Queued:
    if state == "ZOMBI":
        return Queued("ended", "node", "its node does not answer", state)
    known = _TERMINATED.get(reason.partition(":")[0].strip())
    if known and state == "EXIT":
        return Queued("ended", *known, state)
    return Queued("ended", "completed" if state == "DONE" else "failed", f"its job ended with exit code {code}", state)
