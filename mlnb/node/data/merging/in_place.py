"""In place: how each kind of object of the session gets new contents and stays the object that it is."""

from __future__ import annotations

import array
import collections
import contextlib
import copyreg
import sys
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch.nn.parameter import is_lazy

from mlnb.node.data.kinds import mapped_files, tensors
from mlnb.node.data.pickling.reduction import take_apart
from mlnb.node.torch_private import storage_id

Copy = Callable[[Any, Any], None]
"""Copies the contents of a new object into one of the session."""


def same(first: Any, second: Any) -> bool:
    """Whether two values are the same object, or can't be told apart: equal numbers, strings and tuples of such."""
    if first is second:
        return True
    if type(first) is not type(second):
        return False
    if type(first) is tuple:
        return len(first) == len(second) and all(map(same, first, second))
    if type(first).__hash__ is None or _attributes(first):
        return False
    try:
        return bool(first == second) or bool(first != first and second != second)
    except Exception:  # noqa: BLE001 - the objects' own code
        return False


def copier(live: Any, new: Any) -> Copy | None:
    """How to copy the contents of ``new`` into ``live``; ``None`` if ``live`` can't be changed in place."""
    if isinstance(live, torch.Tensor) and isinstance(new, torch.Tensor):
        return _copy_tensor if type(live) is type(new) or is_lazy(live) else None
    if type(live) is not type(new):
        return _become if _is_laid_out_alike(type(live), type(new)) else None
    if isinstance(live, torch.Generator):
        return _copy_generator if live.device == new.device else None
    if is_array(live):
        return _copy_array
    if isinstance(live, (dict, set, list, bytearray, collections.deque, array.array)):
        return _copy_container
    return _copy_attributes if _has_attributes_only(type(live)) else None


def _has_attributes_only(kind: type) -> bool:
    """Whether all that objects of a class contain is in ``__dict__`` and slots, and not in a structure in C."""
    pointer, slots = tuple.__itemsize__, copyreg._slotnames(kind)  # type: ignore[attr-defined]
    size = object.__basicsize__ + pointer * len(slots)
    size += pointer * ((kind.__dictoffset__ > 0) + (kind.__weakrefoffset__ > 0))
    return kind.__basicsize__ <= size and not kind.__itemsize__ and (bool(slots) or kind.__dictoffset__ != 0)


def _is_laid_out_alike(one: Any, other: Any) -> bool:
    """Whether an object of class ``one`` can be made an object of class ``other``."""
    if not all(_has_attributes_only(kind) and kind.__flags__ & _HEAP_TYPE for kind in (one, other)):
        return False
    slots = copyreg._slotnames  # type: ignore[attr-defined]
    return bool(slots(one) == slots(other) and one.__dictoffset__ == other.__dictoffset__)


_HEAP_TYPE = 1 << 9
"""Py_TPFLAGS_HEAPTYPE: a class that Python code has defined."""


def _become(live: Any, new: Any) -> None:
    """Make ``live`` an object of the class of ``new``, as when the cell has parametrized a module."""
    set_class(live, type(new))
    _copy_attributes(live, new)


def _copy_tensor(live: torch.Tensor, new: torch.Tensor) -> None:
    """A tensor's data is in the session's storage already, or it is replaced through ``.data``."""
    if not _is_same_view(live, new):
        live.data = new.data
    if type(live) is not type(new):  # a lazy parameter that has got its shape
        live.__class__ = type(new)
    if live.is_leaf and live.requires_grad != new.requires_grad:
        live.requires_grad_(new.requires_grad)
    tensors.take_over(live, new)


def _is_same_view(first: torch.Tensor, second: torch.Tensor) -> bool:
    """Whether two tensors show the same memory in the same way."""
    if type(first) is not type(second) or is_lazy(first) or not (first.layout is second.layout is torch.strided):
        return False
    return (
        storage_id(first.untyped_storage()) == storage_id(second.untyped_storage())
        and (first.shape, first.stride(), first.dtype) == (second.shape, second.stride(), second.dtype)
        and first.storage_offset() == second.storage_offset()
    )


def _copy_generator(live: torch.Generator, new: torch.Generator) -> None:
    live.set_state(new.get_state())


