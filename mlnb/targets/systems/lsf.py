"""IBM Spectrum LSF."""

from __future__ import annotations

import json
from typing import Any

from mlnb.targets.systems.base import LOG, Ask, Queued, System, clock


class Lsf(System):
    """LSF 10.1 or newer (``bsub -gpu``, ``bjobs -json``)."""

    kind = "lsf"
    words = "LSF"
    job = "lsf:LSFJob"
    variables = ("LSF_*", "LSB_*", "EGO_*")
    # LSB_EXIT_PREEMPTED and the like don't count; LSF itself does
    restarts = "${LSB_JOB_RERUN_COUNT:-0}"
    again = 'brequeue -e "$LSB_JOBID"'

    def keywords(self, ask: Ask) -> dict[str, Any]:
        """See :class:`System`. LSF writes times as ``HOUR:MINUTE``."""
        gpus = ask.gpus or ((f'-gpu "num={ask.resources.gpus}"',) if ask.resources.gpus else ())
        return {
            "queue": ask.partition,
            "project": ask.account,
            "walltime": clock(ask.resources.time).rpartition(":")[0] if ask.resources.time else None,
            "use_stdin": True,
            "job_extra_directives": [f"-o {LOG}", "-r" if ask.requeue else "-rn", *gpus, *ask.extra],
        }

    def jobs(self) -> dict[str, Queued]:
        """See :class:`System`."""
        fields = "jobid stat exit_code exec_host pend_reason"
        return parse(self.run(["bjobs", "-a", "-json", "-o", fields]))


def parse(text: str) -> dict[str, Queued]:
    """The jobs of what ``bjobs -json`` printed (bjobs(1))."""
    try:
        records = json.loads(text)["RECORDS"]
    except (ValueError, KeyError, TypeError):
        return {}
    found = {}
    for record in records:
        state = str(record.get("STAT", ""))
        if state in ("PEND", "PSUSP", "WAIT"):
            why = str(record.get("PEND_REASON", "")).strip()
            cause = "hold" if state == "PSUSP" else "resources"
            seen = Queued("pending", cause, f"waits: {why}" if why else "waits for free cores or GPUs", state)
        elif state in ("DONE", "EXIT", "ZOMBI"):
            code = str(record.get("EXIT_CODE", "")).strip() or "0"
            seen = Queued(
                "ended", "completed" if state == "DONE" else "failed", f"its job ended with exit code {code}", state
            )
        else:
            host = str(record.get("EXEC_HOST", "")).partition(":")[0].rpartition("*")[2]
            seen = Queued("running", code=state, nodes=(host,) if host else ())
        found[str(record.get("JOBID", ""))] = seen
    return found
