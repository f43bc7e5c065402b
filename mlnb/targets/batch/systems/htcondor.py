"""The HTCondor batch system, for sites where nodes and notebook share a file system."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlnb.targets.batch.job_table import JobTable, Record, State
from mlnb.targets.batch.queued_job import SUSPENDED, QueuedJob, exited, killed
from mlnb.targets.batch.request import LOG, REQUEUE, JobRequest, SubmittedJob
from mlnb.targets.batch.system import COUNT_STARTS, System
from mlnb.targets.gpus.kinds import RequestSyntax

_PLANNED = frozenset({"requestcpus", "requestmemory", "requestgpus"})
"""Directives that only mlnb sets, in lower case without ``_``: HTCondor ignores case, and has spellings with ``_``."""

_FIELDS = "ClusterId,ProcId,JobStatus,HoldReason,RemoveReason,ExitCode,ExitBySignal,ExitSignal,RemoteHost,QDate,MlnbRun"


def _end(code: str, record: Record) -> QueuedJob:
    if code == "3":
        removal = str(record.get("RemoveReason") or "condor_rm")
        if "PeriodicRemove" in removal:
            rule = "was removed by its own rule: its time was over, or it was not to start again"
            return QueuedJob("ended", "time", rule, code)
        return QueuedJob("ended", "cancelled", f"was removed outside of mlnb: {removal}", code)
    if record.get("ExitBySignal"):
        return killed(record.get("ExitSignal", 0), code)
    exit_code = record.get("ExitCode")
    if not isinstance(exit_code, int):
        return QueuedJob("ended", "failed", "ended; HTCondor does not say how", code)
    return exited(exit_code, code)


class HTCondor(System):
    """HTCondor's vanilla universe. Settings: ``universe`` and more through ``directives`` as ``key = value``."""

    kind = "htcondor"
    display_name = "HTCondor"
    job_class = "htcondor:HTCondorJob"
    submit_command = "condor_submit"
    cancel_command = "condor_rm"
    accepted = r"[0-9]+ job\(s\) submitted to cluster (?P<job>[0-9]+)\."
    variables = ("CONDOR_*", "_CONDOR_*")
    own_settings = frozenset({"disk"})
    submits_script = False
    passes_variables = False  # condor_q -l shows everyone the variables of a job
    restarts = COUNT_STARTS
    gpu_syntax = RequestSyntax(counted=False)
    table = JobTable(
        system=display_name,
        command=("condor_q", "-json", "-attributes", _FIELDS),
        ended_command=("condor_history", "-json", "-limit", "200", "-attributes", _FIELDS),
        job_id="{ClusterId}.{ProcId}",
        state_field="JobStatus",  # HTCondor manual, Job ClassAd Attributes
        states={
            "1": State("pending", "resources", "Waiting for a machine that can run it"),
            "3": State("ended"),
            "4": State("ended"),
            "5": State("pending", "hold", "Held"),
            "7": State("running", reason=SUSPENDED),
        },
        other_state=State("running"),
        nodes_field="RemoteHost",
        node_pattern=r"(?:.*@)?(.*)",
        reason_field="HoldReason",
        run_field="MlnbRun",
        submitted_field="QDate",
        end=_end,
    )

    def submitted_job(self, output: str) -> SubmittedJob | None:
        """See :class:`System`. What HTCondor calls a cluster is a set of jobs; mlnb's has one job."""
        cluster = super().submitted_job(output)
        return cluster and SubmittedJob(f"{cluster.job}.0")

    def keywords(self, request: JobRequest) -> dict[str, Any]:
        """See :class:`System`."""
        time, removal = request.resources.time, []
        directives = {
            key: value for key, value in _pairs(request.default_directives) if _normalized(key) not in _PLANNED
        }
        directives |= {"getenv": "True", "Output": LOG, "Error": LOG}
        directives |= {"MY.MlnbRun": f'"{request.run}"', "batch_name": request.name}
        if request.resources.gpus:
            directives["request_gpus"] = request.resources.gpus
        if time:
            directives["+MaxRuntime"] = time
            removal.append(f"(JobStatus == 2 && time() - EnteredCurrentStatus > {time + 60})")
        if request.requeue:
            directives["on_exit_remove"] = f"ExitCode =!= {REQUEUE}"
        else:
            removal.append("(JobStatus == 1 && NumJobStarts > 0)")
        if removal:
            directives["periodic_remove"] = " || ".join(removal)
        if request.account:
            directives["accounting_group"] = request.account
        directives |= _pairs((*request.gpu_directives, *request.site_directives))
        return {
            "disk": str(self.settings.get("disk", "4 GB")),
            "job_directives_skip": ["RequestMemory"] if request.resources.memory is None else [],
            "job_extra_directives": directives,
        }

    def escape(self, line: str) -> str:
        """See :class:`System`. ``$(x)`` would be a macro."""
        return line.replace("$", "$(DOLLAR)")


def _normalized(key: str) -> str:
    return key.lower().replace("_", "")


def _pairs(lines: Iterable[str]) -> list[tuple[str, Any]]:
    """``key = value`` of each line."""
    return [(key.strip(), value.strip()) for key, _, value in (line.partition("=") for line in lines)]
