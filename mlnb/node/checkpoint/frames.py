"""Variables of running functions: which functions of the user a loop runs in, and how to set their variables."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

from mlnb.node.rank.loss_names import own_frame


def user_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames of the user's functions that called ``frame``, innermost first.

    Those of libraries, such as progress bars, are left out, as is the script itself: its variables are globals.
    """
    frame = own_frame(frame)
    while frame is not None:
        if frame.f_code.co_name != "<module>" and frame.f_locals is not frame.f_globals:
            yield frame
        frame = own_frame(frame.f_back)


def set_variables(frame: FrameType, values: Mapping[str, Any]) -> None:
    """Set local variables of a running function."""
    variables = frame.f_locals
    variables.update(values)
    if sys.version_info < (3, 13):  # from then on, f_locals writes through (PEP 667)
        ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
