"""HTCondor, where nodes and notebook share a file system."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from mlnb.targets.batch.commands import read_json, records
from mlnb.targets.batch.system import COUNTED, LOG, REQUEUE, JobRequest, QueuedJob, Submitted, System
from mlnb.targets.gpus.kinds import RequestSyntax

# JobStatus (HTCondor manual, Job ClassAd Attributes)
_IDLE, _REMOVED, _COMPLETED, _HELD, _SUSPENDED = 1, 3, 4, 5, 7


class HTCondor(System):
    """HTCondor's vanilla universe. Settings: ``universe`` and more through ``directives`` as ``key = value``."""

    kind = "htcondor"
    own_settings = frozenset({"disk"})
    display_name = "HTCondor"
    job = "htcondor:HTCondorJob"
    submit_command = "condor_submit"
    cancel_command = "condor_rm"
    accepted = r"[0-9]+ job\(s\) submitted to cluster (?P<job>[0-9]+)\."
    variables = ("CONDOR_*", "_CONDOR_*")
    script = False  # but a description of the job, in one line of which the command stands
    passes_variables = False  # condor_q -l shows everyone what a job was given
    gpus = RequestSyntax(counted=False)  # but request_gpus
    restarts = COUNTED

    def submitted(self, said: str) -> Submitted | None:
        """See :class:`System`. A cluster of HTCondor's is a set of jobs, ours of one."""
        found = super().submitted(said)
        return found and Submitted(f"{found.job}.0")

    def keywords(self, request: JobRequest) -> dict[str, Any]:
        """See :class:`System`."""
        ends: list[str] = []
        usual = {key: value for key, value in _pairs(request.usual).items() if _bare(key) not in _PLANNED}
        directives = usual | {
            "getenv": "True",
            "Output": LOG,
            "Error": LOG,
            "MY.MlnbRun": f'"{request.run}"',
            "batch_name": request.name,
        }
        if request.resources.gpus:
            directives["request_gpus"] = request.resources.gpus
        if request.resources.time:
            directives["+MaxRuntime"] = request.resources.time
            ends.append(f"(JobStatus == 2 && time() - EnteredCurrentStatus > {request.resources.time + 60})")
        if request.requeue:
            directives["on_exit_remove"] = f"ExitCode =!= {REQUEUE}"
        else:
            ends.append("(JobStatus == 1 && NumJobStarts > 0)")
        if ends:
            directives["periodic_remove"] = " || ".join(ends)
        if request.account:
            directives["accounting_group"] = request.account
        directives |= _pairs((*request.gpus, *request.extra))
        return {
            "disk": str(self.settings.get("disk", "4 GB")),
            "job_directives_skip": ["RequestMemory"] if request.resources.memory is None else [],
            "job_extra_directives": directives,
        }

    def escaped(self, line: str) -> str:
        """See :class:`System`. ``$(x)`` would be a macro."""
        return line.replace("$", "$(DOLLAR)")

    def jobs(self) -> dict[str, QueuedJob]:
        """See :class:`System`."""
        names = "ClusterId,ProcId,JobStatus,HoldReason,ExitCode,ExitBySignal,ExitSignal,RemoteHost,QDate,MlnbRun"
        return parse(self.run(["condor_q", "-json", "-attributes", names]))

    def ended(self, ids: Any) -> dict[str, QueuedJob]:
        """See :class:`System`."""
        names = "ClusterId,ProcId,JobStatus,ExitCode,ExitBySignal,ExitSignal,RemoveReason"
        text = self.run(["condor_history", "-json", "-limit", "200", "-attributes", names, *ids])
        return parse(text)


_PLANNED = frozenset({"requestcpus", "requestmemory", "requestgpus"})
"""What the plan says; HTCondor has two ways to write each, and does not tell capitals."""


def _bare(key: str) -> str:
    return key.lower().replace("_", "")


def _pairs(lines: Iterable[str]) -> dict[str, Any]:
    """``key = value`` of each line."""
    return {key.strip(): value.strip() for key, _, value in (line.partition("=") for line in lines)}


def parse(text: str) -> dict[str, QueuedJob]:
    """The jobs of what ``condor_q -json`` or ``condor_history -json`` printed: a list, or nothing."""
    found = {}
    for job in records(read_json(text, "HTCondor")):
        status, about = job.get("JobStatus"), {"comment": f"mlnb:{job.get('MlnbRun')}", "submitted": job.get("QDate")}
        if status == _HELD:
            words = f"is held: {job.get('HoldReason', 'HTCondor does not say why')}"
            seen = QueuedJob("pending", "hold", words, "HELD", about=about)
        elif status == _COMPLETED:
            seen = replace(_ended(job), about=about)
        elif status == _REMOVED:
            seen = replace(_removed(str(job.get("RemoveReason") or "condor_rm")), about=about)
        elif status == _IDLE:
            seen = QueuedJob("pending", "resources", "waits for a machine that can take it", "IDLE", about=about)
        else:
            host = str(job.get("RemoteHost", "")).rpartition("@")[2]
            words = "is suspended" if status == _SUSPENDED else ""
            seen = QueuedJob("running", words=words, nodes=(host,) if host else (), about=about)
        found[f"{job.get('ClusterId')}.{job.get('ProcId')}"] = seen
    return found


def _ended(job: Mapping[str, Any]) -> QueuedJob:
    if job.get("ExitBySignal"):
        return QueuedJob("ended", "failed", f"its job was ended by signal {job.get('ExitSignal')}", "COMPLETED")
    code = job.get("ExitCode")
    return QueuedJob(
        "ended", "completed" if code == 0 else "failed", f"its job ended with exit code {code}", "COMPLETED"
    )


def _removed(why: str) -> QueuedJob:
    if "PeriodicRemove" in why:
        return QueuedJob(
            "ended", "time", "was removed by its own rule: its time was over, or it was not to start again"
        )
    return QueuedJob("ended", "cancelled", f"was removed outside of mlnb: {why}", "REMOVED")
