"""Runs of the local target in a container image: which images they can use, and how they are started."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from mlnb.rundir import RunDir, read_json
from mlnb.targets import warm
from mlnb.targets.containers import Contained, for_target
from mlnb.targets.containers.images import absolute
from mlnb.targets.environment import matching_variables, run_environment
from mlnb.task import Task
from mlnb.workspace import Workspace


def container_for(image: str | None, settings: Mapping[str, Any], workspace: Workspace) -> Contained | None:
    """The image for a run, with its container engine; ``None`` without an image.

    Parameters
    ----------
    image
        of ``--image``, or else that of the target's settings.

    Raises
    ------
    UsageError
        if this machine has no such image, or no engine for it.
    """
    named = image or settings.get("image")
    if not named:
        return None
    container = for_target(absolute(str(named)), settings, workspace)
    container.check_kind("local")
    container.check_here()
    return container


def summary_lines(container: Contained, *, warm_start: bool) -> list[str]:
    """What the plan says about the image. Raises ``UsageError`` if it has no torch."""
    lines = [f"in the image {container.image} ({container.engine.name})", *container.differences()]
    return [*lines, "no warm start: the run imports torch in the image"] if warm_start else lines


def command_for(run: RunDir, container: Contained, attempt: int, env: Mapping[str, str]) -> list[str]:
    """The command that waits for the run's turn on this machine, and then starts its node program in the image."""
    resources = Task.from_json(read_json(run.task) or {}).resources
    wrapped = container.wrap(["-m", "mlnb.node", str(run.path), "--attempt", str(attempt)], run, resources, env)
    command = wrapped.command
    if wrapped.before:
        command = ["/bin/sh", "-c", "\n".join([*wrapped.before, 'exec "$@"']), "mlnb", *command]
    after = ["--after", "\n".join(wrapped.after)] if wrapped.after else []
    start = [sys.executable, "-m", "mlnb.node.container_start", str(run.path), "--attempt", str(attempt)]
    return [*start, *after, "--", *command]


def environment_for(container: Contained, env: Mapping[str, str]) -> dict[str, str]:
    """The environment of that command: variables that programs and the engine need, and ``env``, those of ``--env``."""
    return {**matching_variables(container.engine.variables), **run_environment(env, container.workspace)}


def start(run: RunDir, container: Contained, attempt: int, env: Mapping[str, str]) -> int:
    """Start a run in its image, detached; returns the pid, which becomes that of the container engine."""
    return warm.start_detached(command_for(run, container, attempt, env), environment_for(container, env), run, attempt)
