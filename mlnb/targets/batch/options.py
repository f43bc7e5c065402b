"""Options that targets of all batch systems have. A system's own are its :attr:`System.options`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlnb.targets.config.options import IMAGE, NAME, NAMES, REQUEUE, TargetOption


def _partitions(target: Any) -> Iterable[str]:
    """The partitions of a :class:`mlnb.targets.batch.target.JobQueue`."""
    return target.system.partitions()  # type: ignore[no-any-return]


OPTIONS = (
    TargetOption(
        "--partition",
        type=NAMES,
        for_pools=True,
        values=_partitions,
        help="partition (queue) of a batch system; NAME,NAME: any of these",
    ),
    TargetOption("--account", type=NAME, for_pools=True, help="account (project) that is charged for it"),
    REQUEUE,
    IMAGE,
)
