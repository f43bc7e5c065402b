"""Completes options and their values, in notebooks and shells. The values come from the options' declarations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from mlnb.api import Runs, resume
from mlnb.api.submit.option_help import available_options
from mlnb.api.submit.option_reader import value_of
from mlnb.api.submit.options import OPTIONS, RUNS, TARGETS
from mlnb.targets import registry
from mlnb.targets.config.options import TARGET, RunOption, by_flag


def named_target(arguments: Sequence[str], runs: Runs) -> str | None:
    """The target that the arguments of an unfinished line name, by ``--on`` or by the run of ``--resume``."""
    return value_of(arguments, "--on") or resume.target_name(arguments, runs)


def prepare(context: click.Context, arguments: Sequence[str], runs: Runs) -> None:
    """Give the options' ``shell_complete`` access to runs, targets, and the target that ``arguments`` name."""
    context.meta[RUNS] = runs.index.names
    context.meta[TARGETS] = lambda: registry.names(runs.workspace)
    context.meta[TARGET] = lambda: registry.target(named_target(arguments, runs), runs.workspace)


def candidates(
    arguments: Sequence[str],
    last: str,
    runs: Runs,
    general: Sequence[RunOption] = OPTIONS,
    accepts: Callable[[RunOption], bool] = lambda option: True,  # noqa: ARG005
) -> list[str]:
    """The completions of ``last``, the argument before the cursor, which may be empty.

    Parameters
    ----------
    arguments
        the arguments before that.
    runs
        the runs whose names are offered; their workspace has the targets that are offered.
    """
    flags = by_flag(available_options(named_target(arguments, runs), runs.workspace, general, accepts))
    flag, equals, begun = last.partition("=")
    if equals and flag in flags:
        return [f"{flag}={value}" for value in _values(flags[flag], arguments, begun, runs)]
    option = flags.get(arguments[-1]) if arguments else None
    if option is not None and not option.is_flag:
        return _values(option, arguments, last, runs)
    written = {argument.partition("=")[0] for argument in arguments}
    given = {id(flags[flag]) for flag in written if flag in flags}
    return [
        flag for flag, option in flags.items() if flag.startswith(last) and (option.multiple or id(option) not in given)
    ]


def _values(option: RunOption, arguments: Sequence[str], begun: str, runs: Runs) -> list[str]:
    context = click.Context(click.Command("line"))
    prepare(context, arguments, runs)
    return [str(item.value) for item in option.shell_complete(context, begun)]
