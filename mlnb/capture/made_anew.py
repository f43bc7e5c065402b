"""Made anew: what can't be sent, but was made by one plain line, is made in the run by the same line."""

from __future__ import annotations

import ast
import io
import sys
from typing import Any, Protocol

from mlnb.capture.reasons import Reason
from mlnb.capture.references import References
from mlnb.capture.session import Session
from mlnb.capture.ship.checks import ShippingChecks
from mlnb.capture.ship.refusals import chain, unshippable_reason
from mlnb.capture.source.definition import DefinitionSource
from mlnb.capture.source.evaluate import UNKNOWN, evaluate
from mlnb.capture.source.history import SourceHistory
from mlnb.node.data.outputs import is_progress_bar

_MODES = frozenset(mode + more for mode in "wx" for more in ("", "b", "t", "+", "b+", "t+", "-", "bt"))
_NEVER_AGAIN = _MODES | {":memory:"}
"""Arguments with which a second call would empty a file, or lack the contents of the first object."""


_IN_FILES = frozenset({"h5py", "netCDF4", "tables", "zarr"})
"""Libraries whose objects contain what is in a file."""


class Collector(Protocol):
    """What collects what a cell needs (:class:`mlnb.capture.slice.Slice`)."""

    data: dict[str, Any]
    definitions: dict[str, DefinitionSource]
    reasons: dict[str, Reason]
    references: References
    checks: ShippingChecks

    def add_definition(self, name: str, source: DefinitionSource, reason: Reason) -> None:
        """The script defines ``name``."""

    def note(self, note: str) -> None:
        """Tell the user something."""


class MadeAnew:
    """The values that the run makes anew.

    Attributes
    ----------
    names
        ``id`` of such a value → its name in the script.
    """

    def __init__(self, collector: Collector, session: Session, history: SourceHistory) -> None:
        self._collector = collector
        self._session = session
        self._history = history
        self.names: dict[int, str] = {}

    @property
    def values(self) -> dict[str, Any]:
        """The session's objects, by name."""
        return {name: self._session.namespace[name] for name in self.names.values()}

    def make(self, name: str, value: Any, reason: Reason) -> bool:
        """Have the run make ``value``, the session's ``name``, by the line that made it; whether there is one."""
        source = self._source(name, value)
        if source is None:
            return False
        self.names[id(value)] = name
        self._collector.reasons[name] = reason
        self._collector.data.pop(name, None)
        self._collector.add_definition(name, source, reason)
        del self._collector.definitions[name]  # it isn't returned: the session's stays what it is
        self._collector.note(f"{name} can't be sent: the run makes its own, by `{' '.join(source.lines)}`")
        return True

    def make_parts(self) -> bool:
        """Have the run make what keeps data from being pickled; whether there is anything of that kind."""
        return any(self._make_part(name, value) for name, value in list(self._collector.data.items()))

    def _make_part(self, name: str, value: Any) -> bool:
        def ships(part: Any) -> bool:
            return self._collector.checks.pickling_error(part) is None

        if ships(value):
            return False
        line = self._collector.reasons.get(name, Reason(None)).line
        for _, part in chain(value, name, ships):
            own = [name] if part is value and self._session.has(name) else []
            for other in [*own, *self._collector.references.session_names(part)]:
                if self.make(other, part, Reason(line, None if part is value else name)):
                    return True
        return False

    def _source(self, name: str, value: Any) -> DefinitionSource | None:
        """The line that made ``value``, which is the session's ``name``; ``None`` if it can't be made anew."""
        statement = self._history.plain_assignment(name) if _can_be_made_anew(value) else None
        if statement is None:
            return None
        assert isinstance(statement.node, ast.Assign)
        call = statement.node.value
        assert isinstance(call, ast.Call)
        kind = evaluate(call.func, self._session.namespace)
        if kind is not UNKNOWN and isinstance(kind, type) and not isinstance(value, kind):
            return None  # made by something else
        if {node.value for node in ast.walk(call) if isinstance(node, ast.Constant)} & _NEVER_AGAIN:
            return None
        source = DefinitionSource(f"{name} = {ast.unparse(call)}".split("\n"), statement)
        source.add_names(statement, set())
        return source


def _can_be_made_anew(value: Any) -> bool:
    """Whether a new object is as good as this one: it isn't the user's, and holds no data and no progress."""
    unshippable = unshippable_reason(value)
    if unshippable is not None and not unshippable.can_be_made_anew:
        return False
    if unshippable is None and hasattr(type(value), "__next__"):
        return False  # it is somewhere in a sequence
    if isinstance(value, (list, dict, set, tuple)) or type(value).__module__ == "__main__":
        return False
    if isinstance(value, io.IOBase) and type(value).__module__ == "_io":
        return False  # it travels (mlnb.node.data.kinds.open_files), or has no path
    return not _holds_data(value) and not _is_in_use(value)


def _holds_data(value: Any) -> bool:
    """Whether a value is data, or contains items; what is in a file does not count."""
    count = getattr(value, "qsize", None) or getattr(value, "__len__", None)
    if is_progress_bar(value):
        return False
    if callable(count) and type(value).__module__.partition(".")[0] not in _IN_FILES:
        try:
            if count():
                return True
        except Exception:  # noqa: BLE001 - the object's own code
            return True
    torch, numpy, pandas = (sys.modules.get(name) for name in ("torch", "numpy", "pandas"))
    kinds: list[type] = []
    if torch is not None:
        kinds += [torch.nn.Module, torch.Tensor, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler]
        kinds += [torch.utils.data.Dataset]
    if numpy is not None:
        kinds.append(numpy.ndarray)
    if pandas is not None:
        kinds += [pandas.DataFrame, pandas.Series]
    return isinstance(value, tuple(kinds))


def _is_in_use(value: Any) -> bool:
    """Whether a transaction is open."""
    return bool(getattr(value, "in_transaction", False)) and type(value).__module__ == "sqlite3"
