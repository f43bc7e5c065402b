"""Reads defaults for jobs from the session's environment: ``SBATCH_PARTITION`` and similar variables.

mlnb does not pass these variables to ``sbatch``, where they would override the job's directives, and so the options of
the cell (sbatch(1), INPUT ENVIRONMENT VARIABLES). They become defaults of the target instead.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mlnb.targets.batch.request import SessionDefaults, directive_word
from mlnb.targets.batch.systems.slurm.directives import option_value
from mlnb.targets.batch.systems.slurm.text import parse_time_limit

_NOT_REPORTED = frozenset({"SBATCH_CLUSTERS", "SBATCH_DEBUG"})
"""Variables that are not reported as ignored: other code reads them, or they do not affect the job."""


def session_defaults(environment: Mapping[str, str], directives: Sequence[str]) -> SessionDefaults:
    """The defaults that ``environment`` sets for a job, without those that the target's ``directives`` override.

    Raises
    ------
    UsageError
        for a value that would need quotes in a directive.
    """
    read = set(_NOT_REPORTED)

    def value_of(variable: str, flag: str) -> str | None:
        read.add(variable)
        given = environment.get(variable)
        return directive_word(given, variable) if given and option_value(directives, flag) is None else None

    partition = value_of("SBATCH_PARTITION", "--partition")
    account = value_of("SBATCH_ACCOUNT", "--account")
    qos = value_of("SBATCH_QOS", "--qos")
    time = value_of("SBATCH_TIMELIMIT", "--time")
    site_options = {flag: value_of(f"SBATCH_{flag[2:].upper()}", flag) for flag in ("--reservation", "--wckey")}
    unread = sorted(name for name in environment if name.startswith("SBATCH_") and name not in read)
    ignored = [f"{', '.join(unread)} of the session {'is' if len(unread) == 1 else 'are'} ignored"] if unread else []
    more = tuple(f"{flag}={given}" for flag, given in site_options.items() if given)
    return SessionDefaults(partition, account, qos, parse_time_limit(time or ""), more, tuple(ignored))
