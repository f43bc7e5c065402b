"""Warm pools: an allocation of a batch system that is kept between runs, so that they start at once.

A detached process (``holder``) has a Dask scheduler and the one job; on the job's node a warm parent
(``mlnb.node.pool_node``) forks the node programs. What is known of a pool stands in its folder (``folder``),
which any session reads.
"""

from __future__ import annotations

from mlnb.targets.pool.target import Pool

__all__ = ["Pool"]
