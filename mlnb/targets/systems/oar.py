"""OAR."""

from __future__ import annotations

import json
from typing import Any

from mlnb.targets.systems.base import LOG, Ask, Queued, System, clock

_WAITING = {
    "Waiting": ("resources", "waits for free cores or GPUs"),
    "Hold": ("hold", "held: by its owner or an administrator"),
    "toLaunch": ("other", "is being started"),
    "Launching": ("other", "is being started"),
    "toAckReservation": ("begin", "waits for its reservation"),
}


class Oar(System):
    """OAR 2.5 or newer. Settings: ``memory-per-core-property-name`` of the jobqueue section, for memory."""

    kind = "oar"
    words = "OAR"
    job = "oar:OARJob"
    variables = ("OAR*",)
    passes_variables = False

    def keywords(self, ask: Ask) -> dict[str, Any]:
        """See :class:`System`. A checkpoint signal (``--checkpoint``, SIGUSR2 by default) warns of the end."""
        gpus = f"/gpu={ask.resources.gpus}" if ask.resources.gpus else f"/core={ask.cpus}"
        return {
            "queue": ask.partition,
            "project": ask.account,
            "walltime": clock(ask.resources.time) if ask.resources.time else None,
            "resource_spec": f"/nodes={ask.resources.nodes}{gpus}",
            "job_extra_directives": [
                f"-O {LOG}",
                f"-E {LOG}",
                f"--checkpoint {ask.warning}",
                "--signal 10",
                *(["-t idempotent"] if ask.requeue else []),
                *ask.gpus,
                *ask.extra,
            ],
        }

    def jobs(self) -> dict[str, Queued]:
        """See :class:`System`."""
        return parse(self.run(["oarstat", "-J", "-f", "-u"]))


def parse(text: str) -> dict[str, Queued]:
    """The jobs of what ``oarstat -J -f -u`` printed."""
    try:
        jobs = json.loads(text)
    except ValueError:
        return {}
    found = {}
    for number, job in jobs.items() if isinstance(jobs, dict) else ():
        state = str(job.get("state", ""))
        if state in ("Terminated", "Error"):
            code = job.get("exit_code")
            cause = "completed" if state == "Terminated" else "failed"
            seen = Queued("ended", cause, f"its job ended with exit code {code}", state)
        elif state in ("Running", "Finishing", "Suspended", "Resuming"):
            seen = Queued("running", code=state, nodes=tuple(job.get("assigned_network_address") or ()))
        else:
            cause, words = _WAITING.get(state, ("other", f"OAR says {state}"))
            seen = Queued("pending", cause, words, state)
        found[str(number)] = seen
    return found
