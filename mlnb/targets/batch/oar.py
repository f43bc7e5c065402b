"""OAR."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from mlnb.targets.batch.commands import named, read_json, records
from mlnb.targets.batch.system import LOG, JobRequest, QueuedJob, System, clock
from mlnb.targets.gpus.kinds import RequestSyntax

_WAITING = {
    "Waiting": ("resources", "waits for free cores or GPUs"),
    "Hold": ("hold", "held: by its owner or an administrator"),
    "toLaunch": ("other", "is being started"),
    "Launching": ("other", "is being started"),
    "toAckReservation": ("begin", "waits for its reservation"),
}


class Oar(System):
    """OAR 2.5 or newer. Settings: ``memory-per-core-property-name`` of the jobqueue section, for memory.

    OAR submits what is to run again (``-t idempotent``) as another job, which nobody would follow: we ask for none.
    """

    kind = "oar"
    display_name = "OAR"
    job = "oar:OARJob"
    submit_command = "oarsub"
    cancel_command = "oardel"
    accepted = r"OAR_JOB_ID=(?P<job>[0-9]+)"
    variables = ("OAR*",)
    passes_variables = False
    gpus = RequestSyntax(counted=False)  # but -l
    requeues = False  # -t idempotent makes another job

    def keywords(self, request: JobRequest) -> dict[str, Any]:
        """See :class:`System`. A checkpoint signal (``--checkpoint``, SIGUSR2 by default) warns of the end."""
        gpus = f"/gpu={request.resources.gpus}" if request.resources.gpus else f"/core={request.cpus}"
        return {
            "queue": request.partition,
            "project": request.account,
            "walltime": clock(request.resources.time) if request.resources.time else None,
            "resource_spec": f"/nodes={request.resources.nodes}{gpus}",
            **({"memory_per_core_property_name": "not_applicable"} if request.resources.memory is None else {}),
            "job_extra_directives": [
                *request.usual,
                f"-O {LOG}",
                f"-E {LOG}",
                f"--checkpoint {request.warning}",
                "--signal 10",
                *request.gpus,
                *request.extra,
            ],
        }

    def jobs(self) -> dict[str, QueuedJob]:
        """See :class:`System`."""
        return parse(self.run(["oarstat", "-J", "-f", "-u"]))

    def ended(self, ids: Sequence[str]) -> dict[str, QueuedJob]:
        """See :class:`System`. Jobs that ended are not among a user's, but known by their number."""
        return parse(self.run(["oarstat", "-J", "-f", *(word for number in ids for word in ("-j", number))]))


def parse(text: str) -> dict[str, QueuedJob]:
    """The jobs of what ``oarstat -J -f`` printed."""
    found = {}
    for number, job in named(read_json(text, "OAR")).items():
        state = str(job.get("state", ""))
        if state in ("Terminated", "Error"):
            seen = _ended(state, job)
        elif state in ("Running", "Finishing", "Suspended", "Resuming", "toError"):
            nodes = job.get("assigned_network_address")
            there = tuple(str(node) for node in nodes) if isinstance(nodes, list) else ()
            seen = QueuedJob("running", words="is suspended" if state == "Suspended" else "", code=state, nodes=there)
        else:
            cause, words = _WAITING.get(state, ("other", f"OAR says {state}"))
            seen = QueuedJob("pending", cause, words, state)
        found[number] = seen
    return found


def _ended(state: str, job: Mapping[str, Any]) -> QueuedJob:
    events = {str(event.get("type", "")) for event in records(job.get("events"))}
    if "WALLTIME" in events:
        return QueuedJob("ended", "time", "reached its time limit; a longer --time may help, or --resume", state)
    if "FRAG_JOB_REQUEST" in events:
        return QueuedJob("ended", "cancelled", "was deleted (oardel), not through mlnb", state)
    status = job.get("exit_code")  # as wait() gives it: the code in its second byte, the signal in its first
    if isinstance(status, bool) or not re.fullmatch(r"[0-9]{1,9}", str(status)):
        return QueuedJob("ended", "failed", f"OAR says {state}", state)
    code, signal = int(str(status)) >> 8, int(str(status)) & 0x7F
    words = f"its job was ended by signal {signal}" if signal else f"its job ended with exit code {code}"
    return QueuedJob("ended", "completed" if state == "Terminated" and not int(str(status)) else "failed", words, state)