def is_array(value: Any) -> bool:
    """Whether a value is a NumPy array, of a class derived from it, too: a mapped file, a masked array."""
    numpy = sys.modules.get("numpy")
    return numpy is not None and isinstance(value, numpy.ndarray)


def _copy_array(live: Any, new: Any) -> None:
    if live.shape == new.shape and live.dtype == new.dtype:
        if mapped_files.same_map(live, new):
            return
        if live.flags.writeable:
            live[...] = new
        return
    live.__setstate__(new.__reduce__()[2])  # the cell has reshaped or resized it; views of it keep the old memory


def _copy_container(live: Any, new: Any) -> None:
    _clear(live)
    kind = _built_in(type(live))
    if issubclass(kind, (dict, set)):
        kind.update(live, new)
    else:
        kind.extend(live, new)  # type: ignore[attr-defined]
    if _attributes(live) is not None:
        _copy_attributes(live, new)


def _copy_attributes(live: Any, new: Any) -> None:
    attributes = _attributes(live)
    if attributes is not None:
        contents = dict(_attributes(new) or {})  # its own, if the class takes the dictionary that it gets as its own
        attributes.clear()
        attributes.update(contents)
    for name in copyreg._slotnames(type(live)):  # type: ignore[attr-defined]
        with contextlib.suppress(AttributeError):
            object.__delattr__(live, name)
        with contextlib.suppress(AttributeError):
            object.__setattr__(live, name, object.__getattribute__(new, name))


def set_class(live: Any, kind: type) -> None:
    """Make ``live`` an object of another class, as the cell has done."""
    object.__setattr__(live, "__class__", kind)


def empty(live: Any, state: Any) -> Callable[[], None]:
    """Remove the contents of an object that come back with it. Returns what restores them.

    Attributes that its class doesn't send (in ``__getstate__``) stay. If its class sends the dictionary of the
    attributes itself, ``state`` is that one and has the new contents already.
    """
    attributes = _attributes(live)
    removed, items = {} if state is attributes else dict(_sent_attributes(live)), _items(live)
    before = dict(attributes or {})
    for name in removed:
        if attributes is not None and name in attributes:
            del attributes[name]
        elif name in copyreg._slotnames(type(live)):  # type: ignore[attr-defined]
            object.__delattr__(live, name)
    if items is not None:
        _clear(live)

    def restore() -> None:
        if attributes is not None and attributes is not live:
            attributes.clear()
            attributes.update(before)
        for name, value in removed.items():
            if name in copyreg._slotnames(type(live)):  # type: ignore[attr-defined]
                object.__setattr__(live, name, value)
        if items is not None:
            _clear(live)
            kind = _built_in(type(live))
            kind.update(live, items) if issubclass(kind, (dict, set)) else kind.extend(live, items)  # type: ignore[attr-defined]

    return restore


def _sent_attributes(live: Any) -> Iterator[tuple[str, Any]]:
    """The attributes that the class of ``live`` sends."""
    try:
        reduced = take_apart(live)
    except Exception:  # noqa: BLE001 - the object's own code
        return
    state = None if isinstance(reduced, str) else (*reduced, None)[2]
    for part in state if isinstance(state, tuple) and len(state) == 2 else (state,):
        if isinstance(part, dict) and part is not live:
            yield from part.items()


def _items(live: Any) -> Any:
    """A copy of what a container contains."""
    if isinstance(live, dict):
        return dict(dict.items(live))
    return list(live) if isinstance(live, (list, set, bytearray, collections.deque, array.array)) else None


def _clear(live: Any) -> None:
    if isinstance(live, array.array):
        del live[:]
    else:
        _built_in(type(live)).clear(live)  # type: ignore[attr-defined]


def _built_in(kind: type) -> type:
    """The built-in container that a class derives from: its methods aren't overridden."""
    return next(base for base in kind.__mro__ if base in _CONTAINERS)


_CONTAINERS = (collections.OrderedDict, dict, set, list, bytearray, collections.deque, array.array)


def _attributes(obj: Any) -> dict[str, Any] | None:
    try:
        found = object.__getattribute__(obj, "__dict__")
    except AttributeError:
        return None
    return found if isinstance(found, dict) else None
