"""SLURM's limits of users and accounts as reasons to wait: what about 150 codes like ``QOSMaxGRESPerUser`` say.

They are put together from whose limit it is, of what, and for whom:
https://slurm.schedmd.com/job_reason_codes.html and https://slurm.schedmd.com/resource_limits.html.
"""

from __future__ import annotations

import re

from mlnb.task import Resources

_CODE = re.compile(
    r"(?P<whose>QOS|Assoc|)(?P<sort>Grp|Max|Min)(?P<what>[A-Za-z]+?)(?P<time>RunMinutes|Minutes|)"
    r"(?P<per>PerJob|PerNode|PerUser|PerAccount|)(?:Limit|NotSatisfied|)"
)

# what the codes name → what people call it, and the option that asks for it
_WHAT = {
    "cpu": ("cores", "--cpus"),
    "gres": ("GPUs", "--gpus"),
    "mem": ("memory", "--memory"),
    "memory": ("memory", "--memory"),
    "node": ("nodes", "--nodes"),
    "job": ("jobs", ""),
    "jobs": ("jobs", ""),
    "submitjob": ("jobs", ""),
    "submitjobs": ("jobs", ""),
    "wall": ("time", "--time"),
    "wallduration": ("time", "--time"),
    "billing": ("billing units", ""),
    "energy": ("energy", ""),
    "license": ("licences", ""),
    "bb": ("burst buffer", ""),
    "unknown": ("resources", ""),
}

# those of older versions, and the fallbacks, which don't say of what
_VAGUE = {
    "AssociationJobLimit": ("as many jobs run as your account allows at once", "it starts when one of them ends"),
    "AssociationResourceLimit": ("your account's running jobs use all that it may have at once", "it waits for them"),
    "AssociationTimeLimit": ("your account's time limit is reached", "a shorter --time may fit"),
    "QOSJobLimit": ("as many jobs run as the QOS allows at once", "it starts when one of them ends"),
    "QOSResourceLimit": ("running jobs use all that the QOS allows at once", "it waits for them"),
    "QOSTimeLimit": ("the QOS's time limit is reached", "a shorter --time may fit"),
    "QOSUsageThreshold": ("your account's usage is outside of what the QOS wants", "ask whoever manages the account"),
    "AccountingPolicy": (
        "a limit of your account or QOS is reached",
        "it waits for running jobs, or asks for too much",
    ),
}


def limit(code: str, resources: Resources | None = None) -> tuple[str, str] | None:
    """Cause (``limit``, or ``impossible`` if no end of other jobs will help) and words; ``None`` if it is no limit."""
    if code in _VAGUE:
        return "limit", "; ".join(_VAGUE[code])
    match = _CODE.fullmatch(code)
    if match is None or match["what"].lower() not in _WHAT or not (match["whose"] or match["per"] == "PerAccount"):
        return None
    what, flag = _WHAT[match["what"].lower()]
    if what == "GPUs" and resources is not None and not resources.gpus:
        what, flag = "devices", ""
    source = {"QOS": "the QOS", "Assoc": "your account"}.get(match["whose"], "the QOS")
    if match["sort"] == "Min":
        return "impossible", f"will not start as it is: {source} wants a job to ask for more {what}{_more(flag)}"
    if match["per"] in ("PerJob", "PerNode"):
        each = "a node" if match["per"] == "PerNode" else "a job"
        amount = f"{what} × time" if match["time"] else what
        words = f"asks for more {amount} than {source} allows {each}"
        return "impossible", f"will not start as it is: {words}{_less(flag, bool(match['time']))}"
    return "limit", _shared(match, what, flag, source)


def _shared(match: re.Match[str], what: str, flag: str, source: str) -> str:
    """The words of a limit that several jobs share."""
    mine = match["per"] == "PerUser" or (match["sort"] == "Max" and not match["per"])
    whose = "your" if mine else "your group's"
    if match["time"] == "Minutes":
        return f"{whose} budget of {what} × time on {source} is used up; ask whoever manages the account"
    if match["time"] == "RunMinutes":
        return f"{whose} running jobs hold all the {what} × time that {source} allows at once; a shorter --time may fit"
    if what == "jobs":
        queued = "running and waiting" if "submit" in match["what"].lower() else "running"
        return f"as many of {whose} jobs are {queued} as {source} allows; it starts when one of them ends"
    words = f"{whose} running jobs use all the {what} that {source} allows at once"
    return f"{words}; it starts when enough of them end{_less(flag, False, 'may start sooner')}"


def _less(flag: str, and_time: bool, does: str = "would fit") -> str:
    """What to change so that less is asked for."""
    if not flag:
        return ""
    if flag == "--time":
        return f"; a shorter --time {does}"
    adjective = "less" if flag == "--memory" else "fewer"
    return f"; {adjective} {flag}{' or a shorter --time' if and_time else ''} {does}"


def _more(flag: str) -> str:
    return f"; more {flag} would fit" if flag else ""
