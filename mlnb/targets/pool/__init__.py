"""Warm pools: an allocation of a batch system that is kept between runs, so that runs start at once.

A detached process, the ``daemon``, has a Dask scheduler and the one job. On the job's node, a fork server
(``mlnb.node.pool_node``) forks the node programs. Any session reads the pool's state from its ``folder``.
"""

from __future__ import annotations

from mlnb.targets.pool.target import Pool

__all__ = ["Pool"]
