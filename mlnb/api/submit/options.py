"""The options of a run: one table for the magic, the command line, help and completion.

What can't be used is refused with one line that names the option, what was given, what is allowed and the nearest.
"""

from __future__ import annotations

import difflib
import os
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mlnb.api.submit.submit import check_name
from mlnb.errors import UsageError
from mlnb.targets.base import Placement
from mlnb.task import Resources
from mlnb.units import parse_size, parse_time


def _count(text: str) -> int:
    if not re.fullmatch(r"\d+", text) or int(text) < 1:
        raise ValueError("a whole number from 1")
    return int(text)


def _number(text: str) -> int:
    if not re.fullmatch(r"\d+", text):
        raise ValueError("a whole number from 0")
    return int(text)


def _seed(text: str) -> int:
    if not re.fullmatch(r"\d+", text) or int(text) >= 2**63:
        raise ValueError("a whole number from 0 to 2^63 - 1")
    return int(text)


def _choice(*allowed: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in allowed:
            raise ValueError(_nearest(text, allowed))
        return text

    return parse


def _nearest(text: str, allowed: Sequence[str]) -> str:
    near = difflib.get_close_matches(text, allowed, 1)
    return f"{' or '.join(allowed)}" + (f"; did you mean {near[0]}?" if near else "")


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("NAME or NAME=value")
    if equals:
        return name, value
    if name not in os.environ:
        raise ValueError(f"NAME=value, since {name} is not set in this session")
    return name, os.environ[name]


@dataclass(frozen=True)
class Option:
    """One option: how it is written, what it takes, what it means.

    ``parse`` is ``None`` for a switch; ``many`` lets it be given again.
    """

    flag: str
    help: str
    parse: Callable[[str], Any] | None = None
    metavar: str = ""
    many: bool = False

    @property
    def key(self) -> str:
        """Its attribute in :class:`Options`."""
        return {"--in": "include", "--out": "outputs"}.get(self.flag, self.flag.lstrip("-").replace("-", "_"))


def _word(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}", text):
        raise ValueError("a name of letters, digits, '_', '.', '+' and '-'")
    return text


def _words(text: str) -> str:
    return ",".join(_word(word) for word in text.split(","))


def _capability(text: str) -> str:
    if not re.fullmatch(r"\d{1,2}(\.\d{1,2})?", text):
        raise ValueError("a compute capability like 8.0")
    return text


OPTIONS = (
    Option("--nodes", "machines, all at once; --gpus, --ranks and --memory are for each. Default: 1", _count, "N"),
    Option("--gpus", "GPUs on each node; a rank for each. Default: one where the target has any", _number, "N"),
    Option("--ranks", "training processes on each node. Default: one for each GPU, one without", _count, "N"),
    Option("--cpus", "cores for each rank", _count, "N"),
    Option("--memory", "memory on each node, as in 16GB; a run that takes more is ended", parse_size, "SIZE"),
    Option("--time", "how long it may run, as in 30m or 2h", parse_time, "TIME"),
    Option("--gpu-type", "GPUs of this kind, as in a100", _word, "KIND"),
    Option("--gpu-memory", "GPUs with at least this memory each, as in 24GB", parse_size, "SIZE"),
    Option("--gpu-capability", "GPUs with at least this compute capability, as in 8.0", _capability, "X.Y"),
    Option("--on", "the target that it runs on", str, "TARGET"),
    Option("--partition", "the partition (queue) of a batch system; of several, NAME,NAME, any", _words, "NAME"),
    Option("--account", "the account (project) of a batch system that pays", _word, "NAME"),
    Option("--qos", "the quality of service, on SLURM", _word, "NAME"),
    Option("--image", "the container image that it runs in", str, "IMAGE"),
    Option("--requeue", "queue it again after preemption, a node's loss or the end of its time; the default"),
    Option("--no-requeue", "do not"),
    Option("--in", "ship this name of the session (a credential too) or this file or folder", str, "NAME|PATH", True),
    Option("--out", "bring back this name; default: what the cell binds or changes", str, "NAME", True),
    Option("--name", "the run's name, as in mlnb.runs['NAME']", check_name, "NAME"),
    Option("--seed", "seed of random, numpy and torch; default: drawn from the session's torch generator", _seed, "N"),
    Option(
        "--env",
        "an environment variable for the ranks; mlnb writes its value nowhere, a batch system may",
        _variable,
        "NAME[=VALUE]",
        True,
    ),
    Option("--parallel", "what several ranks of a plain loop do: auto or none", _choice("auto", "none"), "auto|none"),
    Option("--resume", "go on from the newest checkpoint of this run (see mlnb.epochs)", str, "RUN"),
    Option("--wait", "return when the run has ended"),
    Option("--dry-run", "show the plan and the script; submit nothing, write nothing"),
)


@dataclass(frozen=True)
class Options:
    """Options as parsed; ``None`` means not given."""

    nodes: int | None = None
    gpus: int | None = None
    ranks: int | None = None
    cpus: int | None = None
    memory: int | None = None
    time: int | None = None
    gpu_type: str | None = None
    gpu_memory: int | None = None
    gpu_capability: str | None = None
    on: str | None = None
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    image: str | None = None
    requeue: bool = False
    no_requeue: bool = False
    include: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    name: str | None = None
    seed: int | None = None
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    parallel: str = "auto"
    resume: str | None = None
    wait: bool = False
    dry_run: bool = False

    def resources(self) -> Resources:
        """What is asked for, with one rank a GPU where nothing else was said; the rest is left to the target."""
        gpus = self.gpus
        ranks = self.ranks or gpus or 1  # a target chooses one GPU at most
        kind = {"gpu_type": self.gpu_type, "gpu_memory": self.gpu_memory, "gpu_capability": self.gpu_capability}
        return Resources(self.nodes or 1, ranks, gpus, self.cpus, self.memory, self.time, **kind)  # type: ignore[arg-type]

    def placement(self, name: str) -> Placement:
        """Where and how it is wanted, as a run called ``name``."""
        requeue = True if self.requeue else False if self.no_requeue else None
        return Placement(self.name or name, self.partition, self.image, requeue, self.account, self.qos)


def parse(line: str, defaults: Options | None = None) -> Options:
    """Parse the rest of a ``%%train`` line.

    Raises
    ------
    UsageError
        for anything that isn't an option or a value it takes.
    """
    return parse_words(split(line, "%%train"), defaults)


def split(line: str, magic: str) -> list[str]:
    """The words of the rest of a magic's line.

    Raises
    ------
    UsageError
        for a quote that isn't closed.
    """
    try:
        return shlex.split(line, comments=True)
    except ValueError as error:
        raise UsageError(f"{magic} {line.strip()}: {error}; quote values with spaces like 'this'") from None


def parse_words(words: Sequence[str], defaults: Options | None = None) -> Options:
    """Parse options that are split into words already; see :func:`parse`."""
    return replace(defaults or Options(), **read(words))


def read(words: Sequence[str], options: Sequence[Option] = OPTIONS) -> dict[str, Any]:
    """What is given in ``words`` of these options, by key; see :func:`parse`."""
    by_flag = {option.flag: option for option in options}
    given: dict[str, Any] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        option = by_flag.get(flag)
        if option is None:
            raise UsageError(f"{flag}: not an option; {_suggest(flag, tuple(by_flag))}")
        if option.key in given and not option.many:
            raise UsageError(f"{flag} is given twice")
        if option.parse is None:
            if equals:
                raise UsageError(f"{word}: {flag} takes no value")
            given[option.key] = True
            continue
        if not equals:
            if not rest or rest[0] in by_flag:
                raise UsageError(f"{flag} needs a value: {flag} {option.metavar} ({option.help})")
            value = rest.pop(0)
        parsed = _value(option, value)
        given[option.key] = (*given.get(option.key, ()), parsed) if option.many else parsed
    if given.get("requeue") and given.get("no_requeue"):
        raise UsageError("--requeue and --no-requeue: one of them")
    return given


def _value(option: Option, text: str) -> Any:
    try:
        return option.parse(text) if option.parse else text
    except ValueError as error:
        shown = text.partition("=")[0] if option.flag == "--env" else text  # a value may be a secret
        raise UsageError(f"{option.flag} {shown}: {option.flag} takes {error}") from None


def _suggest(flag: str, flags: Sequence[str]) -> str:
    near = difflib.get_close_matches(flag if flag.startswith("--") else f"--{flag}", flags, 1, 0.5)
    return f"did you mean {near[0]}?" if near else "options are " + " ".join(flags)


def help_text(options: Sequence[Option] = OPTIONS) -> str:
    """The options, a line each, for ``%%train?`` and ``mlnb run --help``."""
    width = max(len(f"{option.flag} {option.metavar}") for option in options)
    return "\n".join(f"  {f'{option.flag} {option.metavar}':<{width}}  {option.help}" for option in options)
