"""The table of pools that ``mlnb pool list`` and ``%pool`` print."""

from __future__ import annotations

import html
import time
from collections.abc import Sequence

from mlnb.render.table import as_html, as_text
from mlnb.targets.pool.folder import PoolInfo
from mlnb.units import format_time

HEADER = ("name", "state", "why", "on", "resources", "runs", "ends", "id")
_NO_POOLS = "No pools. Start one: %pool start --on slurm --gpus 1 --time 1h"


def text_table(pools: Sequence[PoolInfo]) -> str:
    """The pools as plain text."""
    rows = [row(pool) for pool in pools]
    return as_text(HEADER, rows) if rows else _NO_POOLS


def html_table(pools: Sequence[PoolInfo]) -> str:
    """The pools as HTML."""
    rows = [row(pool) for pool in pools]
    return as_html(HEADER, rows) if rows else f"<p>{html.escape(_NO_POOLS)}</p>"


def row(pool: PoolInfo) -> tuple[str, ...]:
    """The cells of one pool, in the order of :data:`HEADER`."""
    count = pool.resources.gpus
    gpus = f"{count} GPU{'s' * (count > 1)}, " if count else ""
    host = f" ({pool.written.host})" if pool.written.host and pool.live else ""
    return (
        pool.name,
        pool.state,
        pool.reason,
        f"{pool.request['on']}{host}",
        f"{gpus}{pool.cores} core{'s' * (pool.cores > 1)}",
        str(pool.active_runs) if pool.live else "",
        _ends(pool),
        pool.id,
    )


def _ends(pool: PoolInfo) -> str:
    """When the pool ends: at its time limit, or before if nothing runs on it."""
    if not pool.live:
        return ""
    now, parts = time.time(), []
    if pool.written.ends_at is not None:
        parts.append(f"in {format_time(max(0.0, pool.written.ends_at - now))}")
    if pool.written.idle_since is not None:
        left = pool.written.idle_since + float(pool.request["idle"]) - now
        parts.append(f"in {format_time(max(0.0, left))} if not used")
    return ", ".join(parts)
