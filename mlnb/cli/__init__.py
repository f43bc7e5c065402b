"""The command line: ``mlnb run | runs | show | logs | cancel | rm | pool | doctor``.

Every command has ``--json``. Exit codes: 0 done, 1 failed, 2 usage error.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from mlnb.cli.declared import DeclaredCommand
from mlnb.cli.output import as_json, echo_json
from mlnb.cli.pool import pool
from mlnb.errors import MlnbError, UsageError
from mlnb.targets.config.options import RunOption
from mlnb.version import __version__

USAGE_ERROR = 2


class _Group(click.Group):
    """A group of commands that print an error as one line."""

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command that the line names; if none is like it, the error lists all."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if "Did you mean" in error.format_message():  # click does so since 8.4
                raise
            raise click.UsageError(f"{error.message} Commands: {', '.join(self.list_commands(ctx))}.", ctx) from None

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run a command and exit, with its exit code or after its error as one line."""
        kwargs["standalone_mode"] = False
        try:
            code = super().main(*args, **kwargs)
            sys.exit(code if isinstance(code, int) else 0)
        except click.exceptions.Abort:
            click.echo("mlnb: interrupted", err=True)
            sys.exit(130)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            sys.exit(USAGE_ERROR)
        except click.ClickException as error:
            click.echo(f"mlnb: {error.format_message()}", err=True)
            sys.exit(USAGE_ERROR)
        except UsageError as error:
            click.echo(f"mlnb: {error}", err=True)
            sys.exit(USAGE_ERROR)
        except MlnbError as error:
            click.echo(f"mlnb: {error}", err=True)
            sys.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="mlnb")
def main() -> None:
    """Run training jobs, follow them, stop them."""


class _Run(DeclaredCommand):
    """``mlnb run``."""

    usage = (
        "mlnb run [options] script.py [args]",
        "mlnb run [options] -m package.module [args]",
        "mlnb run --resume RUN [options]",
    )
    note = (
        "Arguments after the script's name are the script's. After `--`, they may look like options of mlnb.\n"
        "Exit code: 0 succeeded, 1 not succeeded, 2 usage error."
    )

    def options(self, arguments: Sequence[str] | None) -> list[RunOption]:
        """See :class:`DeclaredCommand`."""
        from mlnb.api import runs as all_runs
        from mlnb.api.completion import named_target
        from mlnb.api.submit.option_help import available_options, every_option
        from mlnb.cli.run import OPTIONS

        if arguments is None:
            return every_option(OPTIONS)
        return available_options(named_target(arguments, all_runs), all_runs.workspace, OPTIONS)

    def own_arguments(self, arguments: list[str]) -> list[str]:
        """See :class:`DeclaredCommand`."""
        from mlnb.api import runs as all_runs
        from mlnb.cli.run import split_script

        return split_script(arguments, all_runs)[0]

    def read(self, arguments: list[str]) -> dict[str, Any]:
        """See :class:`DeclaredCommand`."""
        from mlnb.api import runs as all_runs
        from mlnb.cli.run import read_arguments

        return read_arguments(arguments, all_runs)


@main.command(cls=_Run, context_settings={"allow_interspersed_args": False, "help_option_names": []})
@click.argument("script", nargs=-1, type=click.Path())
def run(**arguments: Any) -> int:
    """Run an unmodified script, with its own arguments.

    Prints what rank 0 prints until the run ends. An interrupt ends the command, not the run; with --detach the command
    returns at once.

    With --resume, a run continues from its newest checkpoint, also one of a notebook. Options that are not given keep
    the run's values. With another script than the run's, a new run starts from the run's checkpoint.
    """
    from mlnb.api import runs as all_runs
    from mlnb.cli.run import run_script

    return run_script(runs=all_runs, **arguments)


@main.command()
@click.option("-n", "--number", default=20, show_default=True, type=click.IntRange(1), help="how many")
@click.option("-a", "--all", "hidden", is_flag=True, help="also those that mlnb doctor has left")
@as_json
def runs(number: int, hidden: bool, as_json: bool) -> None:
    """List runs, newest first."""
    from mlnb.api import runs as all_runs
    from mlnb.render.runs_table import text_table

    newest = all_runs.observed(number, hidden=hidden)
    if as_json:
        echo_json([run.to_json() for run in newest])
    else:
        click.echo(text_table(newest))


