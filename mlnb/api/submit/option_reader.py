"""Reads the options of a ``%%train`` line or a command line: arguments → values, or an error of one line."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import click

from mlnb.api.submit.options import OPTIONS, Options
from mlnb.errors import UsageError
from mlnb.targets import registry
from mlnb.targets.config.options import RunOption, by_flag
from mlnb.workspace import Workspace


class OptionTable:
    """The options that one line may have: those that every run has, and those of one target.

    The target's class is imported when the line has an option that not every run has.

    Parameters
    ----------
    on
        the name of the target; ``None`` for the configured default.
    workspace
        the workspace that has the targets.
    general
        the options that every run has.
    accepts
        whether an option of a target is in the table.
    """

    def __init__(
        self,
        on: str | None,
        workspace: Workspace,
        general: Sequence[RunOption] = OPTIONS,
        accepts: Callable[[RunOption], bool] = lambda option: True,  # noqa: ARG005
    ) -> None:
        self._on, self._workspace, self._general, self._accepts = on, workspace, by_flag(general), accepts
        self._target_options: Mapping[str, RunOption] | None = None
        self._problem: UsageError | None = None

    def find(self, flag: str) -> RunOption | None:
        """The option that is written ``flag``; ``None`` if there is none, or the target is unknown."""
        if flag in self._general or not flag.startswith("-"):
            return self._general.get(flag)
        if self._target_options is None:
            try:
                self._target_options = self._accepted(registry.options_of(self._target, self._workspace))
            except UsageError as error:
                self._target_options, self._problem = {}, error
        return self._target_options.get(flag)

    def find_in_any_kind(self, flag: str) -> RunOption | None:
        """As :meth:`find`; else the option of any kind of target that has it."""
        return self.find(flag) or next((option for _, option in self._kinds_with(flag)), None)

    @property
    def _target(self) -> str:
        return self._on or registry.default_name(self._workspace)

    def _accepted(self, options: Sequence[RunOption]) -> dict[str, RunOption]:
        """Those of a target's options that are in the table, by flag.

        Raises
        ------
        UsageError
            if one of them has the key or a spelling of an option that every run has.
        """
        taken = {option.key for option in OPTIONS} | set(by_flag(OPTIONS))
        for option in options:
            for name in (option.key, *option.flags):
                if name in taken:
                    raise UsageError(f"the target's option {option.flag}: every run has {name} already; rename it")
        return by_flag(option for option in options if self._accepts(option))

    def _kinds_with(self, flag: str) -> list[tuple[str, RunOption]]:
        """The kinds of targets that have the option, each with its declaration."""
        kinds = ((kind, by_flag(filter(self._accepts, loaded.options))) for kind, loaded in registry.kinds().items())
        return [(kind, options[flag]) for kind, options in kinds if flag in options]

    def refusal(self, flag: str, value: str = "") -> UsageError:
        """The error for a flag that :meth:`find` does not find.

        Parameters
        ----------
        value
            what follows the flag on the line.
        """
        if self._problem is not None:
            return self._problem
        declared = self._kinds_with(flag)
        if not declared:
            return UsageError(f"{flag}: not an option; {self._suggestion(flag)}")
        kinds, option = [kind for kind, _ in declared], declared[0][1]
        given = flag if option.is_flag or not value or option.secret else f"{flag} {value}"
        available = registry.names(self._workspace)
        names = [name for name in available if registry.kind_name(name, self._workspace) in kinds]
        have = (
            f"Targets that have it: {', '.join(names)}"
            if names
            else f"Kinds of targets that have it: {', '.join(kinds)}"
        )
        return UsageError(f"{given}: target {self._target} has no such option. {have}.")

    def _suggestion(self, flag: str) -> str:
        flags = [*self._general, *(self._target_options or ())]
        of_kinds = (by_flag(filter(self._accepts, loaded.options)) for loaded in registry.kinds().values())
        every = dict.fromkeys([*flags, *(other for options in of_kinds for other in options)])
        near = difflib.get_close_matches(flag if flag.startswith("--") else f"--{flag}", every, 1, 0.5)
        return f"did you mean {near[0]}?" if near else "options are " + " ".join(flags)

    def read(self, arguments: Sequence[str]) -> dict[str, Any]:
        """The values given in ``arguments``, by key; those of the target's own options under ``target_options``.

        Raises
        ------
        UsageError
            for an unknown option, and for a value that is missing or not allowed.
        """
        given: dict[str, Any] = {}
        of_target: dict[str, Any] = {}
        written: dict[str, str] = {}
        rest = list(arguments)
        while rest:
            argument = rest.pop(0)
            flag, equals, text = argument.partition("=")
            option = self.find(flag)
            if option is None:
                raise self.refusal(flag, text or (rest[0] if rest else ""))
            values = given if flag in self._general else of_target
            if flag in written.values() and not option.multiple:
                raise UsageError(f"{flag} is given twice")
            if option.key in written and not option.multiple:
                raise UsageError(f"{written[option.key]} and {flag}: give one of them")
            written[option.key] = flag
            if option.is_flag:
                if equals:
                    raise UsageError(f"{argument}: {flag} takes no value")
                values[option.key] = flag in option.opts
                continue
            if not equals:
                if not rest or self.find(rest[0]) is not None:
                    raise UsageError(f"{flag} needs a value: {flag} {option.value_name} ({option.help})")
                text = rest.pop(0)
            value = _value(option, flag, text)
            values[option.key] = (*values.get(option.key, ()), value) if option.multiple else value
        return {**given, "target_options": of_target} if of_target else given


def _value(option: RunOption, flag: str, text: str) -> Any:
    try:
        return option.value(flag, text)
    except click.BadParameter as error:
        shown = text.partition("=")[0] if option.secret else text
        raise UsageError(f"{flag} {shown}: {error.message}") from None


def value_of(arguments: Sequence[str], flag: str) -> str | None:
    """The value of ``flag`` in arguments that have not been checked yet; ``None`` if it is not given."""
    for index, argument in enumerate(arguments):
        if argument.startswith(f"{flag}="):
            return argument.partition("=")[2]
        if argument == flag:
            return arguments[index + 1] if index + 1 < len(arguments) else None
    return None


def split_line(line: str, magic: str) -> list[str]:
    """Split the rest of a magic's line into arguments, as a shell does.

    Raises
    ------
    UsageError
        for a quote that isn't closed.
    """
    try:
        return shlex.split(line, comments=True)
    except ValueError as error:
        raise UsageError(f"{magic} {line.strip()}: {error}; quote values with spaces like 'this'") from None


def read(arguments: Sequence[str], workspace: Workspace, on: str | None = None) -> dict[str, Any]:
    """The values given in ``arguments``, by key; see :meth:`OptionTable.read`.

    Parameters
    ----------
    on
        the target if the arguments name none; without it, the configured default.
    """
    return OptionTable(value_of(arguments, "--on") or on, workspace).read(arguments)


def parse_arguments(arguments: Sequence[str], workspace: Workspace, defaults: Options | None = None) -> Options:
    """The options of a line; those that are not given are as in ``defaults``. Raises what :func:`read` raises."""
    defaults = defaults or Options()
    return replace(defaults, **read(arguments, workspace, defaults.on))
