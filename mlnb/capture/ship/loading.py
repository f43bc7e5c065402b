"""Loading: a stream is loaded once before it is submitted, if it has objects that might be pickled but not loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.storage import UntypedStorage

from mlnb.capture.reasons import Reason
from mlnb.capture.ship import streams
from mlnb.capture.ship.contents import Content
from mlnb.errors import CannotShip
from mlnb.node.data import objects, storages

LIMIT = 64 * 1024 * 1024
"""Bytes: larger streams are not loaded, since that would take too long."""

_TRUSTED = frozenset({"builtins", "collections", "mlnb", "numpy", "pandas", "torch"})
_HOOKS = frozenset(
    {"__reduce__", "__reduce_ex__", "__setstate__", "__getstate__", "__getnewargs__", "__getnewargs_ex__"}
    | {"__new__", "__getattr__", "__setattr__", "__hash__"}
)


def has_own_way(kind: type) -> bool:
    """Whether a class has code of its own that runs when its objects are loaded."""
    bases = (base for base in kind.__mro__ if base.__module__.partition(".")[0] not in _TRUSTED)
    return any(not _HOOKS.isdisjoint(vars(base)) for base in bases)


def check_loads(
    stream: streams.DataStream,
    main: dict[str, Any],
    earlier: Mapping[str, Any],
    reasons: Mapping[str, Reason],
    dump_alone: Callable[[str], streams.DataStream],
) -> None:
    """Load a stream, in copies of all data, if it holds objects that might not load.

    Parameters
    ----------
    main
        functions and classes by the names that the script has for them.
    earlier
        the values of earlier streams, and what the run makes anew, by name.
    dump_alone
        writes one of the stream's values alone.

    Raises
    ------
    CannotShip
        if it can't be loaded: which value can't, and why.
    """
    if stream.size > LIMIT or not any(map(has_own_way, stream.kinds)):
        return
    error = _loading_error(stream, main, earlier)
    if error is None:
        return
    for name, value in stream.values.items():
        fault = _loading_error(dump_alone(name), main, earlier) if len(stream.values) > 1 else error
        if fault is not None:
            raise CannotShip(
                f"{name}{reasons.get(name, Reason(None))} ({type(value).__name__}) can be pickled, but not loaded: "
                f"{fault}. Create it inside the cell."
            )


def _loading_error(stream: streams.DataStream, main: dict[str, Any], earlier: Mapping[str, Any]) -> str | None:
    try:
        objects.load(stream.stream, _Copies(stream.blobs), objects.Labels(), main, earlier=earlier)
    except Exception as error:  # noqa: BLE001 - the objects' own code
        return f"{type(error).__name__}: {error}".split("\n")[0]
    return None


class _Copies:
    """An :class:`objects.Source` that copies from memory, so that loading changes nothing of the session."""

    def __init__(self, blobs: list[Content]) -> None:
        self._blobs = blobs

    def storage(self, location: storages.Location, nbytes: int) -> UntypedStorage:
        """See :class:`objects.Source`."""
        if nbytes == 0:
            return UntypedStorage(0)
        data = bytearray(location[1]) if location[0] == "bytes" else self.buffer(location)
        return torch.frombuffer(data, dtype=torch.uint8).untyped_storage()

    def buffer(self, location: storages.Location) -> Any:
        """See :class:`objects.Source`."""
        return bytearray(b"".join(map(bytes, self._blobs[location[1]].chunks())))

    def read_into(self, location: storages.Location, storage: UntypedStorage) -> None:
        """See :class:`objects.Source`."""
        storages.as_bytes(storage).copy_(storages.as_bytes(self.storage(location, storage.nbytes())))
