"""Reduction: takes an object apart into how it is created and what it contains, and puts contents into an object.

As ``object.__reduce_ex__`` and pickle do, but special methods are looked up in the class only. So a class whose
``__getattr__`` doesn't raise ``AttributeError``, or reads attributes that aren't set yet, is no problem.
"""

from __future__ import annotations

import copyreg
import functools
import io
import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch

from mlnb.node.data.kinds import arrays, caches, open_files
from mlnb.node.data.kinds.torch_objects import OF_TORCH, reduce_object

Reduced = tuple[Any, ...]
"""What ``__reduce_ex__`` returns: function, arguments, state, items, pairs, setter; the last four may be missing."""


class Contents(NamedTuple):
    """What an object contains.

    Attributes
    ----------
    state
        its attributes, or what its class returns for them; ``None`` if it has none.
    items, pairs
        the items of a list, or the keys and values of a dictionary.
    setter
        sets the state, instead of ``__setstate__``.
    """

    state: Any = None
    items: Sequence[Any] | None = None
    pairs: Sequence[tuple[Any, Any]] | None = None
    setter: Callable[[Any, Any], None] | None = None


def take_apart(obj: Any) -> Reduced | str:
    """Return what ``obj.__reduce_ex__(5)`` should return.

    Raises
    ------
    Exception
        whatever the object's own code raises.
    """
    reduced = reduce(obj)
    if reduced is not NotImplemented:
        return reduced  # type: ignore[no-any-return]
    reducer = copyreg.dispatch_table.get(type(obj))
    return obj.__reduce_ex__(5) if reducer is None else reducer(obj)


def reduce(obj: Any) -> Any:
    """As ``reducer_override`` of a pickler: ``NotImplemented`` for what pickle takes apart rightly."""
    kind: Any = type(obj)
    torchs, special = _ways(kind)
    if issubclass(kind, io.IOBase):
        return open_files.reduce_file(obj)
    if kind.__module__ == "numpy" and kind.__name__ in ("ndarray", "memmap"):
        return arrays.reduce_array(obj)
    if issubclass(kind, threading.local):  # pickle doesn't see its attributes
        return copyreg.__newobj__, (kind,), dict(obj.__dict__), None, None, set_local  # type: ignore[attr-defined]
    if kind is caches.KIND:
        return caches.reduce_cached(obj)
    if _dict_names(kind) and (shared := _shared_dict(obj)) is not None:
        return shared
    reduced = reduce_object(obj) if torchs else NotImplemented
    if special and reduced is NotImplemented:
        reduced = _special(obj)
    return NotImplemented if reduced is None else reduced


@functools.lru_cache(maxsize=4096)
def _dict_names(kind: Any) -> tuple[str, ...]:
    """The attributes of a class that are dictionaries which its objects may share as their attributes."""
    if kind.__dictoffset__ == 0 or _takes_itself_apart(kind):
        return ()
    return tuple(
        name for base in kind.__mro__ for name, value in vars(base).items() if type(value) is dict and name[:2] != "__"
    )


def _shared_dict(obj: Any) -> Reduced | None:
    """Take apart an object whose ``__dict__`` is an attribute of its class, so that all objects share their state."""
    kind: Any = type(obj)
    own = _own_dict(obj)
    for name in _dict_names(kind):
        if _in_class(kind, name) is own:
            return copyreg.__newobj__, (kind,), (name, dict(own)), None, None, _share_dict  # type: ignore[attr-defined]
    return None


def _share_dict(obj: Any, state: tuple[str, dict[str, Any]]) -> None:
    """Set the state that all objects of the class share, and let ``obj`` share it."""
    name, attributes = state
    shared = _in_class(type(obj), name)
    shared.update(attributes)
    object.__setattr__(obj, "__dict__", shared)


@functools.lru_cache(maxsize=4096)
def _ways(kind: Any) -> tuple[bool, bool]:
    """Whether :func:`reduce_object`, and whether :func:`_special`, have to be asked about objects of a class."""
    is_special = issubclass(kind, (BaseException, dict)) or _in_class(kind, "__getattr__") not in (
        None,
        _MODULE_GETATTR,
    )
    return issubclass(kind, OF_TORCH), is_special


_MODULE_GETATTR = torch.nn.Module.__getattr__
"""A ``__getattr__`` that raises ``AttributeError``, and needs no attribute."""


def set_local(obj: threading.local, attributes: dict[str, Any]) -> None:
    """Set what this thread has in an object of which each thread has its own. Streams refer to this by name."""
    obj.__dict__.clear()
    obj.__dict__.update(attributes)


def _special(obj: Any) -> Reduced | None:
    """Take apart an object that pickle would take apart wrongly; ``None`` for any other."""
    kind = type(obj)
    if isinstance(obj, BaseException):
        return _exception(obj)
    if isinstance(obj, dict) and _own_dict(obj) is obj:
        return copyreg.__newobj__, (kind,), True, None, iter(dict.items(obj)), _be_own_dict  # type: ignore[attr-defined]
    return _by_class(obj) if _in_class(kind, "__getattr__") and not _takes_itself_apart(kind) else None


