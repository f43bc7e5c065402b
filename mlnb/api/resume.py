"""``--resume RUN``: continues a run that has ended from its newest checkpoint.

Options of the line override those of the run; all others keep the run's values. So a run can continue with more time or
memory, in another partition, on another target, or with another number of ranks.
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
from mlnb.rundir import PROCESS_STATE
from mlnb.targets import registry
from mlnb.targets.base import Offer, Target
from mlnb.task import Task
from mlnb.units import state_phrase

_RESOURCES = tuple(option.key for option in OPTIONS if option.on_resume)
"""Keys of the options of all runs whose values ``--resume`` repeats."""

_SHAPE = ("nodes", "gpus", "ranks")


def requested_options(options: Options, target: Target) -> dict[str, Any]:
    """The values that ``--resume`` will repeat, by key of the option; written to ``run.json``."""
    resources = {key: getattr(options, key) for key in _RESOURCES}
    of_target = {option.key: options.target_options.get(option.key) for option in target.options if option.on_resume}
    return {key: value for key, value in {**resources, **of_target}.items() if value is not None}


def target_name(arguments: Sequence[str], runs: Runs) -> str | None:
    """The target of the run that ``--resume`` names in ``arguments``, not read yet; ``None`` without ``--resume``."""
    name = value_of(arguments, "--resume")
    if name is None:
        return None
    with contextlib.suppress(UsageError):  # run_to_resume() refuses it
        return runs[name].target
    return None


def run_to_resume(name: str | None, runs: Runs) -> Run | None:
    """The run called ``name``; ``None`` without a name.

    Raises
    ------
    UsageError
        if there is no such run, it hasn't ended, or it has no checkpoint.
    """
    if name is None:
        return None
    try:
        run = runs[name]
    except UsageError as error:
        raise UsageError(f"--resume {name}: {error}") from None
    attempts = run.attempts  # counted first: another process may resume it from now on
    if not run.done:
        raise UsageError(f"--resume {name}: that run {state_phrase(run.state)}; wait for it or cancel it first")
    if not run.checkpoints():
        raise UsageError(f"--resume {name}: that run has no checkpoint; mlnb.epochs(...) makes them")
    run.ended_attempts = attempts
    return run


def complete_options(run: Run | None, given: Mapping[str, Any], defaults: Options) -> Options:
    """The options of a line: the values given on it, else those of ``run``, which it resumes, else the defaults.

    Raises
    ------
    UsageError
        if the target that they name is unknown.
    """
    if run is None:
        return replace(defaults, **given)
    on = given.get("on") or run.target
    before = _previous_options(run, on)
    resources = {key: before.get(key) for key in _RESOURCES}
    if "gpus" in given and "ranks" not in given:
        resources["ranks"] = None  # a rank for each GPU, unless the line says otherwise
    target_options = {
        option.key: tuple(before[option.key]) if option.multiple else before[option.key]
        for option in registry.options_of(on, run.workspace)
        if option.on_resume and option.key in before and (on == run.target or option.portable)
    }
    target_options |= given.get("target_options", {})
    return replace(defaults, **{**resources, "on": on, **given, "target_options": target_options})


def _previous_options(run: Run, on: str) -> dict[str, Any]:
    """The values that ``run`` had of options that ``--resume`` repeats, for target ``on``."""
    written: Mapping[str, Any] | None = run.info.asked
    if written is None:  # not submitted by a line: what its target chose, which is of no use on another target
        had = asdict(run.task.resources)
        written = {key: had[key] for key in (had if on == run.target else _SHAPE) if had[key] is not None}
        placement = run.info.placement
        written |= {key: placement[key] for key in ("partition", "image") if placement.get(key)}
        written |= {"requeue": False} if _is_never_requeued(run) else {}
    before = {key: value for key, value in written.items() if key != "no_requeue"}
    return {**before, "requeue": False} if written.get("no_requeue") else before  # the key in older runs


def _is_never_requeued(run: Run) -> bool:
    """Whether ``run`` must not be queued again, though its target could do that."""
    with contextlib.suppress(UsageError):  # the target is no longer configured
        options = registry.options_of(run.target, run.workspace)
        return not run.info.node.requeue and any(option.key == "requeue" for option in options)
    return False


def _dropped_options(run: Run, options: Options) -> list[str]:
    """Options of the run's target that the run loses since it continues on another target."""
    before = _previous_options(run, options.on or run.target)
    dropped = {key: value for key, value in before.items() if key not in (*_RESOURCES, *options.target_options)}
    flags = {key: key.replace("_", "-") for key in dropped}
    switches = {True: "--{}", False: "--no-{}"}
    return [
        switches[value].format(flags[key]) if isinstance(value, bool) else f"--{flags[key]} {value}"
        for key, value in dropped.items()
    ]


def same_work(old: Task, new: Task, digests: Mapping[str, str]) -> bool:
    """Whether two tasks differ only in resources, random numbers and environment: then the same run continues."""

    def work(task: Task, digests: Mapping[str, str]) -> tuple[str, tuple[str, ...], Mapping[str, str]]:
        files = {path: digest for path, digest in digests.items() if path != f"inputs/{PROCESS_STATE}"}
        return ast.dump(ast.parse(task.script)), task.argv, files  # parsed, since comments have the cell's number

    return work(old, {file.path: file.digest for file in old.files}) == work(new, digests)


def add_plan_line(run: Run, options: Options, offer: Offer) -> Offer:
    """The offer with one more line for the plan: the checkpoint from which ``run`` continues, and what changes."""
    before, now = run.task.resources.world_size, offer.resources.world_size
    line = f"continues from {run.checkpoints()[-1].stem} of {run.name}"
    if now != before:
        ranks = f"{now} rank{'s' * (now > 1)}"
        line += f", with {ranks} instead of {before}: at the same sample, but the results are not bit for bit the same"
    if dropped := _dropped_options(run, options):
        line += f", without {', '.join(dropped)}, as that was for target {run.target}"
    return replace(offer, summary_lines=(*offer.summary_lines, line))


def continue_run(run: Run, given: Mapping[str, Any], options: Options, target: Target, offer: Offer) -> Run:
    """Start the next attempt of ``run`` with the resources of ``offer``.

    Parameters
    ----------
    given
        the values that the line gives, by key; ``options`` has those of the run, too.

    Raises
    ------
    UsageError
        for an option that can't change, for a variable of ``--env`` whose value is missing, or if another process has
        resumed the run meanwhile.
    MlnbError
        if the target refuses the job; then the run is unchanged.
    """
    line = f"--resume {run.name}"
    if options.seed is not None and "seed" in given and options.seed != run.task.seed:
        raise UsageError(f"--seed {options.seed}: {line} takes random states from the checkpoint; leave --seed out")
    if "parallel" in given and options.parallel != run.task.parallel:
        raise UsageError(f"--parallel {options.parallel}: {line} was started with {run.task.parallel}; leave it out")
    env = dict(options.env)
    for name in run.task.environment.get("env") or ():
        if name not in env:
            raise UsageError(f"{line}: the run had --env {name}; give it again, since mlnb does not store its value")
    info_fields = {"name": options.name or run.name, "asked": requested_options(options, target)}
    resume(run.directory, target, env, offer, info_fields, run.ended_attempts)
    run.cancelled_here = False
    return run
