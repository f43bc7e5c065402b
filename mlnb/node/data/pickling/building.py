"""Building: how the objects of a run's outputs are written, so that the session can build them into its own objects.

Every object that a run returns is written as two calls: *create* and *fill*. An object that came from the session has
its label with it. A :class:`Rebuilder` makes all objects anew; a ``Merger`` (:mod:`mlnb.node.data.merging.merge`) takes
those that the session has. Containers of built-in types, which pickle doesn't leave to us, are *boxes*, if they came
from the session.
"""

from __future__ import annotations

import pickle
import types
from collections.abc import Callable
from typing import Any

from mlnb.node.data.labels import Labels
from mlnb.node.data.pickling.reduction import Contents, Reduced, put, take_apart

_CONTENTS: dict[type, Callable[[Any], Any]] = {
    list: tuple,
    tuple: lambda value: (*value,),  # not the same object
    set: tuple,
    frozenset: tuple,
    dict: lambda value: tuple(part for pair in value.items() for part in pair),
    bytearray: bytes,
}
"""The types of boxes: how to take out what they contain."""

BOXES: dict[str, type] = {kind.__name__: kind for kind in _CONTENTS}


def create(*_: Any) -> Any:
    """Stands in a stream for :meth:`Rebuilder.create`; never called."""
    raise pickle.UnpicklingError("only a Rebuilder can read this stream")


def fill(*_: Any) -> None:
    """Stands in a stream for :meth:`Rebuilder.fill`; never called."""
    raise pickle.UnpicklingError("only a Rebuilder can read this stream")


class Writer:
    """Writes the objects of one stream as calls for a :class:`Rebuilder`.

    Parameters
    ----------
    labels
        the objects that came from the session.

    Attributes
    ----------
    written
        the labels of those that were written.
    """

    def __init__(self, labels: Labels) -> None:
        self._labels = labels
        self._contents: dict[str, Any] = {}
        self.written: set[str] = set()

    def label(self, obj: Any) -> str | None:
        """The label of an object, if it came from the session."""
        return self._labels.of_object(obj)

    def persistent_id(self, obj: Any) -> tuple[Any, ...] | None:
        """Refer to a box, or to one of the two calls; ``None`` for anything else."""
        if obj is create or obj is fill:
            return ("build", obj.__name__)
        kind = type(obj)
        if kind not in _CONTENTS:
            return None
        label = self._labels.of_object(obj)
        if label is None:
            return None
        self.written.add(label)
        if kind not in (tuple, frozenset) and label in self._contents:
            return ("box", label, kind.__name__)
        contents = self._contents.setdefault(label, _CONTENTS[kind](obj))
        return ("box", label, kind.__name__, contents)

    def reduce(self, obj: Any, reduced: Any) -> Any:
        """Write what an object was reduced to as two calls."""
        if isinstance(obj, (type, types.FunctionType, types.BuiltinFunctionType)) and reduced is NotImplemented:
            return NotImplemented
        if reduced is NotImplemented:
            reduced = take_apart(obj)
        if isinstance(reduced, str):
            return reduced
        function, args, state, items, pairs, setter = _six(reduced)
        label = self._labels.of_object(obj)
        if label is not None:
            self.written.add(label)
        became = label is not None and self._labels.has_other_class(obj)
        parts = (state, None if items is None else tuple(items), None if pairs is None else tuple(pairs), setter)
        created = create, (label, became, function, args)
        if label is None and parts == (None, None, None, None):
            return created
        return (*created, parts, None, None, fill)


def _six(reduced: Reduced) -> Reduced:
    return (*reduced, None, None, None, None)[:6]


class MissingDefinition:
    """Replaces an object that can't be loaded, as one whose class or function isn't defined in this session."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


def is_missing(value: Any) -> bool:
    """Whether ``value`` stands for something that couldn't be loaded."""
    return value is MissingDefinition or isinstance(value, MissingDefinition)


class Rebuilder:
    """Makes every object of a stream anew.

    Attributes
    ----------
    faults
        ``id`` of each object that could not be loaded, or stands for one → why.
    """

    def __init__(self) -> None:
        self.faults: dict[int, str] = {}
        self._faulty: list[Any] = []  # so that no id is reused
        self._boxes: dict[str, Any] = {}

    def create(self, label: str | None, became: bool, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:  # noqa: ARG002 - for those who override it
        """Create an object; it is filled later.

        Parameters
        ----------
        label
            its label, if it came from the session.
        became
            whether it is of another class now.
        function, args
            the call that creates it.
        """
        if is_missing(function) or any(map(is_missing, args)):
            return MissingDefinition()
        try:
            return function(*args)
        except Exception as error:  # noqa: BLE001 - the objects' own code
            return self.fault(MissingDefinition(), error)

    def fill(self, obj: Any, contents: tuple[Any, ...]) -> None:
        """Put contents into an object that was created."""
        if is_missing(obj):
            return
        try:
            put(obj, Contents(*contents))
        except Exception as error:  # noqa: BLE001 - the objects' own code
            self.fault(obj, error)

    def box(self, label: str, kind: type, *contents: Any) -> Any:
        """A container that came from the session; its contents come with it, or with a later mention of it."""
        if kind in (tuple, frozenset):
            return self._boxes.setdefault(label, kind(*contents))
        box = self._boxes.get(label)
        if box is None:
            box = self._boxes[label] = self.new_box(label, kind)
        for values in contents:
            self.fill_box(box, values)
        return box

    def live_object(self, label: str | None = None) -> Any:  # noqa: ARG002 - for those who override it
        """The session's object with that label; ``None`` if there is none."""
        return None

    def future_parts(self, value: Any) -> list[Any] | None:  # noqa: ARG002 - for those who override it
        """What an object will contain, where that isn't what it contains now; ``None`` for any other."""
        return None

    def new_box(self, label: str, kind: type) -> Any:  # noqa: ARG002 - for those who override it
        """A container to be filled."""
        return kind()

    def fill_box(self, box: Any, contents: Any) -> None:
        """Replace the contents of a list, set, dictionary or bytearray."""
        put_in_box(box, contents)

    def fault(self, obj: Any, error: Exception) -> Any:
        """Note that ``obj`` could not be loaded; returns it."""
        self.faults[id(obj)] = f"{type(error).__name__}: {error}".split("\n")[0]
        self._faulty.append(obj)
        return obj


def put_in_box(box: Any, contents: Any) -> None:
    """Replace the contents of a list, set, dictionary or bytearray."""
    box.clear()
    if isinstance(box, dict):
        box.update(zip(contents[::2], contents[1::2], strict=True))
    elif isinstance(box, set):
        box.update(contents)
    else:
        box.extend(contents)
