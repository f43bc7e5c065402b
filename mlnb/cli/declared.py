"""Commands whose options are declared elsewhere: those that every run has, and those of the targets."""

from __future__ import annotations

import abc
from collections.abc import Sequence
from typing import Any

import click

from mlnb.targets.config.options import RunOption

_HELP = frozenset({"-h", "--help"})


class DeclaredCommand(click.Command, abc.ABC):
    """A command with the options of runs. It reads them by the rules of ``%%train``, so that errors are the same.

    What it needs is imported when it is used: ``mlnb --help`` imports no target.
    """

    usage: tuple[str, ...]
    """Lines that show how it is used."""

    note = ""
    """What stands below the options in help."""

    @abc.abstractmethod
    def options(self, words: Sequence[str] | None) -> list[RunOption]:
        """Its options: for what ``words`` name, or all that there are."""

    @abc.abstractmethod
    def read(self, words: list[str]) -> dict[str, Any]:
        """The arguments of the callback.

        Raises
        ------
        UsageError
            for words that it does not take.
        """

    def own_words(self, words: list[str]) -> list[str]:
        """The words that are the command's own, not those of a script."""
        return words

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        """See :class:`click.Command`. Completion and help ask for them."""
        return [*self.options(ctx.meta.get(__name__)), *super().get_params(ctx)]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """See :class:`click.Command`. click itself parses only for completion, where what is wrong is no matter."""
        if ctx.resilient_parsing:
            from mlnb.api import completion, runs

            ctx.meta[__name__] = list(args)
            completion.prepare(ctx, list(args), runs)
            return super().parse_args(ctx, args)
        if _HELP & set(self.own_words(args)):
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
