"""What a session's environment asks of every ``sbatch``: ``SBATCH_PARTITION`` and the like.

mlnb does not pass them to ``sbatch``, where they would override the job's directives (sbatch(1), INPUT ENVIRONMENT
VARIABLES), and so the person's options and the plan. They count as defaults of the target instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlnb.targets.batch.request import SessionDefaults, directive_word
from mlnb.targets.batch.slurm.text import limit

_NOT_OF_THE_JOB = frozenset({"SBATCH_CLUSTERS", "SBATCH_DEBUG"})
"""Variables that are read elsewhere, or ask nothing of the job."""


def session_defaults(environment: Mapping[str, str], directives: Sequence[str]) -> SessionDefaults:
    """What ``environment`` asks of a job, but for what the target's ``directives`` set.

    Raises
    ------
    UsageError
        for a value that can't stand in a directive without quotes.
    """
    read = set(_NOT_OF_THE_JOB)

    def value_of(variable: str, flag: str, short: str) -> str | None:
        read.add(variable)
        given = environment.get(variable)
        return directive_word(given, variable) if given and option(directives, flag, short) is None else None

    partition = value_of("SBATCH_PARTITION", "--partition", "-p")
    account = value_of("SBATCH_ACCOUNT", "--account", "-A")
    qos = value_of("SBATCH_QOS", "--qos", "-q")
    time = value_of("SBATCH_TIMELIMIT", "--time", "-t")
    others = {flag: value_of(f"SBATCH_{flag[2:].upper()}", flag, "") for flag in ("--reservation", "--wckey")}
    unread = sorted(name for name in environment if name.startswith("SBATCH_") and name not in read)
    ignored = [f"{', '.join(unread)} of the session {'is' if len(unread) == 1 else 'are'} ignored"] if unread else []
    more = tuple(f"{flag}={given}" for flag, given in others.items() if given)
    return SessionDefaults(partition, account, qos, limit(time or ""), more, tuple(ignored))


def option(directives: Sequence[str], flag: str, short: str = "") -> str | None:
    """The value of an option in directives; ``None`` if they don't have it."""
    words = [word for line in directives for word in line.split()]
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word in (flag, short):
            return following
        if word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}=")
        if short and word.startswith(short) and not word.startswith("--"):
            return word.removeprefix(short)
    return None
