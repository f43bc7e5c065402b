"""What the target of a batch system has chosen for a run; written to ``run.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mlnb.rundir import select_fields


@dataclass(frozen=True)
class BatchPlacement:
    """Where and how a run's job is submitted.

    Attributes
    ----------
    name
        the run's name, which is the job's.
    partition, account, qos
        as the directives have them; ``None`` leaves them to the system.
    image
        the container image, if there is one.
    directives
        directives that the session's environment asks for, as ``--reservation=NAME`` of ``SBATCH_RESERVATION``.
    gpu_directives
        directives that request the GPUs.
    options
        the options that were given.
    """

    name: str = ""
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    image: str | None = None
    directives: tuple[str, ...] = ()
    gpu_directives: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> BatchPlacement:
        """The inverse of :meth:`to_json`."""
        given = select_fields(cls, data)
        for name in ("directives", "gpu_directives"):
            given[name] = tuple(given.get(name, ()))
        return cls(**given)

    def to_json(self) -> dict[str, Any]:
        """As plain JSON values; what is ``None`` is left out."""
        return {name: value for name, value in asdict(self).items() if value is not None}
