"""What only the session that submitted a run has of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mlnb.node.data.objects import Labels


@dataclass(frozen=True)
class SessionLink:
    """How a run's results are tied to objects of this session.

    Attributes
    ----------
    labels
        the session's storages, which take new content in place; ``None`` where all is to be new.
    bindings
        what the script calls by names that the session lacks (functions without a name).
    """

    labels: Labels | None
    bindings: Mapping[str, Any]
