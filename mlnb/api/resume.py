"""``--resume RUN``: a run that has ended goes on from its newest checkpoint.

What the line says holds; what it leaves open is asked for as it was before. So a run can go on with more time or
memory, in another partition, on another target, and with other ranks.
"""

from __future__ import annotations

import ast
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from mlnb.api import Run, Runs
from mlnb.api.submit.option_reader import value_of
from mlnb.api.submit.options import OPTIONS, Options
from mlnb.api.submit.submit import resume
from mlnb.errors import UsageError
from mlnb.targets import registry
from mlnb.targets.base import Offer, Target
from mlnb.task import Task
from mlnb.units import state_phrase

_RESOURCES = tuple(option.key for option in OPTIONS if option.on_resume)
"""Keys of the options that every run has and that ``--resume`` asks for again."""

_SHAPE = ("nodes", "gpus", "ranks")


def asked(options: Options, place: Target) -> dict[str, Any]:
    """What of ``options`` is asked for again when the run is resumed, by key; goes into ``run.json``."""
    resources = {key: getattr(options, key) for key in _RESOURCES}
    own = {option.key: options.target_options.get(option.key) for option in place.options if option.on_resume}
    return {key: value for key, value in {**resources, **own}.items() if value is not None}


def target_name(words: Sequence[str], runs: Runs) -> str | None:
    """The target of the run that ``--resume`` names in ``words``, which have not been read yet; ``None`` without."""
    name = value_of(words, "--resume")
    if name is None:
        return None
    with contextlib.suppress(UsageError):  # earlier() refuses it
        return runs[name].target
    return None


def earlier(name: str | None, runs: Runs) -> Run | None:
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
    """The options of a line: as given, else as ``run`` had them, which it resumes, else the session's defaults.

    Raises
    ------
    UsageError
        if the target that they name is unknown.
    """
    if run is None:
        return replace(defaults, **given)
    on = given.get("on") or run.target
    before = _before(run, on)
    resources = {key: before.get(key) for key in _RESOURCES}
    if "gpus" in given and "ranks" not in given:
        resources["ranks"] = None  # a rank for each GPU, unless the line says otherwise
    own = {
        option.key: tuple(before[option.key]) if option.multiple else before[option.key]
        for option in registry.options_of(on, run.workspace)
        if option.on_resume and option.key in before and (on == run.target or option.portable)
    }
    own |= given.get("target_options", {})
    return replace(defaults, **{**resources, "on": on, **given, "target_options": own})


def _before(run: Run, on: str) -> dict[str, Any]:
    """What ``run`` asked for, as it is asked for again on target ``on``."""
    written: Mapping[str, Any] | None = run.info.asked
    if written is None:  # not submitted by a line: what it was given, which on another target would have been other
        had = asdict(run.task.resources)
        written = {key: had[key] for key in (had if on == run.target else _SHAPE) if had[key] is not None}
        placement = run.info.placement
        written |= {key: placement[key] for key in ("partition", "image") if placement.get(key)}
        written |= {"requeue": False} if _is_never_requeued(run) else {}
    before = {key: value for key, value in written.items() if key != "no_requeue"}
    return {**before, "requeue": False} if written.get("no_requeue") else before  # as older runs have it


def _is_never_requeued(run: Run) -> bool:
    """Whether ``run`` is never queued again, where its target could do that."""
    with contextlib.suppress(UsageError):  # nobody knows the target any more
        options = registry.options_of(run.target, run.workspace)
        return not run.info.node.requeue and any(option.key == "requeue" for option in options)
    return False


def _left_out(run: Run, options: Options) -> list[str]:
    """Options that ``run`` had of its target and now does not have, since it goes on on another one."""
    before = _before(run, options.on or run.target)
    lost = {key: value for key, value in before.items() if key not in (*_RESOURCES, *options.target_options)}
    flags = {key: key.replace("_", "-") for key in lost}
    switches = {True: "--{}", False: "--no-{}"}
    return [
        switches[value].format(flags[key]) if isinstance(value, bool) else f"--{flags[key]} {value}"
        for key, value in lost.items()
    ]


def same_work(old: Task, new: Task, digests: Mapping[str, str]) -> bool:
    """Whether a task is the same but for its resources, seed and environment: then the same run goes on."""

    def work(task: Task, files: Mapping[str, str]) -> tuple[str, tuple[str, ...], Mapping[str, str]]:
        return ast.dump(ast.parse(task.script)), task.argv, files  # comments hold the cell's number

    return work(old, {file.path: file.digest for file in old.files}) == work(new, digests)


def note(run: Run, options: Options, offer: Offer) -> Offer:
    """The offer, with the words about what a run that ``run`` goes on as can't have as before."""
    before, now = run.task.resources.world_size, offer.resources.world_size
    words = f"goes on from {run.checkpoints()[-1].stem} of {run.name}"
    if now != before:
        ranks = f"{now} rank{'s' * (now > 1)}"
        words += f", with {ranks} where it had {before}: at the same sample, but not bit for bit as it would have"
    if lost := _left_out(run, options):
        words += f", without {', '.join(lost)}: it was for target {run.target}"
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
    resume(run.directory, place, env, offer, {"name": options.name or run.name, "asked": asked(options, place)})
    run.cancelled_here = False
    return run
