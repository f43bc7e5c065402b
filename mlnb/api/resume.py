"""``--resume RUN``: a run that has ended goes on from its newest checkpoint.

What the line says holds; what it leaves open is asked for as it was before. So a run can go on with more time or
memory, in another partition, on another target, and with other ranks.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from mlnb.api import Run, runs
from mlnb.api.submit.options import Options
from mlnb.api.submit.submit import resume
from mlnb.errors import UsageError
from mlnb.targets.base import Offer, Target
from mlnb.task import Task
from mlnb.units import state_phrase

_ASKED = (
    *("nodes", "gpus", "ranks", "cpus", "memory", "time", "gpu_type", "gpu_memory", "gpu_capability"),
    *("partition", "account", "qos", "image", "requeue", "no_requeue"),
)
"""Options that say what a run needs and where; the others say what it does."""

_THERE = ("partition", "account", "qos")
"""Those that mean something on one target only."""

_SHAPE = ("nodes", "gpus", "ranks")


def asked(options: Options) -> dict[str, Any]:
    """What of ``options`` is asked for again when the run is resumed; goes into ``run.json``."""
    return {key: value for key in _ASKED if (value := getattr(options, key)) not in (None, False)}


def earlier(name: str | None) -> Run | None:
    """The run that ``--resume`` names, if it can be gone on with.

    Raises
    ------
    UsageError
        if there is none, it hasn't ended, or it has left no checkpoint.
    """
    if name is None:
        return None
    try:
        run = runs[name]
    except UsageError as error:
        raise UsageError(f"--resume {name}: {error}") from None
    if not run.done:
        raise UsageError(f"--resume {name}: that run {state_phrase(run.state)}; wait for it or cancel it first")
    if not run.checkpoints():
        raise UsageError(f"--resume {name}: that run has no checkpoint; mlnb.epochs(...) makes them")
    return run


def completed(run: Run | None, given: Mapping[str, Any], defaults: Options) -> Options:
    """The options of a line: as given, else as ``run`` had them, which it resumes, else the session's defaults."""
    if run is None:
        return replace(defaults, **given)
    elsewhere = given.get("on") not in (None, run.target)
    before = run.about.get("asked")
    if before is None:  # what it was given, then, which on another target would have been other
        had = asdict(run.task.resources)
        before = {key: had[key] for key in (_SHAPE if elsewhere else had) if had[key] is not None}
        before |= {key: run.about[key] for key in ("partition", "image") if run.about.get(key)}
        before |= {"no_requeue": True} if run.about.get("requeue") is False else {}
    known = {key: before[key] for key in _ASKED if key in before and not (elsewhere and key in _THERE)}
    if given.get("requeue") or given.get("no_requeue"):
        known = {key: value for key, value in known.items() if key not in ("requeue", "no_requeue")}
    if "gpus" in given and "ranks" not in given:
        known.pop("ranks", None)  # a rank for each GPU, unless the line says otherwise
    blank = {key: getattr(Options(), key) for key in _ASKED}
    return replace(defaults, **{**blank, "on": run.target, **known, **given})


def same_work(old: Task, new: Task, digests: Mapping[str, str]) -> bool:
    """Whether a task is the same but for its resources, seed and environment: then the same run goes on."""

    def work(task: Task, files: Mapping[str, str]) -> tuple[str, tuple[str, ...], Mapping[str, str]]:
        return ast.dump(ast.parse(task.script)), task.argv, files  # comments hold the cell's number

    return work(old, {file.path: file.digest for file in old.files}) == work(new, digests)


def note(run: Run, offer: Offer) -> Offer:
    """The offer, with the words about what a run that ``run`` goes on as can't have as before."""
    before, now = run.task.resources.world_size, offer.resources.world_size
    words = f"goes on from {run.checkpoints()[-1].stem} of {run.name}"
    if now != before:
        ranks = f"{now} rank{'s' * (now > 1)}"
        words += f", with {ranks} where it had {before}: at the same sample, but not bit for bit as it would have"
    return replace(offer, summary_lines=(*offer.summary_lines, words))


def go_on(run: Run, given: Mapping[str, Any], options: Options, place: Target, offer: Offer) -> Run:
    """Start the next attempt of ``run``, with what ``options`` ask for.

    Parameters
    ----------
    given
        what of them the line itself says.

    Raises
    ------
    UsageError
        for what can't be other than it was, or is not known any more.
    MlnbError
        if the target refuses it; then the run is as it was.
    """
    line = f"--resume {run.name}"
    if options.seed is not None and "seed" in given and options.seed != run.task.seed:
        raise UsageError(f"--seed {options.seed}: {line} has its random numbers from the checkpoint; leave --seed out")
    if "parallel" in given and options.parallel != run.task.parallel:
        raise UsageError(f"--parallel {options.parallel}: {line} was begun with {run.task.parallel}; leave it out")
    env = dict(options.env)
    for name in run.task.environment.get("env") or ():
        if name not in env:
            raise UsageError(f"{line}: it had --env {name}, whose value mlnb wrote nowhere; say --env {name} again")
    resume(run.directory, place, env, offer, {"name": options.name or run.name, "asked": asked(options)})
    run.cancelled_here = False
    return run
