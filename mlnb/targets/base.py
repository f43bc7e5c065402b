"""The target protocol: what a place to run on has to offer. A kind of target is one file that implements it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Protocol

from mlnb.errors import MlnbError, UsageError
from mlnb.rundir import RunDir
from mlnb.runinfo import NodeSettings
from mlnb.targets.config.options import TargetOption
from mlnb.targets.mirror.base import Mirror
from mlnb.task import Resources
from mlnb.workspace import Workspace


@dataclass(frozen=True)
class Placement:
    """Where and how a run is wanted, beyond the resources that it needs.

    Attributes
    ----------
    name
        the run's name.
    options
        values of the target's own options (:attr:`TargetKind.options`) by key, as in ``options["partition"]``; what
        is not there, or ``None``, is left to the target. Values are those of JSON.
    """

    name: str = "run"
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Offer:
    """What a target makes of the resources that were asked for.

    Attributes
    ----------
    resources
        complete: what was left open is filled in.
    summary_lines
        what was chosen, as a person reads it in the plan: one line each, no full stop.
    node
        what the run's node programs have to know.
    placement
        what else was chosen, as JSON values that the target reads again from ``run.json``.
    """

    resources: Resources
    summary_lines: tuple[str, ...] = ()
    node: NodeSettings = field(default_factory=NodeSettings)
    placement: Mapping[str, Any] = field(default_factory=dict)


def gpus_of(requested: Resources, there: int) -> int:
    """GPUs on each node: as requested, else one where there are any, or where somebody says what it has to be."""
    if requested.gpus is not None:
        return requested.gpus
    return 1 if there or requested.gpu_type or requested.gpu_memory or requested.gpu_capability else 0


class SubmissionUnknown(MlnbError):
    """Whether a target took a job isn't known: it was asked to, and did not answer."""


SUBMITTING = "being submitted"
"""The reason of a run that has no job yet."""


@dataclass(frozen=True)
class Status:
    """What a target knows of a job: whether it exists, and why it waits or ended.

    Attributes
    ----------
    alive
        whether the job exists; ``None`` if the target can't tell at the moment.
    state, reason
        those of the run, as far as the target knows: see ``mlnb.rundir.STATES``.
    """

    alive: bool | None
    state: str = "pending"
    reason: str = ""


class Target(Protocol):
    """Where runs go.

    Attributes
    ----------
    name
        as it is chosen with ``--on``.
    workspace
        whose runs go there.
    mirror
        brings here what runs write, where the target has no file system with the session in common; else ``None``.
    """

    name: str
    workspace: Workspace
    mirror: Mirror | None

    @property
    def options(self) -> Sequence[TargetOption]:
        """The options that it has beyond those of every target."""

    def prepare(self) -> None:
        """Have ready what a session's first run takes longest for; called from a thread, and nothing relies on it."""

    def offer(self, requested: Resources, placement: Placement = ...) -> Offer:
        """Fill in what was left open and check what was asked for.

        Raises
        ------
        UsageError
            if the target can never satisfy it, with the nearest that it can.
        """

    def preview(self, run: RunDir, offer: Offer) -> str:
        """What would be submitted for ``run``, as text to read; empty where there is nothing beside the script."""

    def submit(self, run: RunDir, env: Mapping[str, str]) -> dict[str, Any]:
        """Start one self-contained job for ``run``; its handle, as JSON values.

        ``env`` holds the variables that the person asked for; their values are not to be written down.

        Raises
        ------
        SubmissionUnknown
            if it may have been started all the same. ``poll`` and ``cancel`` then look for it.
        MlnbError
            if it was not started.
        """

    def submit_many(self, runs: Sequence[RunDir], envs: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
        """Start a job for each of many runs, with as few requests as the target allows (an array, say).

        Targets that have nothing better call :func:`mlnb.targets.many.submit_one_by_one`.

        Returns
        -------
        list of dict
            the handles, in the order of ``runs``.

        Raises
        ------
        SubmissionUnknown
            if any may have been started without an answer.
        MlnbError
            if one was not started; then none runs.
        """

    def poll(self, runs: Sequence[RunDir]) -> list[Status]:
        """What is known of many runs' jobs, at once."""

    def cancel(self, run: RunDir) -> bool:
        """End the job; whether it is gone when this returns."""

    def resources(self) -> Mapping[str, Any]:
        """What the target offers now."""


class TargetKind(Protocol):
    """A kind of target: the class that :class:`Target` is implemented by.

    Attributes
    ----------
    kind
        as ``kind:`` of a target's configuration gives it, and the name of its entry point in ``mlnb.targets``.
    options
        the options of ``%%train`` and ``mlnb run`` that targets of this kind have, beyond those of every target.
    settings
        the names that a target of this kind may have in the configuration, beside ``kind``.
    """

    @property
    def kind(self) -> str:
        """See the class."""

    @property
    def options(self) -> Sequence[TargetOption]:
        """See the class."""

    @property
    def settings(self) -> frozenset[str]:
        """See the class."""

    def __call__(self, name: str, settings: Mapping[str, Any], workspace: Workspace, /) -> Target:
        """The target called ``name`` for runs of ``workspace``; its settings are among :attr:`settings`."""


def check_options(target: Target, placement: Placement) -> None:
    """Refuse a placement with options that ``target`` does not have, which it would ignore.

    Raises
    ------
    UsageError
        naming one of them.
    """
    has = {option.key for option in target.options}
    for key, value in placement.options.items():
        if key not in has and value is not None:
            raise UsageError(f"--{key.replace('_', '-')} {value}: target {target.name} has no such option")
