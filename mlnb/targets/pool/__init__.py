"""Warm pools: an allocation of a batch system that is kept between runs, so that they start at once.

A detached process, the ``daemon``, has a Dask scheduler and the one job. On the job's node, a fork server
(``mlnb.node.pool_node``) forks the node programs. The pool's ``folder`` says what is known of it to any session.
"""

from __future__ import annotations

from mlnb.targets.pool.target import Pool

__all__ = ["Pool"]
