"""Reading the options of a ``%%train`` line or a command line: words → values, or one line that says what is wrong."""

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
        whose targets there are.
    general
        the options that every run has.
    accepts
        which of the options of targets are in the table.
    """

    def __init__(
        self,
        on: str | None,
        workspace: Workspace,
        general: Sequence[RunOption] = OPTIONS,
        accepts: Callable[[RunOption], bool] = lambda option: True,  # noqa: ARG005
    ) -> None:
        self._on, self._workspace, self._general, self._accepts = on, workspace, by_flag(general), accepts
        self._own: Mapping[str, RunOption] | None = None
        self._problem: UsageError | None = None

    def find(self, flag: str) -> RunOption | None:
        """The option that is written ``flag``; ``None`` if there is none, or the target is unknown."""
        if flag in self._general or not flag.startswith("-"):
            return self._general.get(flag)
        if self._own is None:
            try:
                self._own = self._accepted(registry.options_of(self._target, self._workspace))
            except UsageError as error:
                self._own, self._problem = {}, error
        return self._own.get(flag)

    def find_anywhere(self, flag: str) -> RunOption | None:
        """As :meth:`find`, else an option of any kind of target."""
        return self.find(flag) or next((found for _, found in self._elsewhere(flag)), None)

    @property
    def _target(self) -> str:
        return self._on or registry.default_name(self._workspace)

    def _accepted(self, options: Sequence[RunOption]) -> dict[str, RunOption]:
        """Those of a target's options that are in the table, by flag.

        Raises
        ------
        UsageError
            if one of them is written or called like one that every run has.
        """
        taken = {option.key for option in OPTIONS} | set(by_flag(OPTIONS))
        for option in options:
            for name in (option.key, *option.flags):
                if name in taken:
                    raise UsageError(f"the target's option {option.flag}: every run has {name} already; rename it")
        return by_flag(option for option in options if self._accepts(option))

    def _elsewhere(self, flag: str) -> list[tuple[str, RunOption]]:
        """The kinds of targets that have the option, and what it is there."""
        kinds = ((kind, by_flag(filter(self._accepts, loaded.options))) for kind, loaded in registry.kinds().items())
        return [(kind, own[flag]) for kind, own in kinds if flag in own]

    def refusal(self, flag: str, value: str = "") -> UsageError:
        """The error for a flag that :meth:`find` does not find.

        Parameters
        ----------
        value
            what follows it on the line.
        """
        if self._problem is not None:
            return self._problem
        elsewhere = self._elsewhere(flag)
        if not elsewhere:
            return UsageError(f"{flag}: not an option; {self._suggestion(flag)}")
        kinds, option = [kind for kind, _ in elsewhere], elsewhere[0][1]
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
        flags = [*self._general, *(self._own or ())]
        elsewhere = (by_flag(filter(self._accepts, loaded.options)) for loaded in registry.kinds().values())
        every = dict.fromkeys([*flags, *(other for own in elsewhere for other in own)])
        near = difflib.get_close_matches(flag if flag.startswith("--") else f"--{flag}", every, 1, 0.5)
        return f"did you mean {near[0]}?" if near else "options are " + " ".join(flags)

    def read(self, words: Sequence[str]) -> dict[str, Any]:
        """The values given in ``words``, by key; those of the target's own options under ``target_options``.

        Raises
        ------
        UsageError
            for anything that isn't an option or a value it takes.
        """
        given: dict[str, Any] = {}
        own: dict[str, Any] = {}
        written: dict[str, str] = {}
        rest = list(words)
        while rest:
            word = rest.pop(0)
            flag, equals, text = word.partition("=")
            option = self.find(flag)
            if option is None:
                raise self.refusal(flag, text or (rest[0] if rest else ""))
            values = given if flag in self._general else own
            if flag in written.values() and not option.multiple:
                raise UsageError(f"{flag} is given twice")
            if option.key in written and not option.multiple:
                raise UsageError(f"{written[option.key]} and {flag}: give one of them")
            written[option.key] = flag
            if option.is_flag:
                if equals:
                    raise UsageError(f"{word}: {flag} takes no value")
                values[option.key] = flag in option.opts
                continue
            if not equals:
                if not rest or self.find(rest[0]) is not None:
                    raise UsageError(f"{flag} needs a value: {flag} {option.value_name} ({option.help})")
                text = rest.pop(0)
            value = _value(option, flag, text)
            values[option.key] = (*values.get(option.key, ()), value) if option.multiple else value
        return {**given, "target_options": own} if own else given


def _value(option: RunOption, flag: str, text: str) -> Any:
    try:
        return option.value(flag, text)
    except click.BadParameter as error:
        shown = text.partition("=")[0] if option.secret else text
        raise UsageError(f"{flag} {shown}: {error.message}") from None


def value_of(words: Sequence[str], flag: str) -> str | None:
    """The value of ``flag`` in words that have not been read yet; ``None`` if it is not there."""
    for index, word in enumerate(words):
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
        if word == flag:
            return words[index + 1] if index + 1 < len(words) else None
    return None


def split(line: str, magic: str) -> list[str]:
    """The words of the rest of a magic's line.

    Raises
    ------
    UsageError
        for a quote that isn't closed.
    """
    try:
        return shlex.split(line, comments=True)
    except ValueError as error:
        raise UsageError(f"{magic} {line.strip()}: {error}; quote values with spaces like 'this'") from None


def read(words: Sequence[str], workspace: Workspace, on: str | None = None) -> dict[str, Any]:
    """The values given in ``words``, by key; see :meth:`OptionTable.read`.

    Parameters
    ----------
    on
        the target where the words name none; the configured default without.
    """
    return OptionTable(value_of(words, "--on") or on, workspace).read(words)


def parse_words(words: Sequence[str], workspace: Workspace, defaults: Options | None = None) -> Options:
    """The options of a line that is split into words; ``defaults`` hold for those not given. Raises as :func:`read`."""
    defaults = defaults or Options()
    return replace(defaults, **read(words, workspace, defaults.on))
