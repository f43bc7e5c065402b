"""OAR."""

from __future__ import annotations

import re
from typing import Any

from mlnb.targets.batch.job_table import JobTable, Record, State
from mlnb.targets.batch.queued_job import HELD, SUSPENDED, TIME_LIMIT, WAITING, QueuedJob, killed
from mlnb.targets.batch.request import JobRequest
from mlnb.targets.batch.system import System
from mlnb.targets.gpus.kinds import RequestSyntax


def _end(code: str, record: Record) -> QueuedJob:
    listed = record.get("events")
    events = {str(event.get("type")) for event in listed if isinstance(event, dict)} if isinstance(listed, list) else ()
    if "WALLTIME" in events:
        return QueuedJob("ended", *TIME_LIMIT, code)
    if "FRAG_JOB_REQUEST" in events:
        return QueuedJob("ended", "cancelled", "was deleted with oardel, not through mlnb", code)
    status = str(record.get("exit_code"))  # as wait() returns it: the code in its second byte, the signal in its first
    if not re.fullmatch(r"[0-9]{1,9}", status):
        return QueuedJob("ended", "failed", f"ended: OAR says {code}", code)
    if int(status) & 0x7F:
        return killed(int(status) & 0x7F, code)
    cause = "completed" if code == "Terminated" and int(status) == 0 else "failed"
    return QueuedJob("ended", cause, f"ended with exit code {int(status) >> 8}", code)


class Oar(System):
    """OAR 2.5 or newer. Settings: ``memory-per-core-property-name`` of the jobqueue section, for memory.

    mlnb never asks OAR to run a job again: with ``-t idempotent`` that would be another job, with another id.
    """

    kind = "oar"
    display_name = "OAR"
    job_class = "oar:OARJob"
    submit_command = "oarsub"
    cancel_command = "oardel"
    accepted = r"OAR_JOB_ID=(?P<job>[0-9]+)"
    variables = ("OAR*",)
    passes_variables = False
    requeues = False
    account_keyword = "project"
    gpu_syntax = RequestSyntax(counted=False)
    directives = ("-O {log}", "-E {log}", "--checkpoint {warning}", "--signal 10")  # SIGUSR1 warns of the end
    table = JobTable(
        system=display_name,
        command=("oarstat", "-J", "-f", "-u"),
        ended_command=("oarstat", "-J", "-f"),  # jobs that ended are found by id only
        ended_option=("-j",),
        state_field="state",
        states={
            "Waiting": State("pending", "resources", WAITING),
            "Hold": State("pending", "hold", HELD),
            "toLaunch": State("pending", "other", "Starting"),
            "Launching": State("pending", "other", "Starting"),
            "toAckReservation": State("pending", "begin", "Waiting for its reservation"),
            "Suspended": State("running", reason=SUSPENDED),
            **dict.fromkeys(("Running", "Finishing", "Resuming", "toError"), State("running")),
            **dict.fromkeys(("Terminated", "Error"), State("ended")),
        },
        other_state=State("pending", "other", "OAR says {code}"),
        nodes_field="assigned_network_address",
        end=_end,
    )

    def keywords(self, request: JobRequest) -> dict[str, Any]:
        """See :class:`System`."""
        unlimited = {} if request.resources.memory else {"memory_per_core_property_name": "not_applicable"}
        return {**super().keywords(request), **unlimited}

    def resource_spec(self, request: JobRequest) -> str:
        """See :class:`System`."""
        gpus = request.resources.gpus
        return f"/nodes={request.resources.nodes}" + (f"/gpu={gpus}" if gpus else f"/core={request.cpus}")