@main.command()
@click.argument("name")
@as_json
def show(name: str, as_json: bool) -> None:
    """Show one run, by name (the newest) or id."""
    from mlnb.api import runs as all_runs
    from mlnb.render.format import format_step, format_value
    from mlnb.render.summary import status_line

    run = all_runs[name]
    if as_json:
        echo_json(run.to_json())
        return
    data = run.to_json()
    click.echo(status_line(run))
    for key in ("id", "dir", "target", "attempts"):
        click.echo(f"  {key:<9} {data[key]}")
    for note in data["notes"]:
        click.echo(f"  note      {note}")
    for metric, last in data["metrics"].items():
        value, step, count = format_value(float(last["value"])), format_step(last["step"]), format_step(last["count"])
        click.echo(f"  {metric:<9} {value} at step {step} ({count} values)")
    if data["error"]:
        click.echo(data["error"]["text"].rstrip())


@main.command()
@click.argument("name")
@click.option("-f", "--follow", is_flag=True, help="continue until the run ends")
@click.option("--rank", default=0, show_default=True, type=click.IntRange(0), help="the rank whose output to print")
@as_json
def logs(name: str, follow: bool, rank: int, as_json: bool) -> int:
    """Print what a rank has printed."""
    from mlnb.api import runs as all_runs
    from mlnb.api.log_stream import follow_output

    run = all_runs[name]
    if as_json:
        if follow:
            run.wait()
        echo_json({"id": run.id, "rank": rank, "out": run.logs(rank, "out"), "err": run.logs(rank, "err")})
    elif follow:
        run.logs(rank)  # refuses a rank that does not exist
        for text, is_error in follow_output(run, rank):
            click.echo(text, nl=False, err=is_error)
    else:
        click.echo(run.logs(rank, "out"), nl=False)
        click.echo(run.logs(rank, "err"), nl=False, err=True)
    return int(follow and run.state != "succeeded")


@main.command()
@click.argument("names", nargs=-1, required=True)
@as_json
def cancel(names: tuple[str, ...], as_json: bool) -> None:
    """Stop runs (they may save a checkpoint first). Returns when they have ended."""
    from mlnb.api import runs as all_runs
    from mlnb.api.cancelling import cancel_runs
    from mlnb.units import state_phrase

    named = list(dict.fromkeys(all_runs[name] for name in names))
    stopped = cancel_runs(named)
    if as_json:
        echo_json([run.to_json() for run in named])
        return
    for run in named:
        already = "" if run in stopped else "already "
        click.echo(f"{run.name} ({run.id}) {state_phrase(run.state).replace(' ', f' {already}', 1)}")


@main.command()
@click.argument("names", nargs=-1, required=True)
@as_json
def rm(names: tuple[str, ...], as_json: bool) -> None:
    """Delete ended runs, and data that no other run uses."""
    from mlnb.api import runs as all_runs
    from mlnb.units import format_size

    removed = [(run.id, run.name, run.remove()) for run in dict.fromkeys([all_runs[name] for name in names])]
    if as_json:
        echo_json([{"id": run_id, "name": name, "freed": freed} for run_id, name, freed in removed])
        return
    for run_id, name, freed in removed:
        click.echo(f"{name} ({run_id}) deleted, {format_size(freed)} freed")


main.add_command(pool)


@main.command()
@click.argument("name", default="local")
@as_json
def doctor(name: str, as_json: bool) -> int:
    """Check, line by line, what works on a target."""
    from mlnb.cli.doctor import ALL_GOOD, checks
    from mlnb.workspace import Workspace

    results = list(checks(name, Workspace.of_process(), None if as_json else _report))
    if as_json:
        echo_json([{"check": check.name, "ok": check.ok, "found": check.detail} for check in results])
    elif all(check.ok for check in results):
        click.echo(ALL_GOOD)
    return int(any(check.ok is False for check in results))


def _report(name: str, ok: bool | None, detail: str) -> None:
    click.echo(f"{ {True: 'ok', False: 'FAIL', None: 'wait'}[ok]:<4}  {name:<24} {detail}")


if __name__ == "__main__":
    sys.path.insert(0, str(Path.cwd()))
    main()
