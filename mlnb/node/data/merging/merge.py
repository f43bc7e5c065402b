"""Merges a stream into the live objects that were written to it, by origin.

So a session takes what a run returns, and a resumed run what it had. Something is put into an object only if it *is*
that object: its label was written with it. Every reference to such an object, anywhere in the stream, is one to the
live object. Whatever else is in the stream is new.
"""

from __future__ import annotations

import copyreg
import types
from collections.abc import Callable, Collection, Mapping
from typing import Any

import torch

from mlnb.node.data.kinds import made_by_call
from mlnb.node.data.merging import in_place
from mlnb.node.data.pickling.building import Rebuilder, is_missing, put_in_box
from mlnb.node.data.pickling.faults import find_fault
from mlnb.node.data.pickling.reduction import Contents, put, take_apart


class Merger(Rebuilder):
    """Builds what a run returns into the session's objects.

    Nothing is changed before :meth:`apply`, so what can't be loaded changes nothing.

    Parameters
    ----------
    live
        the session's objects by label.
    """

    def __init__(self, live: Mapping[str, Any]) -> None:
        super().__init__()
        self._live = live
        self._kept: dict[int, Any] = {}  # objects of the session that come back, by id
        self._copied: dict[int, Any] = {}  # new objects whose contents are copied into one of the session, by its id
        self._changes: list[tuple[Any, Any, Callable[[], None]]] = []  # object, new contents, what puts them there
        self._contents: dict[int, list[Any]] | None = None

    def create(self, label: str | None, became: bool, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """See :meth:`Rebuilder.create`; the session's object, if it can be changed in place."""
        live = self._live.get(label) if label is not None else None
        if live is None or is_missing(function) or any(map(is_missing, args)):
            return super().create(label, became, function, args)
        if became and function is copyreg.__newobj__:  # type: ignore[attr-defined]
            self._change(live, None, lambda: in_place.set_class(live, args[0]))
            return self._keep(live)
        if not became and _is_created_alike(live, function, args):
            return self._keep(live)
        new = super().create(label, became, function, args)
        copy = in_place.copier(live, new)
        if copy is None:
            return new
        self._copied[id(live)] = new
        self._change(live, new, lambda: copy(live, new))
        return self._keep(live)

    def fill(self, obj: Any, contents: tuple[Any, ...]) -> None:
        """See :meth:`Rebuilder.fill`."""
        if id(obj) in self._copied:
            super().fill(self._copied[id(obj)], contents)
        elif id(obj) in self._kept:
            self._change(obj, contents, lambda: self._refill(obj, Contents(*contents)))
        else:
            super().fill(obj, contents)

    def box(self, label: str, kind: type, *contents: Any) -> Any:
        """See :meth:`Rebuilder.box`; a tuple is the session's, if its parts are."""
        box = super().box(label, kind, *contents)
        live = self._live.get(label)
        if kind not in (tuple, frozenset) or type(live) is not kind:
            return box
        if in_place.same(live, box) if kind is tuple else live == box:
            self._boxes[label] = live
        return self._boxes[label]

    def live_object(self, label: str | None = None) -> Any:
        """See :meth:`Rebuilder.live_object`."""
        return None if label is None else self._live.get(label)

    def new_box(self, label: str, kind: type) -> Any:
        """See :meth:`Rebuilder.new_box`."""
        live = self._live.get(label)
        return self._keep(live) if type(live) is kind else kind()

    def fill_box(self, box: Any, contents: Any) -> None:
        """See :meth:`Rebuilder.fill_box`."""
        if id(box) in self._kept:
            self._change(box, contents, lambda: put_in_box(box, contents))
        else:
            put_in_box(box, contents)

    def _keep(self, live: Any) -> Any:
        self._kept[id(live)] = live
        return live

    def _change(self, obj: Any, contents: Any, apply: Callable[[], None]) -> None:
        self._changes.append((obj, contents, apply))

    def _refill(self, obj: Any, contents: Contents) -> None:
        """Replace the contents of one of the session's objects."""
        restore = in_place.empty(obj, contents.state)
        try:
            put(obj, contents)
        except Exception as error:  # noqa: BLE001 - the object's own code
            restore()
            self.fault(obj, error)

    def drop_faulty(self) -> None:
        """Make no change with which an object that could not be loaded would come into the session."""
        kept = []
        for obj, contents, apply in self._changes:
            fault = find_fault([contents], self.faults, lambda value: () if id(value) in self._kept else None)
            if fault is None:
                kept.append((obj, contents, apply))
            else:
                self.faults.setdefault(id(obj), fault)
        self._changes = kept

    def future_parts(self, value: Any) -> list[Any] | None:
        """What is to be put into an object of the session; ``None`` for any other object."""
        if id(value) not in self._kept:
            return None
        if self._contents is None:
            self._contents = {}
            for obj, contents, _ in self._changes:
                self._contents.setdefault(id(obj), []).append(contents)
        return self._contents.get(id(value), [])

    def apply(self) -> None:
        """Put everything into the session's objects."""
        for _, _, change in self._changes:
            change()


def _is_created_alike(live: Any, function: Callable[..., Any], args: tuple[Any, ...]) -> bool:
    """Whether ``live`` would be created by the same call, so that only its contents may differ."""
    if isinstance(live, (torch.Tensor, torch.Generator)) or in_place.is_array(live):
        return False  # they are copied, so that others who see their memory see it, too
    if isinstance(live, (type, types.FunctionType)) or made_by_call.stays(live, function):
        return True
    if function is copyreg.__newobj__ and len(args) == 1:  # type: ignore[attr-defined]
        return True
    try:
        reduced = take_apart(live)
    except Exception:  # noqa: BLE001 - the object's own code
        return False
    return not isinstance(reduced, str) and reduced[0] == function and in_place.same(tuple(reduced[1]), args)


def faults_by_name(values: Mapping[str, Any], rebuilder: Rebuilder, missing: Collection[str]) -> dict[str, str]:
    """The names whose values hold something that could not be loaded: why, or empty for a missing definition."""
    if not missing and not rebuilder.faults:
        return {}
    if isinstance(rebuilder, Merger):
        rebuilder.drop_faulty()
    clean: set[int] = set()
    found = {
        name: find_fault([value], rebuilder.faults, rebuilder.future_parts, clean) for name, value in values.items()
    }
    return {name: fault for name, fault in found.items() if fault is not None}
