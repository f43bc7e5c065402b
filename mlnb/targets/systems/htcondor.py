"""HTCondor, where nodes and notebook share a file system."""

from __future__ import annotations

import json
from typing import Any

from mlnb.targets.systems.base import LOG, Ask, Queued, System

# JobStatus (HTCondor manual, Job ClassAd Attributes)
_IDLE, _RUNNING, _REMOVED, _COMPLETED, _HELD = 1, 2, 3, 4, 5


class HTCondor(System):
    """HTCondor's vanilla universe. Settings: ``universe`` and more through ``directives`` as ``key = value``."""

    kind = "htcondor"
    words = "HTCondor"
    job = "htcondor:HTCondorJob"
    variables = ("CONDOR_*", "_CONDOR_*")
    restarts = "${MLNB_CONDOR_STARTS:-0}"

    def keywords(self, ask: Ask) -> dict[str, Any]:
        """See :class:`System`."""
        directives: dict[str, Any] = {
            "getenv": "True",
            "Output": LOG,
            "Error": LOG,
            "MY.MlnbRun": f'"{ask.run}"',
            "batch_name": ask.name,
        }
        if ask.resources.gpus:
            directives["request_gpus"] = ask.resources.gpus
        if ask.resources.time:
            directives["+MaxRuntime"] = ask.resources.time
            directives["periodic_remove"] = (
                f"JobStatus == 2 && time() - EnteredCurrentStatus > {ask.resources.time + 60}"
            )
        if not ask.requeue:
            directives["periodic_hold"] = "NumJobStarts > 1"
        if ask.account:
            directives["accounting_group"] = ask.account
        for line in (*ask.gpus, *ask.extra):
            key, _, value = line.partition("=")
            directives[key.strip()] = value.strip()
        return {"disk": str(self.settings.get("disk", "4 GB")), "job_extra_directives": directives}

    def escaped(self, line: str) -> str:
        """See :class:`System`. ``$(x)`` would be a macro."""
        return line.replace("$", "$(DOLLAR)")

    def jobs(self) -> dict[str, Queued]:
        """See :class:`System`."""
        names = "ClusterId,ProcId,JobStatus,HoldReason,ExitCode,RemoteHost,MlnbRun"
        return parse(self.run(["condor_q", "-json", "-attributes", names]))

    def ended(self, ids: Any) -> dict[str, Queued]:
        """See :class:`System`."""
        names = "ClusterId,ProcId,JobStatus,ExitCode,RemoveReason"
        text = self.run(["condor_history", "-json", "-limit", "200", "-attributes", names, *ids])
        return parse(text)


def parse(text: str) -> dict[str, Queued]:
    """The jobs of what ``condor_q -json`` or ``condor_history -json`` printed."""
    try:
        jobs = json.loads(text or "[]")
    except ValueError:
        return {}
    found = {}
    for job in jobs if isinstance(jobs, list) else ():
        status, about = job.get("JobStatus"), {"comment": f"mlnb:{job.get('MlnbRun')}"}
        number = f"{job.get('ClusterId')}.{job.get('ProcId')}"
        about["id"] = number
        if status == _HELD:
            words = f"held: {job.get('HoldReason', 'HTCondor does not say why')}"
            seen = Queued("pending", "hold", words, "HELD", about=about)
        elif status == _COMPLETED:
            code = job.get("ExitCode")
            seen = Queued(
                "ended", "completed" if code == 0 else "failed", f"its job ended with exit code {code}", about=about
            )
        elif status == _REMOVED:
            why = job.get("RemoveReason") or "condor_rm"
            seen = Queued("ended", "cancelled", f"removed outside of mlnb: {why}", "REMOVED", about=about)
        elif status == _IDLE:
            seen = Queued("pending", "resources", "waits for a machine that can take it", "IDLE", about=about)
        else:
            host = str(job.get("RemoteHost", "")).rpartition("@")[2]
            seen = Queued("running", nodes=(host,) if host else (), about=about)
        found[number] = seen
    return found
