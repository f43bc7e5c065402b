"""``%pool``: warm pools, from a notebook."""

from __future__ import annotations

import difflib

from IPython.core.magic import Magics, line_magic, magics_class
from IPython.display import display

from mlnb.api import pools
from mlnb.api.submit.options import help_text, split
from mlnb.errors import UsageError
from mlnb.render.pools_table import html_table, text_table

_WORDS = ("start", "stop")


@magics_class
class PoolMagics(Magics):
    """The magic."""

    @line_magic
    def pool(self, line: str) -> None:
        """Keep an allocation of a batch system between runs, so that they start at once."""
        words = split(line, "%pool")
        if not words:
            display({"text/plain": text_table(), "text/html": html_table()}, raw=True)
        elif words[0] == "start":
            print(pools.start(words[1:])[1])
        elif words[0] == "stop":
            if len(words) > 2:
                raise UsageError(f"%pool stop {' '.join(words[1:])}: one name, or none where there is one pool")
            print(pools.stop(words[1] if len(words) == 2 else None)[1])
        else:
            near = difflib.get_close_matches(words[0], _WORDS, 1)
            hint = f"did you mean %pool {near[0]}?" if near else "%pool, %pool start … or %pool stop [NAME]"
            raise UsageError(f"%pool {words[0]}: {hint}")

    pool.__doc__ = f"""Keep an allocation of a batch system between runs, so that they start at once.

%pool start [options] starts one, %pool lists them, %pool stop [NAME] ends one: at once, or with the last run on it.
%%train --on pool runs there (--on pool:NAME where there are several). A pool outlives this kernel.

Options of start:
{help_text(pools.POOL_OPTIONS)}
"""
