"""SLURM's directives from several hands as one submission; of equal options sbatch would take the last only.

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
"""What the plan says, and mlnb with it → the target's setting for it; empty where a run alone says it."""

_ELSEWHERE = frozenset({"partition", "account", "time", "cpus", "memory"})
"""Settings whose options dask-jobqueue writes, if there is anything to say."""

_LISTS = ("--gres", "--licenses")


def merged(
    own: Sequence[str],
    gpus: Sequence[str],
    extra: Sequence[str],
    usual: Sequence[str],
    said: Collection[str] = (),
) -> list[str]:
    """The lines of a submission.

    Parameters
    ----------
    own
        mlnb's; each of one option.
    gpus
        what asks for the GPUs.
    extra
        the target's ``directives``: of equal options theirs hold, but constraints, resources and licences are joined.
    usual
        those of ``jobqueue.yaml``, of which is taken what nobody else says.
    said
        names of options that are said elsewhere in the submission; others of their kind are the site's to say.

    Raises
    ------
    UsageError
        if ``directives`` say what the plan says, or don't read.
    """
    asking, theirs = _options(gpus, "gpus"), _options(extra, "directives")
    ours, free = [*_options(own, "own"), *asking], _ELSEWHERE - {_PLANNED.get(name) for name in said}
    for option in asking:
        _check(option, "gpus", {*free, "gpus"})
    for option in theirs:
        _check(option, "directives", free)
    taken = {option.name for option in [*ours, *theirs]} | set(said)
    there = {_PLANNED[name] or name for name in taken if name in _PLANNED}
    left = [each for option in _options(usual, "job-extra-directives") for each in _free(option, taken, there)]
    found: dict[str, Option] = {}
    for option in [*ours, *theirs, *left]:
        before = found.get(option.name)
        found[option.name] = option if before is None else _joined(before, option)
    return [option.line for option in found.values()]


def _options(lines: Iterable[str], setting: str) -> list[Option]:
    found: list[Option] = []
    for line in lines:
        try:
            read = shlex.split(line, comments=True)
        except ValueError as error:
            raise UsageError(f"{setting}: {line!r} does not read: {error}") from None
        start = len(found)
        for word in read:
            if word.startswith("--"):
                name, equals, value = word.partition("=")
                found.append(Option(name, value if equals else None))
            elif word.startswith("-") and len(word) > 1:
                found.append(Option(_LONG.get(word[:2], word[:2]), word[2:] or None))
            elif len(found) > start and found[-1].value is None:
                found[-1] = found[-1]._replace(value=word)
            else:
                raise UsageError(f"{setting}: {line!r}: {word!r} is no option of sbatch, which begin with '-'")
    return found


def _check(option: Option, where: str, allowed: Collection[str | None]) -> None:
    """Refuse what would make the plan untrue."""
    setting = "gpus" if option.name == "--gres" and _gpus(option.value) else _PLANNED.get(option.name)
    if setting is None or (setting and setting in allowed):
        return
    instead = f"{setting}: of the target says it" if setting else "it is mlnb's to say; leave it out"
    raise UsageError(f"{where}: {option.line}: {instead}")


def _free(option: Option, taken: set[str], there: set[str]) -> list[Option]:
    """What is left of a directive that was written for Dask's workers."""
    if option.name in _PLANNED:
        planned = _PLANNED[option.name]
        return [] if not planned or planned in (*there, "gpus") else [option]
    if option.name == "--gres":
        rest = [each for each in (option.value or "").split(",") if not _gpus(each)]
        return [option._replace(value=",".join(rest))] if rest else []
    return [option] if option.name not in taken or option.name in (*_LISTS, "--constraint") else []


def _gpus(gres: str | None) -> bool:
    return any(each.strip().partition(":")[0] in ("gpu", "gres/gpu") for each in (gres or "").split(","))


def _joined(before: Option, option: Option) -> Option:
    """Two of one name: both hold where SLURM has a way to say so, else the later one."""
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
