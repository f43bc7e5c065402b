"""Commands that have the options of runs: those that every run has, and those of targets."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import click

from mlnb.targets.config.options import RunOption

_HELP = frozenset({"-h", "--help"})


class DeclaredCommand(click.Command, abc.ABC):
    """A command with the options of runs, read as those of ``%%train`` are, with the same errors.

    Modules are imported when they are needed: ``mlnb --help`` imports no target.
    """

    usage: tuple[str, ...]
    """Lines that show how it is used."""

    note = ""
    """Text below the options in help."""

    @abc.abstractmethod
    def options(self, arguments: Sequence[str] | None) -> list[RunOption]:
        """Its options for the target that ``arguments`` name; without them, all options."""

    @abc.abstractmethod
    def read(self, arguments: list[str]) -> dict[str, Any]:
        """Read the command line; returns the keyword arguments of the callback.

        Raises
        ------
        UsageError
            for arguments that the command does not have.
        """

    def own_arguments(self, arguments: list[str]) -> list[str]:
        """The arguments of the command, without those of a script."""
        return arguments

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """See :class:`click.Command`. Completion and help call it."""
        return [*self.options(ctx.meta.get(__name__)), *super().get_params(ctx)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See :class:`click.Command`. click itself parses only for completion, which ignores errors."""
        if ctx.resilient_parsing:
            from mlnb.api import completion, runs

            ctx.meta[__name__] = list(args)
            completion.prepare(ctx, list(args), runs)
            return super().parse_args(ctx, args)
        if _HELP & set(self.own_arguments(args)):
            click.echo(self.get_help(ctx), color=ctx.color)
            ctx.exit()
        ctx.params = self.read(args)
        return []

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """See :class:`click.Command`."""
        first, *others = self.usage
        formatter.write(f"Usage: {first}\n" + "".join(f"       {line}\n" for line in others))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """See :class:`click.Command`. By groups, in the order of ``%%train?``."""
        from mlnb.api.submit.option_help import grouped
        from mlnb.api.submit.options import RANKS

        options = self.options(None)
        for group, rows in grouped(options).items():
            with formatter.section(group):
                formatter.write_dl(rows)
        notes = [RANKS] if any(option.flag == "--ranks" for option in options) else []
        for note in (*notes, *([self.note] if self.note else [])):
            formatter.write_paragraph()
            formatter.write_text(note)
