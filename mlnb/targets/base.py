"""The interface of targets: what a class must implement so that runs can be submitted to it."""

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
    """The name of a run and the target's own options for it: what is requested beside the resources.

    Attributes
    ----------
    name
        the run's name.
    options
        values of the target's own options (:attr:`TargetKind.options`) by key, as in ``options["partition"]``. Options
        that are missing or ``None`` are left to the target. Values are those of JSON.
    """

    name: str = "run"
    options: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Offer:
    """A target's answer to a request for resources: what the run will get.

    Attributes
    ----------
    resources
        the complete resources: the target has filled in what was left open.
    summary_lines
        the target's choices as lines of the plan, without a full stop.
    node
        settings for the run's node programs.
    placement
        the target's other choices as JSON values, which it reads again from ``run.json``.
    """

    resources: Resources
    summary_lines: tuple[str, ...] = ()
    node: NodeSettings = field(default_factory=NodeSettings)
    placement: Mapping[str, Any] = field(default_factory=dict)


def gpus_of(requested: Resources, available: int) -> int:
    """GPUs on each node: as requested; else 1 if any are available or the request names a kind of GPU, else 0."""
    if requested.gpus is not None:
        return requested.gpus
    return 1 if available or requested.gpu_type or requested.gpu_memory or requested.gpu_capability else 0


class SubmissionUnknown(MlnbError):
    """The target did not answer a submission: the job may have been started, or not."""


SUBMITTING = "being submitted"
"""The reason of a run that has no job yet."""


@dataclass(frozen=True)
class Status:
    """The state of a job as its target reports it.

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
    """A target, to which runs can be submitted.

    Attributes
    ----------
    name
        as it is chosen with ``--on``.
    workspace
        whose runs are submitted to it.
    mirror
        copies run directories, if target and session have no file system in common; else ``None``.
    """

    name: str
    workspace: Workspace
    mirror: Mirror | None

    @property
    def options(self) -> Sequence[TargetOption]:
        """The options that it has beyond those of every target."""

    def prepare(self) -> None:
        """Do in advance what takes long in a session's first submission, as imports. Called from a thread; optional."""

    def offer(self, requested: Resources, placement: Placement = ...) -> Offer:
        """Complete a request for resources, after a check that the target can satisfy it.

        Raises
        ------
        UsageError
            if the target can never satisfy it, with the nearest that it can.
        """

    def preview(self, run: RunDir, offer: Offer) -> str:
        """What would be submitted for ``run`` beside its script, as text to read; empty if that is nothing."""

    def submit(self, run: RunDir, env: Mapping[str, str]) -> dict[str, Any]:
        """Start one self-contained job for ``run``; returns its handle, as JSON values.

        ``env`` holds the variables of ``--env``; their values must not be written to a file.

        Raises
        ------
        SubmissionUnknown
            if it isn't known whether the job was started. ``poll`` and ``cancel`` then look for it.
        MlnbError
            if it was not started.
        """

    def submit_many(self, runs: Sequence[RunDir], envs: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
        """Start a job for each of many runs, with as few requests as the target allows (an array, say).

        Targets without such a request call :func:`mlnb.targets.many.submit_one_by_one`.

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
        """The states of the jobs of these runs, in their order."""

    def cancel(self, run: RunDir) -> bool:
        """End the job of a run; returns whether the job is gone."""

    def cancel_many(self, runs: Sequence[RunDir]) -> list[bool]:
        """End many jobs, with as few requests as the target allows; for each, whether it is gone when this returns.

        Targets that have nothing better call :func:`mlnb.targets.many.cancel_at_once`; those whose ``cancel`` can't be
        called in several threads, :func:`mlnb.targets.many.cancel_one_by_one`.
        """

    def resources(self) -> Mapping[str, Any]:
        """The resources that the target has, as ``{"cpus": 8, "gpus": ["0", "1"]}``."""


class TargetKind(Protocol):
    """A kind of target: the class that implements :class:`Target`.

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
    keys = {option.key for option in target.options}
    for key, value in placement.options.items():
        if key not in keys and value is not None:
            raise UsageError(f"--{key.replace('_', '-')} {value}: target {target.name} has no such option")
