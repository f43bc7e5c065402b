"""Finds out which numbers that the code reads are of a rank's own part of the data, as a count of right predictions.

What is read of tensors between two meetings of the ranks goes into the header of the second. Where it differs, a note
names the line: nobody can know what the code divides it by, so it is left as it is.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable
from enum import Enum
from types import CodeType, FrameType

from mlnb.node.rank.loss_names import own_frame
from mlnb.node.torch_private import WRITERS

_SLOTS = 4
_VALUES = struct.Struct(f"={_SLOTS}d")
SIZE = _VALUES.size
"""Bytes of a header that are for this."""

_NOTHING = bytes(SIZE)

_TOLERANCE = 1e-4
"""Relative; a GPU doesn't always add up in one order."""


class _File(Enum):
    """Who reads numbers in a file."""

    OWN = "the user's code"
    INTERNAL = "mlnb or torch, for purposes of their own"
    LIBRARY = "another library"


_Key = tuple[CodeType, int]


class OwnReads:
    """The numbers that this rank has read since the ranks last met.

    Parameters
    ----------
    describe
        names the line that a frame executes.
    world
        how many ranks there are.
    add_note
        adds a note to the run's result.
    """

    def __init__(self, describe: Callable[[FrameType], str], world: int, add_note: Callable[[str], None]) -> None:
        self._describe, self._world, self._add_note = describe, world, add_note
        self._lines: dict[_Key, str] = {}
        self._files: dict[str, _File] = {}  # by name
        self._noted: set[_Key] = set()
        self._read: dict[_Key, float] = {}
        self._sent: dict[_Key, float] = {}

    def add(self, value: float, frame: FrameType) -> None:
        """Note that ``value`` was read in ``frame``, or in the function of the user that has led there."""
        filename = frame.f_code.co_filename
        file = self._files.get(filename) or self._files.setdefault(filename, _file(frame))
        if file is _File.INTERNAL:
            return
        own = frame if file is _File.OWN else own_frame(frame)
        if own is None:
            return
        key = (own.f_code, own.f_lasti)
        if key in self._noted:
            return
        if key not in self._lines:
            self._lines[key] = self._describe(own)
        self._read[key] = self._read.get(key, 0.0) + value

    def begin(self, header: bytearray) -> None:
        """Write what was read since the last header into the first bytes of this one."""
        if not self._read:
            self._sent = self._read
            header[:SIZE] = _NOTHING
            return
        self._sent, self._read = self._read, {}
        _VALUES.pack_into(header, 0, *self._values())

    def _values(self) -> list[float]:
        values = list(self._sent.values())
        values[_SLOTS - 1 :] = [sum(values[_SLOTS - 1 :])]
        return values + [0.0] * (_SLOTS - len(values))

    def compare(self, header: bytearray) -> None:
        """Add a note on what the rank that sent ``header`` has read differently."""
        theirs, ours = _VALUES.unpack_from(header), self._values()
        keys = list(self._sent)
        for slot, (their, own) in enumerate(zip(theirs, ours, strict=True)):
            if own != their and not math.isclose(own, their, rel_tol=_TOLERANCE) and own == own:
                self._note(keys[slot : slot + 1] if slot < _SLOTS - 1 else keys[slot:])

    def _note(self, keys: list[_Key]) -> None:
        self._noted.update(keys)
        if keys:
            self._add_note(
                f"{', '.join(self._lines[key] for key in keys)}: what is read there is of each rank's own part of the "
                f"data, and rank 0 shows its own: 1/{self._world} of the samples. A sum of it is to be divided by the "
                "number of samples that the loop has seen, not by the length of the data set; for the whole data, "
                "read it in a loop under torch.no_grad()"
            )


def _file(frame: FrameType) -> _File:
    module = str(frame.f_globals.get("__name__", ""))
    if module.startswith(("torch.", "mlnb.")) and not module.startswith(WRITERS):
        return _File.INTERNAL
    return _File.OWN if own_frame(frame) is frame else _File.LIBRARY
