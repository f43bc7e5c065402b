"""Explains why jobs wait for limits of users and accounts: some 150 codes of SLURM like ``QOSMaxGRESPerUser``.

A code names who sets the limit, the limited resource, and to whom it applies:
https://slurm.schedmd.com/job_reason_codes.html and https://slurm.schedmd.com/resource_limits.html.
"""

from __future__ import annotations

import re

from mlnb.task import Resources

_CODE = re.compile(
    r"(?P<owner>QOS|Assoc|)(?P<sort>Grp|Max|Min)(?P<resource>[A-Za-z]+?)(?P<time>RunMinutes|Minutes|)"
    r"(?P<per>PerJob|PerNode|PerUser|PerAccount|)(?:Limit|NotSatisfied|)"
)

# resource in SLURM's codes → its name in texts, and the option that requests it
_RESOURCES = {
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

# codes of older versions, and fallbacks, which don't say what is limited
_VAGUE = {
    "AssociationJobLimit": ("As many jobs run as your account allows at once", "it starts when one of them ends"),
    "AssociationResourceLimit": ("Your account's running jobs use all that it may have at once", "it waits for them"),
    "AssociationTimeLimit": ("Your account's time limit is reached", "a shorter --time may fit"),
    "QOSJobLimit": ("As many jobs run as the QOS allows at once", "it starts when one of them ends"),
    "QOSResourceLimit": ("Running jobs use all that the QOS allows at once", "it waits for them"),
    "QOSTimeLimit": ("The QOS's time limit is reached", "a shorter --time may fit"),
    "QOSUsageThreshold": ("Your account's usage is outside of what the QOS allows", "ask the manager of the account"),
    "AccountingPolicy": (
        "A limit of your account or QOS is reached",
        "it waits for running jobs, or asks for too much",
    ),
}


def explain_limit(code: str, resources: Resources | None = None) -> tuple[str, str] | None:
    """Cause and reason of a job that waits because of a limit; ``None`` if the code names no limit.

    The cause is ``limit``, or ``impossible`` if the end of other jobs won't help.
    """
    if code in _VAGUE:
        return "limit", "; ".join(_VAGUE[code])
    match = _CODE.fullmatch(code)
    if (
        match is None
        or match["resource"].lower() not in _RESOURCES
        or not (match["owner"] or match["per"] == "PerAccount")
    ):
        return None
    name, flag = _RESOURCES[match["resource"].lower()]
    if name == "GPUs" and resources is not None and not resources.gpus:
        name, flag = "devices", ""
    source = {"QOS": "the QOS", "Assoc": "your account"}.get(match["owner"], "the QOS")
    if match["sort"] == "Min":
        return "impossible", f"Will not start: {source} wants a job to ask for more {name}{_more(flag)}"
    if match["per"] in ("PerJob", "PerNode"):
        each = "per node" if match["per"] == "PerNode" else "per job"
        amount = f"{name} × time" if match["time"] else name
        text = f"it asks for more {amount} than {source} allows {each}"
        return "impossible", f"Will not start: {text}{_less(flag, bool(match['time']))}"
    return "limit", _shared(match, name, flag, source)


def _shared(match: re.Match[str], name: str, flag: str, source: str) -> str:
    """The reason for a limit that several jobs share."""
    mine = match["per"] == "PerUser" or (match["sort"] == "Max" and not match["per"])
    owner = "Your" if mine else "Your group's"
    if match["time"] == "Minutes":
        return f"{owner} budget of {name} × time on {source} is used up; ask the manager of the account"
    if match["time"] == "RunMinutes":
        return f"{owner} running jobs hold all the {name} × time that {source} allows at once; a shorter --time may fit"
    if name == "jobs":
        queued = "running and waiting" if "submit" in match["resource"].lower() else "running"
        return f"As many of {owner.lower()} jobs are {queued} as {source} allows; it starts when one of them ends"
    text = f"{owner} running jobs use all the {name} that {source} allows at once"
    return f"{text}; it starts when enough of them end{_less(flag, False, 'may start sooner')}"


def _less(flag: str, and_time: bool, effect: str = "") -> str:
    """What to change in order to ask for less: ``try fewer --gpus``, or that this has ``effect``."""
    if not flag:
        return ""
    change = "a shorter --time" if flag == "--time" else f"{'less' if flag == '--memory' else 'fewer'} {flag}"
    change += " or a shorter --time" if and_time and flag != "--time" else ""
    return f"; {change} {effect}" if effect else f"; try {change}"


def _more(flag: str) -> str:
    return f"; try more {flag}" if flag else ""
