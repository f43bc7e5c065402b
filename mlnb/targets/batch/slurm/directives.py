"""Merges SLURM's directives of mlnb, the target and jobqueue.yaml: of equal options sbatch takes the last only.

sbatch(1) has what they mean. mlnb's own say what the plan says; a site's ``directives`` may say anything else.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple

from mlnb.errors import UsageError


class Option(NamedTuple):
    """One option by its long name; no value for a switch."""

    name: str
    value: str | None = None

    @property
    def line(self) -> str:
        """As it stands behind ``#SBATCH``."""
        if self.value is None:
            return self.name
        value = shlex.quote(self.value) if re.search(r"[\s#'\"\\]", self.value) else self.value
        return f"{self.name}{'=' if self.name.startswith('--') else ' '}{value}"


_LONG = {
    "-A": "--account",
    "-C": "--constraint",
    "-G": "--gpus",
    "-H": "--hold",
    "-J": "--job-name",
    "-L": "--licenses",
    "-M": "--clusters",
    "-N": "--nodes",
    "-c": "--cpus-per-task",
    "-e": "--error",
    "-n": "--ntasks",
    "-o": "--output",
    "-p": "--partition",
    "-q": "--qos",
    "-t": "--time",
    "-w": "--nodelist",
    "-x": "--exclude",
}

_PLANNED = {
    "--partition": "partition",
    "--account": "account",
    "--time": "time",
    "--cpus-per-task": "cpus",
    "--cpus-per-gpu": "cpus",
    "--mem": "memory",
    "--mem-per-cpu": "memory",
    "--mem-per-gpu": "memory",
    "--gpus": "gpus",
    "--gpus-per-node": "gpus",
    "--gpus-per-task": "gpus",
    "--gpus-per-socket": "gpus",
    "--requeue": "requeue",
    "--no-requeue": "requeue",
    "--nodes": "",
    "--ntasks": "",
    "--ntasks-per-node": "",
    "--comment": "",
}
"""Options that the plan decides → the target's setting for them; empty if only the run decides."""

_ELSEWHERE = frozenset({"partition", "account", "time", "cpus", "memory"})
"""Settings whose options dask-jobqueue writes, where they have a value."""

_LISTS = ("--gres", "--licenses")


def merged(
    own: Sequence[str],
    gpus: Sequence[str],
    site: Sequence[str],
    default: Sequence[str],
    elsewhere: Collection[str] = (),
) -> list[str]:
    """The lines of a submission.

    Parameters
    ----------
    own
        mlnb's; each of one option.
    gpus
        what asks for the GPUs.
    site
        the target's ``directives``: of equal options theirs hold, but constraints, resources and licences are joined.
    default
        those of ``jobqueue.yaml``; all others override them.
    elsewhere
        names of options that are elsewhere in the submission; the site may set others of the same setting.

    Raises
    ------
    UsageError
        if ``directives`` contradict the plan, or can't be parsed.
    """
    gpu_options, site_options = _options(gpus, "gpus"), _options(site, "directives")
    own_options, site_settings = (
        [*_options(own, "own"), *gpu_options],
        _ELSEWHERE - {_PLANNED.get(name) for name in elsewhere},
    )
    for option in gpu_options:
        _check(option, "gpus", {*site_settings, "gpus"})
    for option in site_options:
        _check(option, "directives", site_settings)
    names = {option.name for option in [*own_options, *site_options]} | set(elsewhere)
    settings = {_PLANNED[name] or name for name in names if name in _PLANNED}
    remaining = [
        each for option in _options(default, "job-extra-directives") for each in _remaining(option, names, settings)
    ]
    options: dict[str, Option] = {}
    for option in [*own_options, *site_options, *remaining]:
        before = options.get(option.name)
        options[option.name] = option if before is None else _joined(before, option)
    return [option.line for option in options.values()]


def _options(lines: Iterable[str], setting: str) -> list[Option]:
    options: list[Option] = []
    for line in lines:
        try:
            read = shlex.split(line, comments=True)
        except ValueError as error:
            raise UsageError(f"{setting}: {line!r} does not read: {error}") from None
        start = len(options)
        for word in read:
            if word.startswith("--"):
                name, equals, value = word.partition("=")
                options.append(Option(name, value if equals else None))
            elif word.startswith("-") and len(word) > 1:
                options.append(Option(_LONG.get(word[:2], word[:2]), word[2:] or None))
            elif len(options) > start and options[-1].value is None:
                options[-1] = options[-1]._replace(value=word)
            else:
                raise UsageError(f"{setting}: {line!r}: {word!r} is no option of sbatch, which begin with '-'")
    return options


def _check(option: Option, where: str, allowed: Collection[str | None]) -> None:
    """Refuse what would make the plan untrue."""
    setting = "gpus" if option.name == "--gres" and _gpus(option.value) else _PLANNED.get(option.name)
    if setting is None or (setting and setting in allowed):
        return
    instead = f"{setting}: of the target says it" if setting else "it is mlnb's to say; leave it out"
    raise UsageError(f"{where}: {option.line}: {instead}")


def _remaining(option: Option, names: set[str], settings: set[str]) -> list[Option]:
    """What applies to a run of a directive that was written for Dask's workers."""
    if option.name in _PLANNED:
        planned = _PLANNED[option.name]
        return [] if not planned or planned in (*settings, "gpus") else [option]
    if option.name == "--gres":
        rest = [each for each in (option.value or "").split(",") if not _gpus(each)]
        return [option._replace(value=",".join(rest))] if rest else []
    return [option] if option.name not in names or option.name in (*_LISTS, "--constraint") else []


def _gpus(gres: str | None) -> bool:
    return any(each.strip().partition(":")[0] in ("gpu", "gres/gpu") for each in (gres or "").split(","))


def _joined(before: Option, option: Option) -> Option:
    """Two options of one name: both, where SLURM can combine them, else the later one."""
    if option.name not in (*_LISTS, "--constraint") or before.value is None or option.value is None:
        return option
    if before.value == option.value:
        return option
    if option.name == "--constraint":
        return option._replace(value=f"{_closed(before.value)}&{_closed(option.value)}")
    return option._replace(value=f"{before.value},{option.value}")


def _closed(constraint: str) -> str:
    """A constraint that can stand beside another: "or" binds no tighter than "and"."""
    return f"({constraint})" if "|" in re.sub(r"\[[^]]*\]|\([^)]*\)", "", constraint) else constraint
