"""Merges the SLURM directives of mlnb, the target and jobqueue.yaml, since sbatch uses only the last of equal options.

sbatch(1) documents the options. mlnb writes those that the plan shows; a site's ``directives`` may set all others.
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
        """The text after ``#SBATCH``."""
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
    "-a": "--array",
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
    "--array": "",
}
"""Options that the plan decides → the target's setting for them; empty if only the run decides."""

_JOBQUEUE_SETTINGS = frozenset({"partition", "account", "time", "cpus", "memory"})
"""Settings whose options dask-jobqueue writes, where they have a value."""

_LISTS = ("--gres", "--licenses")


def merge(
    ours: Sequence[str],
    gpus: Sequence[str],
    site: Sequence[str],
    default: Sequence[str],
    rendered: Collection[str] = (),
) -> list[str]:
    """The directives of one job, each without ``#SBATCH``.

    Parameters
    ----------
    ours
        those of mlnb, one option each.
    gpus
        those that request the GPUs.
    site
        the target's ``directives``: they override equal options, but constraints, resources and licences are combined.
    default
        those of ``jobqueue.yaml``; all others override them.
    rendered
        names of options that dask-jobqueue writes; the site may set others of the same setting.

    Raises
    ------
    UsageError
        if ``directives`` contradict the plan, or can't be parsed.
    """
    gpu_options, site_options = _options(gpus, "gpus"), _options(site, "directives")
    our_options = [*_options(ours, "mlnb"), *gpu_options]
    site_settings = _JOBQUEUE_SETTINGS - {_PLANNED.get(name) for name in rendered}
    for option in gpu_options:
        _check(option, "gpus", {*site_settings, "gpus"})
    for option in site_options:
        _check(option, "directives", site_settings)
    names = {option.name for option in [*our_options, *site_options]} | set(rendered)
    settings = {_PLANNED[name] or name for name in names if name in _PLANNED}
    remaining = [
        each for option in _options(default, "job-extra-directives") for each in _remaining(option, names, settings)
    ]
    options: dict[str, Option] = {}
    for option in [*our_options, *site_options, *remaining]:
        before = options.get(option.name)
        options[option.name] = option if before is None else _combined(before, option)
    return [option.line for option in options.values()]


def option_value(lines: Iterable[str], name: str) -> str | None:
    """The value of the option with this long name; ``None`` if the directives lack it, empty if it has no value.

    Raises
    ------
    UsageError
        if the directives can't be parsed.
    """
    return next((option.value or "" for option in _options(lines, "directives") if option.name == name), None)


def _options(lines: Iterable[str], setting: str) -> list[Option]:
    options: list[Option] = []
    for line in lines:
        try:
            parts = shlex.split(line, comments=True)
        except ValueError as error:
            raise UsageError(f"{setting}: {line!r} can't be parsed: {error}") from None
        start = len(options)
        for part in parts:
            if part.startswith("--"):
                name, equals, value = part.partition("=")
                options.append(Option(name, value if equals else None))
            elif part.startswith("-") and len(part) > 1:
                options.append(Option(_LONG.get(part[:2], part[:2]), part[2:] or None))
            elif len(options) > start and options[-1].value is None:
                options[-1] = options[-1]._replace(value=part)
            else:
                raise UsageError(f"{setting}: {line!r}: {part!r} is not an option of sbatch: options begin with '-'")
    return options


def _check(option: Option, where: str, allowed: Collection[str | None]) -> None:
    """Refuse an option that would contradict the plan."""
    setting = "gpus" if option.name == "--gres" and _gpus(option.value) else _PLANNED.get(option.name)
    if setting is None or (setting and setting in allowed):
        return
    instead = f"use the target's setting {setting}:" if setting else "only mlnb sets it; leave it out"
    raise UsageError(f"{where}: {option.line}: {instead}")


def _remaining(option: Option, names: set[str], settings: set[str]) -> list[Option]:
    """The part of a directive, written for Dask's workers, that applies to a run."""
    if option.name in _PLANNED:
        planned = _PLANNED[option.name]
        return [] if not planned or planned in (*settings, "gpus") else [option]
    if option.name == "--gres":
        rest = [each for each in (option.value or "").split(",") if not _gpus(each)]
        return [option._replace(value=",".join(rest))] if rest else []
    return [option] if option.name not in names or option.name in (*_LISTS, "--constraint") else []


def _gpus(gres: str | None) -> bool:
    return any(each.strip().partition(":")[0] in ("gpu", "gres/gpu") for each in (gres or "").split(","))


def _combined(before: Option, option: Option) -> Option:
    """Two options of one name: combined if SLURM can do so, else the later one."""
    if option.name not in (*_LISTS, "--constraint") or before.value is None or option.value is None:
        return option
    if before.value == option.value:
        return option
    if option.name == "--constraint":
        return option._replace(value=f"{_parenthesized(before.value)}&{_parenthesized(option.value)}")
    return option._replace(value=f"{before.value},{option.value}")


def _parenthesized(constraint: str) -> str:
    """A constraint that can be combined with another by ``&``: one with ``|`` needs parentheses."""
    return f"({constraint})" if "|" in re.sub(r"\[[^]]*\]|\([^)]*\)", "", constraint) else constraint