def _takes_itself_apart(kind: type) -> bool:
    """Whether a class says itself how its objects are taken apart."""
    return any(name in vars(base) for base in kind.__mro__[:-1] for name in ("__reduce_ex__", "__reduce__"))


def _by_class(obj: Any) -> Reduced | None:
    """As ``object.__reduce_ex__(5)``, with all special methods looked up in the class."""
    kind = type(obj)
    is_plain = all(base in _PLAIN or _is_python_class(base) for base in kind.__mro__)
    if not is_plain or _in_class(kind, "__getnewargs_ex__"):
        return None
    arguments = kind.__getnewargs__(obj) if _in_class(kind, "__getnewargs__") else ()
    getter = _in_class(kind, "__getstate__")
    if getter is None or getter is vars(object).get("__getstate__"):
        state = _default_state(obj)
    else:
        state = getter.__get__(obj, kind)()
    items = iter(obj) if isinstance(obj, list) else None
    pairs = iter(obj.items()) if isinstance(obj, dict) else None
    return copyreg.__newobj__, (kind, *arguments), state, items, pairs, set_state  # type: ignore[attr-defined]


_PLAIN = (object, dict, list, tuple, int, float, complex, str, bytes)
"""Built-in classes whose objects have no state but what is taken apart here."""


def _is_python_class(kind: type) -> bool:
    return bool(kind.__flags__ & 1 << 9)  # Py_TPFLAGS_HEAPTYPE


def _default_state(obj: Any) -> Any:
    attributes = _own_dict(obj)
    slots = {}
    for name in copyreg._slotnames(type(obj)):  # type: ignore[attr-defined]
        try:
            slots[name] = object.__getattribute__(obj, name)
        except AttributeError:  # not assigned
            continue
    return (attributes or None, slots) if slots else attributes or None


def _own_dict(obj: Any) -> dict[str, Any] | None:
    try:
        found = object.__getattribute__(obj, "__dict__")
    except AttributeError:
        return None
    return found if isinstance(found, dict) else None


def _in_class(kind: type, name: str) -> Any:
    """What a class has under ``name``, by itself or through its bases."""
    return next((vars(base)[name] for base in kind.__mro__ if name in vars(base)), None)


def _be_own_dict(obj: dict[str, Any], _: Any) -> None:
    """Make the items of a dictionary its attributes: ``self.__dict__ = self``. Streams refer to this by name."""
    obj.__dict__ = obj


def _exception(error: BaseException) -> Reduced | None:
    """Take apart an exception whose ``__init__`` may take other arguments than its ``args``."""
    kind = type(error)
    reducer = next(base for base in kind.__mro__ if "__reduce__" in vars(base) or "__reduce_ex__" in vars(base))
    if _is_python_class(reducer):
        return None
    state = dict(_own_dict(error) or {})
    chain = {"__cause__": error.__cause__, "__context__": error.__context__}
    chain = {name: other for name, other in chain.items() if other is not None}
    reduced = error.__reduce__()
    arguments = reduced[1] if isinstance(reduced, tuple) else error.args
    contents = state, chain, error.__suppress_context__
    return make_exception, (kind, *arguments), contents, None, None, set_exception_state


def make_exception(kind: type[BaseException], *args: Any) -> BaseException:
    """Make an exception without its own ``__init__``, but with those of built-in classes. Streams refer to this."""
    error = kind.__new__(kind, *args)
    built_in = next(base for base in kind.__mro__ if "__init__" in vars(base) and not _is_python_class(base))
    built_in.__init__(error, *args)  # type: ignore[misc]
    return error


def set_exception_state(error: BaseException, state: tuple[dict[str, Any], dict[str, BaseException], bool]) -> None:
    """Set an exception's attributes. Streams refer to this by name."""
    attributes, chain, suppresses = state
    for name, other in chain.items():
        setattr(error, name, other)
    error.__suppress_context__ = suppresses
    vars(error).update(attributes)


def put(obj: Any, contents: Contents) -> None:
    """Put contents into a new object, in the order in which pickle does."""
    state, items, pairs, setter = contents
    if items is not None:
        if hasattr(type(obj), "extend"):
            obj.extend(items)
        else:
            for item in items:
                obj.append(item)
    for key, value in pairs or ():
        obj[key] = value
    if state is not None:
        (setter or set_state)(obj, state)


def set_state(obj: Any, state: Any) -> None:
    """Set the state of an object, as pickle does. Streams refer to this by name."""
    setter = _in_class(type(obj), "__setstate__")
    if setter is not None:
        setter.__get__(obj, type(obj))(state)
        return
    slots = None
    if isinstance(state, tuple) and len(state) == 2:
        state, slots = state
    if state:
        object.__getattribute__(obj, "__dict__").update(state)
    for name, value in (slots or {}).items():
        object.__setattr__(obj, name, value)
