"""The command ``mlnb pool``: starts, lists and stops warm pools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from mlnb.cli.declared import DeclaredCommand
from mlnb.cli.output import as_json, echo_json
from mlnb.targets.config.options import RunOption


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def pool() -> None:
    """Keep an allocation between runs, for a fast start: --on pool."""


_JSON = RunOption("--json", "as_json", is_flag=True, help="print JSON")


class _Start(DeclaredCommand):
    """``mlnb pool start``."""

    usage = ("mlnb pool start [options]",)

    def options(self, arguments: Sequence[str] | None) -> list[RunOption]:
        """See :class:`DeclaredCommand`."""
        from mlnb.api import runs
        from mlnb.api.completion import named_target
        from mlnb.api.pools import POOL_OPTIONS, for_pools
        from mlnb.api.submit.option_help import available_options, every_option

        if arguments is None:
            return [*every_option(POOL_OPTIONS, for_pools), _JSON]
        return [*available_options(named_target(arguments, runs), runs.workspace, POOL_OPTIONS, for_pools), _JSON]

    def read(self, arguments: list[str]) -> dict[str, Any]:
        """See :class:`DeclaredCommand`."""
        others = [argument for argument in arguments if argument != "--json"]
        return {"as_json": "--json" in arguments, "arguments": others}


@pool.command(cls=_Start, context_settings={"help_option_names": []})
def start(arguments: list[str], as_json: bool) -> None:
    """Start a pool, as in: mlnb pool start --on slurm --gpus 1 --time 1h."""
    from mlnb.api import pools
    from mlnb.workspace import Workspace

    started, message = pools.start(arguments, Workspace.of_process())
    if as_json:
        echo_json(pools.to_json(started))
    else:
        click.echo(message)


@pool.command(name="list")
@as_json
def list_(as_json: bool) -> None:
    """List the pools, and the last few that have ended."""
    from mlnb.api import pools
    from mlnb.render.pools_table import text_table
    from mlnb.workspace import Workspace

    listed = pools.listed(Workspace.of_process())
    if as_json:
        echo_json([pools.to_json(pool) for pool in listed])
    else:
        click.echo(text_table(listed))


@pool.command()
@click.argument("name", required=False)
@as_json
def stop(name: str | None, as_json: bool) -> None:
    """End a pool, at once or with the last run on it. It accepts no more runs."""
    from mlnb.api import pools
    from mlnb.workspace import Workspace

    stopped, message = pools.stop(name, Workspace.of_process())
    if as_json:
        echo_json(pools.to_json(stopped))
    else:
        click.echo(message)
