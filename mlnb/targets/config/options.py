"""Declares options of runs: click options, with what targets, help, pools and ``--resume`` need to know of each.

Parsing in ``%%train`` and ``mlnb run``, help, completion, what ``--resume`` repeats, and the refusal by targets
without the option all follow from its declaration (see docs/contributing/add-a-target.md).
"""

from __future__ import annotations

import copy
import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem

from mlnb.errors import MlnbError

TARGET = "mlnb.target"
"""Key of ``click.Context.meta`` under which completion finds a function that returns the chosen target."""

COMMON, GPUS, CLUSTER, ADVANCED = "Common", "GPUs", "Cluster", "Advanced"
"""Headings of the groups in help, in their order; a target's own group comes between the last two."""


if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType  # generic since click 8.4 only


class Parsed(_ParamType):
    """A type of values that a function parses.

    Parameters
    ----------
    metavar
        how help names the value.
    parse
        text → value. Raises ``ValueError`` that says what is allowed, as in ``a whole number from 1``.
    """

    def __init__(self, metavar: str, parse: Callable[[str], Any]) -> None:
        self.name, self.parse = metavar, parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """See :class:`click.ParamType`."""
        if not isinstance(value, str):
            return value
        try:
            return self.parse(value)
        except ValueError as error:
            flag = f"{param.opts[0]} takes " if param is not None else ""
            self.fail(f"{flag}{error}", param, ctx)


def _name(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,63}", text):
        raise ValueError("a name of letters, digits, '_', '.', '+' and '-'")
    return text


NAME = Parsed("NAME", _name)
"""A name that needs no quoting, in a shell or in a directive."""

NAMES = Parsed("NAME", lambda text: ",".join(map(_name, text.split(","))))
"""Such a name, or several with commas between them."""


class RunOption(click.Option):
    """An option of ``%%train`` and ``mlnb run``.

    Parameters
    ----------
    flags
        as for :class:`click.Option`: ``--name``, ``--on/--off`` for a switch that can be off; a word without dashes
        is the key of its value.
    group
        its heading in help.
    on_resume
        whether ``--resume`` repeats its value where the line does not give it: true for options that say what a run
        needs, as time and GPUs, not for those that say what it does.
    for_pools
        whether ``mlnb pool start`` has it, too: true for options of the job.
    secret
        whether its value may be a secret: errors repeat only what is before ``=``.
    """

    def __init__(
        self,
        *flags: str,
        group: str = ADVANCED,
        on_resume: bool = False,
        for_pools: bool = False,
        secret: bool = False,
        **attributes: Any,
    ) -> None:
        attributes.setdefault("default", None)
        super().__init__(flags, **attributes)
        self.group, self.on_resume, self.for_pools, self.secret = group, on_resume, for_pools, secret

    @property
    def key(self) -> str:
        """The key of its value."""
        return str(self.name)

    @property
    def flag(self) -> str:
        """How it is written."""
        return self.opts[0]

    @property
    def flags(self) -> tuple[str, ...]:
        """All spellings, those that switch it off last."""
        return (*self.opts, *self.secondary_opts)

    @property
    def value_name(self) -> str:
        """How help names its value; empty for a switch."""
        if self.is_flag:
            return ""
        if self.metavar is None and isinstance(self.type, click.Choice):
            return "|".join(map(str, self.type.choices))
        return self.metavar or self.type.name.upper()

    def with_help(self, text: str) -> RunOption:
        """The same option with another line of help."""
        other = copy.copy(self)
        other.help = text
        return other

    def written(self, value: Any) -> str:
        """The option with ``value``, as it is written on a line: ``--time 2h``."""
        if self.is_flag:
            return self.flag if value or not self.secondary_opts else self.secondary_opts[0]
        return " ".join(f"{self.flag} {item}" for item in (value if self.multiple else (value,)))

    def value(self, flag: str, text: str) -> Any:
        """The value of ``text``, given after ``flag``.

        Raises
        ------
        click.BadParameter
            that says what is allowed, and the nearest of several choices.
        """
        if isinstance(self.type, click.Choice) and text not in self.type.choices:
            allowed = [str(choice) for choice in self.type.choices]
            near = difflib.get_close_matches(text, allowed, 1)
            hint = f"; did you mean {near[0]}?" if near else ""
            raise click.BadParameter(f"{flag} takes {' or '.join(allowed)}{hint}", param=self)
        return self.type.convert(text, self, None)


class TargetOption(RunOption):
    """An option that some kinds of targets have: they declare it in ``options``, and find its value in a Placement.

    Parameters
    ----------
    portable
        whether its value means something on another target that has the option, too. If not, ``--resume --on OTHER``
        drops it.
    values
        target → values to complete. Called when the user presses Tab, so it must be fast.
    """

    def __init__(
        self,
        *flags: str,
        group: str = CLUSTER,
        on_resume: bool = True,
        portable: bool = False,
        values: Callable[[Any], Iterable[str]] | None = None,
        **attributes: Any,
    ) -> None:
        super().__init__(*flags, group=group, on_resume=on_resume, **attributes)
        self.portable, self._values = portable, values

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """The values that begin with ``incomplete``; of a list ``NAME,NAME``, those of its last name."""
        target = ctx.meta.get(TARGET)
        if self._values is None or target is None:
            return super().shell_complete(ctx, incomplete)
        try:
            values = list(self._values(target()))
        except MlnbError:  # the target is unknown or doesn't answer: nothing to offer
            return []
        before, comma, last = incomplete.rpartition(",")
        return [CompletionItem(f"{before}{comma}{value}") for value in values if value.startswith(last)]


# options that several kinds of targets have, declared once

REQUEUE = TargetOption(
    "--requeue/--no-requeue",
    portable=True,
    for_pools=True,
    help="queue it again after preemption, a node's loss or the end of its time (the default), or never",
)

IMAGE = TargetOption("--image", type=Parsed("IMAGE", str), portable=True, help="container image that it runs in")


def by_flag(options: Iterable[RunOption]) -> dict[str, RunOption]:
    """The options by each of their spellings; the first counts if two have the same."""
    by_spelling: dict[str, RunOption] = {}
    for option in options:
        for flag in option.flags:
            by_spelling.setdefault(flag, option)
    return by_spelling


def distinct(options: Sequence[RunOption]) -> list[RunOption]:
    """The options without those whose spelling an earlier one has."""
    first = by_flag(options)
    return list(dict.fromkeys(option for option in options if all(first[flag] is option for flag in option.flags)))
