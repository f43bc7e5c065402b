"""The magic ``%pool``: starts, lists and stops warm pools."""

from __future__ import annotations

import difflib

from IPython.core.magic import Magics, line_magic, magics_class
from IPython.display import display

from mlnb.api import pools, runs
from mlnb.api.submit.option_help import every_option, help_text
from mlnb.api.submit.option_reader import split_line
from mlnb.errors import UsageError
from mlnb.notebook.documented import document
from mlnb.render.pools_table import html_table, text_table

_SUBCOMMANDS = ("start", "stop")


def _help() -> str:
    """What ``%pool?`` shows."""
    return f"""Keep an allocation of a batch system between runs, so that runs start at once.

%pool start [options] starts a pool, %pool lists the pools, %pool stop [NAME] ends one, at once or with its last run.
%%train --on pool runs there (--on pool:NAME if there are several). A pool outlives this kernel.

Options of start

{help_text(every_option(pools.POOL_OPTIONS, pools.for_pools))}
"""


@magics_class
class PoolMagics(Magics):
    """``%pool``."""

    @line_magic
    def pool(self, line: str) -> None:
        """Keep an allocation of a batch system between runs, so that runs start at once."""
        arguments, workspace = split_line(line, "%pool"), runs.workspace
        if not arguments:
            listed = pools.listed(workspace)
            display({"text/plain": text_table(listed), "text/html": html_table(listed)}, raw=True)
        elif arguments[0] == "start":
            print(pools.start(arguments[1:], workspace)[1])
        elif arguments[0] == "stop":
            if len(arguments) > 2:
                raise UsageError(f"%pool stop {' '.join(arguments[1:])}: name one pool, or none if there is only one")
            print(pools.stop(arguments[1] if len(arguments) == 2 else None, workspace)[1])
        else:
            near = difflib.get_close_matches(arguments[0], _SUBCOMMANDS, 1)
            hint = f"did you mean %pool {near[0]}?" if near else "%pool, %pool start … or %pool stop [NAME]"
            raise UsageError(f"%pool {arguments[0]}: {hint}")

    document(pool, _help)
