"""What a session asks of every ``sbatch`` through its environment: ``SBATCH_PARTITION`` and the like.

``sbatch`` gets none of them. There they would win over the job's directives (sbatch(1), INPUT ENVIRONMENT VARIABLES),
and so over what the person and the plan said. What a run can have is asked for as if the target said it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlnb.targets.batch.request import SessionDefaults, directive_word
from mlnb.targets.batch.slurm.text import limit

_OWN = frozenset({"SBATCH_CLUSTERS", "SBATCH_DEBUG"})
"""Those that are heard elsewhere, or say nothing of the job."""


def session_defaults(environment: Mapping[str, str], directives: Sequence[str]) -> SessionDefaults:
    """What ``environment`` wants of a job, where the target's ``directives`` don't say it.

    Raises
    ------
    UsageError
        for a word that can't stand in a directive.
    """
    heard = set(_OWN)

    def word(variable: str, flag: str, short: str) -> str | None:
        heard.add(variable)
        given = environment.get(variable)
        return directive_word(given, variable) if given and option(directives, flag, short) is None else None

    partition = word("SBATCH_PARTITION", "--partition", "-p")
    account = word("SBATCH_ACCOUNT", "--account", "-A")
    qos = word("SBATCH_QOS", "--qos", "-q")
    time = word("SBATCH_TIMELIMIT", "--time", "-t")
    others = {flag: word(f"SBATCH_{flag[2:].upper()}", flag, "") for flag in ("--reservation", "--wckey")}
    unheard = sorted(name for name in environment if name.startswith("SBATCH_") and name not in heard)
    words = [f"{', '.join(unheard)} of the session {'is' if len(unheard) == 1 else 'are'} not heard"] if unheard else []
    made = tuple(f"{flag}={given}" for flag, given in others.items() if given)
    return SessionDefaults(partition, account, qos, limit(time or ""), made, tuple(words))


def option(directives: Sequence[str], flag: str, short: str = "") -> str | None:
    """What directives say behind a flag; ``None`` if nothing."""
    words = [word for line in directives for word in line.split()]
    for word, following in zip(words, [*words[1:], ""], strict=False):
        if word in (flag, short):
            return following
        if word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}=")
        if short and word.startswith(short) and not word.startswith("--"):
            return word.removeprefix(short)
    return None
