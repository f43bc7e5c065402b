"""The link between a run and the session that submitted it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlnb.node.data.objects import Labels
    from mlnb.node.data.process_state import ProcessState


@dataclass(frozen=True)
class SessionLink:
    """The objects of this session into which a run's results are written.

    Attributes
    ----------
    labels
        the session's storages, which get new content in place; ``None`` to create all objects again.
    bindings
        the functions and classes that were sent, by the names that the script has for them.
    process
        the state of this process when the run was submitted.
    """

    labels: Labels | None
    bindings: Mapping[str, Any]
    process: ProcessState | None = None
