"""Weak references, and dictionaries and sets of such: what they refer to is sent with them.

In the other process it lives as long as something else there refers to it. Streams refer to the functions here by name.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any


class _Gone:
    """What a dead reference refers to."""


def make_dead_reference() -> weakref.ref[Any]:
    """Return a reference to an object that is gone."""
    return weakref.ref(_Gone())


def set_entries(holder: Any, entries: Any) -> None:
    """Make ``entries`` the contents of a weak dictionary or set."""
    holder.clear()
    holder.update(entries)


def _reference(reference: weakref.ref[Any]) -> tuple[Any, ...]:
    referent, callback = reference(), reference.__callback__
    if referent is None:
        return make_dead_reference, ()
    return weakref.ref, ((referent,) if callback is None else (referent, callback))


def _proxy(proxy: Any) -> tuple[Any, ...]:
    return weakref.proxy, (proxy.__reduce_ex__.__self__,)  # a proxy passes on everything, also who it is


def _holder(holder: Any) -> tuple[Any, ...]:
    contents = dict(holder) if isinstance(holder, Mapping) else list(holder)
    return type(holder), (), contents, None, None, set_entries


REDUCERS: dict[type, Callable[[Any], Any]] = {
    weakref.ref: _reference,
    weakref.ProxyType: _proxy,
    weakref.CallableProxyType: _proxy,
    weakref.WeakKeyDictionary: _holder,
    weakref.WeakValueDictionary: _holder,
    weakref.WeakSet: _holder,
}
"""How a pickler takes them apart, by their exact type."""
