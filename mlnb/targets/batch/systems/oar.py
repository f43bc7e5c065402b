"""The OAR batch system."""

from __future__ import annotations

from typing import Any

from mlnb.targets.batch.job_table import JobTable, State
from mlnb.targets.batch.queued_job import HELD, SUSPENDED, TIME_LIMIT, WAITING, QueuedJob, exited, killed
from mlnb.targets.batch.request import JobRequest
from mlnb.targets.batch.system import System
from mlnb.targets.gpus.kinds import RequestSyntax


def _event_types(events: Any) -> list[str]:
    return [str(event.get("type")) for event in events if isinstance(event, dict)] if isinstance(events, list) else []


def _read_status(status: int, code: str) -> QueuedJob:
    """``status`` is as wait() returns it: the exit code in its second byte, the signal in its first."""
    return killed(status & 0x7F, code) if status & 0x7F else exited(status >> 8, code)


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
            **dict.fromkeys(("toLaunch", "Launching"), State("pending", "other", "Starting")),
            "toAckReservation": State("pending", "begin", "Waiting for its reservation"),
            "Suspended": State("running", reason=SUSPENDED),
            **dict.fromkeys(("Running", "Finishing", "Resuming", "toError"), State("running")),
            "Terminated": State("ended"),
            "Error": State("ended", "failed"),
        },
        other_state=State("pending", "other", "OAR says {code}"),
        nodes_field="assigned_network_address",
        end_field="events",
        end_keys=_event_types,
        ends={
            "WALLTIME": TIME_LIMIT,
            "FRAG_JOB_REQUEST": ("cancelled", "was deleted with oardel, not by mlnb"),
        },
        exit_field="exit_code",
        read_status=_read_status,
        no_exit_code=("failed", "ended: OAR says {code}"),
    )

    def keywords(self, request: JobRequest) -> dict[str, Any]:
        """See :class:`System`."""
        unlimited = {} if request.resources.memory else {"memory_per_core_property_name": "not_applicable"}
        return {**super().keywords(request), **unlimited}

    def resource_spec(self, request: JobRequest) -> str:
        """See :class:`System`."""
        gpus = request.resources.gpus
        return f"/nodes={request.resources.nodes}" + (f"/gpu={gpus}" if gpus else f"/core={request.cpus}")
