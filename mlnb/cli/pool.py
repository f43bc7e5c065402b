"""``mlnb pool start | list | stop``: warm pools."""

from __future__ import annotations

import click

from mlnb.cli.output import as_json, echo_json


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def commands() -> None:
    """Keep an allocation between runs, so that they start at once: --on pool."""


@commands.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@click.argument("words", nargs=-1, type=click.UNPROCESSED)
def start(words: tuple[str, ...]) -> None:
    """Start a pool: mlnb pool start --on slurm --gpus 1 --time 1h [--idle 15m] [--name NAME] [--json]."""
    from mlnb.api import pools
    from mlnb.api.submit.options import help_text

    if {"-h", "--help"} & set(words):
        click.echo(f"Usage: mlnb pool start [options]\n\nOptions:\n{help_text(pools.POOL_OPTIONS)}\n  --json")
        return
    started, said = pools.start([word for word in words if word != "--json"])
    if "--json" in words:
        echo_json(pools.to_json(started))
    else:
        click.echo(said)


@commands.command(name="list")
@as_json
def list_(as_json: bool) -> None:
    """List pools, and the last that have ended."""
    from mlnb.api import pools
    from mlnb.render.pools_table import text_table

    if as_json:
        echo_json([pools.to_json(one) for one in pools.listed()])
    else:
        click.echo(text_table())


@commands.command()
@click.argument("name", required=False)
@as_json
def stop(name: str | None, as_json: bool) -> None:
    """End a pool: at once, or with the last run on it. It takes no more."""
    from mlnb.api import pools

    stopped, said = pools.stop(name)
    if as_json:
        echo_json(pools.to_json(stopped))
    else:
        click.echo(said)
