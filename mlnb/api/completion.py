"""Completion of options and their values, in notebooks and shells. The values come from the options' declarations."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import click

from mlnb.api import Runs, resume
from mlnb.api.submit.option_help import options_here
from mlnb.api.submit.option_reader import value_of
from mlnb.api.submit.options import OPTIONS, RUNS, TARGETS
from mlnb.targets import registry
from mlnb.targets.config.options import TARGET, RunOption, by_flag


def chosen(words: Sequence[str], runs: Runs) -> str | None:
    """The target that the words of an unfinished line name: by ``--on``, or by the run of ``--resume``."""
    return value_of(words, "--on") or resume.target_name(words, runs)


def prepare(context: click.Context, words: Sequence[str], runs: Runs) -> None:
    """Have the options' ``shell_complete`` find runs, targets, and the target that ``words`` name."""
    context.meta[RUNS] = runs.index.names
    context.meta[TARGETS] = lambda: registry.names(runs.workspace)
    context.meta[TARGET] = lambda: registry.target(chosen(words, runs), runs.workspace)


def candidates(
    words: Sequence[str],
    last: str,
    runs: Runs,
    general: Sequence[RunOption] = OPTIONS,
    accepts: Callable[[RunOption], bool] = lambda option: True,  # noqa: ARG005
) -> list[str]:
    """What could stand in the place of ``last``, the word before the cursor, which may be empty.

    Parameters
    ----------
    words
        the words before it.
    runs
        whose names, and whose workspace's targets, are offered.
    """
    flags = by_flag(options_here(chosen(words, runs), runs.workspace, general, accepts))
    flag, equals, begun = last.partition("=")
    if equals and flag in flags:
        return [f"{flag}={value}" for value in _values(flags[flag], words, begun, runs)]
    option = flags.get(words[-1]) if words else None
    if option is not None and not option.is_flag:
        return _values(option, words, last, runs)
    given = {id(flags[word]) for word in (word.partition("=")[0] for word in words) if word in flags}
    return [
        flag for flag, option in flags.items() if flag.startswith(last) and (option.multiple or id(option) not in given)
    ]


def _values(option: RunOption, words: Sequence[str], begun: str, runs: Runs) -> list[str]:
    context = click.Context(click.Command("line"))
    prepare(context, words, runs)
    return [str(item.value) for item in option.shell_complete(context, begun)]
