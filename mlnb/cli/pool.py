"""The command ``mlnb pool``: starts, lists and stops warm pools."""

from __future__ import annotations

import click

from mlnb.cli.output import as_json, echo_json


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """Keep an allocation between runs, so that they start at once: --on pool."""


@commands.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def start(arguments: tuple[str, ...]) -> None:
    """Start a pool: mlnb pool start --on slurm --gpus 1 --time 1h [--idle 15m] [--name NAME] [--json]."""
    from mlnb.api import pools
    from mlnb.api.submit.options import help_text

    if {"-h", "--help"} & set(arguments):
        click.echo(f"Usage: mlnb pool start [options]\n\nOptions:\n{help_text(pools.POOL_OPTIONS)}\n  --json")
        return
    started, message = pools.start([argument for argument in arguments if argument != "--json"])
    if "--json" in arguments:
        echo_json(pools.to_json(started))
    else:
        click.echo(message)


@commands.command(name="list")
@as_json
def list_(as_json: bool) -> None:
    """List the pools, and the last few that have ended."""
    from mlnb.api import pools
    from mlnb.render.pools_table import text_table

    if as_json:
        echo_json([pools.to_json(pool) for pool in pools.listed()])
    else:
        click.echo(text_table())


@commands.command()
@click.argument("name", required=False)
@as_json
def stop(name: str | None, as_json: bool) -> None:
    """End a pool: at once, or with the last run on it. It accepts no more."""
    from mlnb.api import pools

    stopped, message = pools.stop(name)
    if as_json:
        echo_json(pools.to_json(stopped))
    else:
        click.echo(message)
