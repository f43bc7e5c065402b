"""Declares the options that every run has, and holds their values.

A wrong value is refused with one line: the option, the value, what is allowed, and the nearest.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import click

from mlnb.api.submit.submit import check_name
from mlnb.targets.base import Placement
from mlnb.targets.config.options import CLUSTER, COMMON, GPUS, NAME, Parsed, RunOption
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


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise ValueError("NAME or NAME=value")
    if equals:
        return name, value
    if name not in os.environ:
        raise ValueError(f"NAME=value, since {name} is not set in this session")
    return name, os.environ[name]


def _capability(text: str) -> str:
    if not re.fullmatch(r"\d{1,2}(\.\d{1,2})?", text):
        raise ValueError("a compute capability like 8.0")
    return text


COUNT = Parsed("N", _count)
SIZE, TIME = Parsed("SIZE", parse_size), Parsed("TIME", parse_time)
KIND = Parsed("KIND", NAME.parse)


RUNS, TARGETS = "mlnb.runs", "mlnb.targets"
"""Keys of ``click.Context.meta`` under which completion finds functions that return names of runs and of targets."""


def _completed_by(key: str) -> Callable[[click.Context, click.Parameter, str], list[str]]:
    def complete(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001
        values: Callable[[], Iterable[str]] = ctx.meta.get(key, tuple)
        return [value for value in dict.fromkeys(values()) if value.startswith(incomplete)]

    return complete


RANKS = "A rank is one training process. A run has one for each GPU, and one where it has no GPU."
"""Explains ranks in help."""

OPTIONS = (
    RunOption(
        "--on",
        group=COMMON,
        for_pools=True,
        metavar="TARGET",
        shell_complete=_completed_by(TARGETS),
        help="the target that it runs on",
    ),
    RunOption(
        "--gpus",
        group=COMMON,
        on_resume=True,
        for_pools=True,
        type=Parsed("N", _number),
        help="GPUs on each node. Default: one if the target has any",
    ),
    RunOption("--cpus", group=COMMON, on_resume=True, for_pools=True, type=COUNT, help="cores for each rank"),
    RunOption(
        "--memory",
        group=COMMON,
        on_resume=True,
        for_pools=True,
        type=SIZE,
        help="memory on each node, as in 16GB; a run that uses more is ended",
    ),
    RunOption(
        "--time",
        group=COMMON,
        on_resume=True,
        for_pools=True,
        type=TIME,
        help="how long it may run, as in 30m or 2h",
    ),
    RunOption(
        "--name",
        group=COMMON,
        for_pools=True,
        type=Parsed("NAME", check_name),
        help="the run's name, as in mlnb.runs['NAME']",
    ),
    RunOption(
        "--resume",
        group=COMMON,
        metavar="RUN",
        shell_complete=_completed_by(RUNS),
        help="continue from the newest checkpoint of this run (see mlnb.epochs)",
    ),
    RunOption("--wait", group=COMMON, is_flag=True, help="return when the run has ended"),
    RunOption(
        "--dry-run", group=COMMON, is_flag=True, help="show the plan and the script; submit nothing, write nothing"
    ),
    RunOption(
        "--gpu-type", group=GPUS, on_resume=True, for_pools=True, type=KIND, help="GPUs of this kind, as in a100"
    ),
    RunOption(
        "--gpu-memory",
        group=GPUS,
        on_resume=True,
        for_pools=True,
        type=SIZE,
        help="GPUs with at least this memory each, as in 24GB",
    ),
    RunOption(
        "--gpu-capability",
        group=GPUS,
        on_resume=True,
        for_pools=True,
        type=Parsed("X.Y", _capability),
        help="GPUs with at least this compute capability, as in 8.0",
    ),
    RunOption(
        "--nodes",
        group=CLUSTER,
        on_resume=True,
        type=COUNT,
        help="number of machines; --gpus, --ranks and --memory are per machine. Default: 1",
    ),
    RunOption("--ranks", on_resume=True, type=COUNT, help="ranks on each node. Default: one for each GPU, else one"),
    RunOption(
        "--parallel",
        type=click.Choice(["auto", "none"]),
        default="auto",
        help="what several ranks of a plain loop do: train together, or each by itself",
    ),
    RunOption(
        "--in",
        "include",
        multiple=True,
        metavar="NAME|PATH",
        help="send this name of the session (a credential too) or this file or folder",
    ),
    RunOption(
        "--out",
        "outputs",
        multiple=True,
        metavar="NAME",
        help="return this name. Default: all that the cell binds or changes",
    ),
    RunOption(
        "--env",
        multiple=True,
        secret=True,
        type=Parsed("NAME[=VALUE]", _variable),
        help="an environment variable for the ranks; mlnb does not store its value, a batch system may",
    ),
    RunOption(
        "--seed",
        type=Parsed("N", _seed),
        help="seed of random, numpy and torch. Default: one rank goes on with the session's random numbers",
    ),
)
"""The options that every run has; those of targets are :attr:`mlnb.targets.base.TargetKind.options`."""


@dataclass(frozen=True)
class Options:
    """The options of one line; ``None`` means not given.

    Attributes
    ----------
    target_options
        values of the target's own options, by key.
    """

    on: str | None = None
    gpus: int | None = None
    cpus: int | None = None
    memory: int | None = None
    time: int | None = None
    name: str | None = None
    resume: str | None = None
    wait: bool = False
    dry_run: bool = False
    gpu_type: str | None = None
    gpu_memory: int | None = None
    gpu_capability: str | None = None
    nodes: int | None = None
    ranks: int | None = None
    parallel: str = "auto"
    include: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    env: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    seed: int | None = None
    target_options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def resources(self) -> Resources:
        """The requested resources: without ``--ranks`` one rank per GPU. What is not given is left to the target."""
        return Resources(
            self.nodes or 1,
            self.ranks or self.gpus or 1,  # a target chooses one GPU at most
            self.gpus,
            self.cpus,
            self.memory,
            self.time,
            gpu_type=self.gpu_type,
            gpu_memory=self.gpu_memory,
            gpu_capability=self.gpu_capability,
        )

    def placement(self, default_name: str) -> Placement:
        """The run's name and the target's options; without ``--name`` the name is ``default_name``."""
        return Placement(self.name or default_name, self.target_options)
