"""The pools as a table: ``mlnb pool list`` and ``%pool``."""

from __future__ import annotations

import html
import time

from mlnb.api import pools
from mlnb.render.table import as_html, as_text
from mlnb.targets.pool.folder import Known
from mlnb.units import format_time

HEADER = ("name", "state", "why", "on", "has", "runs", "ends", "id")
_NONE = "no pools: %pool start --on slurm --gpus 1 --time 1h keeps one"


def text_table() -> str:
    """The pools as plain text."""
    rows = [row(pool) for pool in pools.listed()]
    return as_text(HEADER, rows) if rows else _NONE


def html_table() -> str:
    """The pools as HTML."""
    rows = [row(pool) for pool in pools.listed()]
    return as_html(HEADER, rows) if rows else f"<p>{html.escape(_NONE)}</p>"


def row(pool: Known) -> tuple[str, ...]:
    """One pool as the cells of :data:`HEADER`."""
    has = pool.resources
    gpus = f"{has.gpus} GPU{'s' * (has.gpus > 1)}, " if has.gpus else ""
    where = f" ({pool.written.host})" if pool.written.host and pool.live else ""
    return (
        pool.name,
        pool.state,
        pool.reason,
        f"{pool.asked['on']}{where}",
        f"{gpus}{pool.cores} core{'s' * (pool.cores > 1)}",
        str(pool.busy) if pool.live else "",
        _ends(pool),
        pool.id,
    )


def _ends(pool: Known) -> str:
    """When it ends, and whether sooner since nothing runs on it."""
    if not pool.live:
        return ""
    now, said = time.time(), []
    if pool.written.ends is not None:
        said.append(f"in {format_time(max(0.0, pool.written.ends - now))}")
    if pool.written.idle is not None:
        left = pool.written.idle + float(pool.asked["idle"]) - now
        said.append(f"unless used in {format_time(max(0.0, left))}")
    return ", ".join(said)
