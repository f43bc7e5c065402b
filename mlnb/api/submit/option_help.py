"""Help on options in groups, a line for each; and which options help and completion show."""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from mlnb.api.submit.options import OPTIONS, RANKS
from mlnb.errors import UsageError
from mlnb.targets import registry
from mlnb.targets.config.options import ADVANCED, CLUSTER, COMMON, GPUS, RunOption, distinct
from mlnb.workspace import Workspace

Row = tuple[str, str]
"""How an option is written, and what it means."""


def every_option(
    general: Sequence[RunOption] = OPTIONS,
    accepts: Callable[[RunOption], bool] = lambda option: True,  # noqa: ARG005
) -> list[RunOption]:
    """The options that every run has, and those of all kinds of targets. Imports the classes of all kinds."""
    of_targets = (option for loaded in registry.kinds().values() for option in loaded.options if accepts(option))
    return distinct([*general, *dict.fromkeys(of_targets)])


def available_options(
    on: str | None,
    workspace: Workspace,
    general: Sequence[RunOption] = OPTIONS,
    accepts: Callable[[RunOption], bool] = lambda option: True,  # noqa: ARG005
) -> list[RunOption]:
    """The options to complete for target ``on``; without it, for all targets that can be chosen."""
    of_targets: list[RunOption] = []
    for name in (on,) if on else registry.names(workspace):
        with contextlib.suppress(UsageError):  # an unknown target, or one whose class can't be imported
            of_targets += filter(accepts, registry.options_of(name, workspace))
    return distinct([*general, *dict.fromkeys(of_targets)])


def grouped(options: Iterable[RunOption]) -> dict[str, list[Row]]:
    """The options as rows by heading: the common ones first, the advanced ones last."""
    owners = _owners()
    groups: dict[str, list[Row]] = defaultdict(list)
    for option in options:
        usage = " / ".join(option.flags) + (f" {option.value_name}" if option.value_name else "")
        only = owners.get(option, ())
        groups[option.group].append((usage, f"{option.help}{f' (only {only[0]})' if len(only) == 1 else ''}"))
    first, last = (COMMON, GPUS, CLUSTER), (ADVANCED,)
    order = [*first, *(group for group in groups if group not in (*first, *last)), *last]
    return {group: groups[group] for group in order if group in groups}


def _owners() -> dict[RunOption, list[str]]:
    """For each option of targets, the kinds of targets that declare it."""
    kinds: dict[RunOption, list[str]] = defaultdict(list)
    for kind, loaded in registry.kinds().items():
        for option in loaded.options:
            kinds[option].append(kind)
    return kinds


def help_text(options: Iterable[RunOption]) -> str:
    """The options, a line each, below the headings of their groups; and what a rank is."""
    groups = grouped(options)
    width = max(len(usage) for rows in groups.values() for usage, _ in rows)
    parts = [
        "\n".join([f"{group}:", *(f"  {usage:<{width}}  {meaning}" for usage, meaning in rows)])
        for group, rows in groups.items()
    ]
    return "\n\n".join([*parts, RANKS])
