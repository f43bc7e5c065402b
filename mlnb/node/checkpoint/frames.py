"""Variables of running functions: which functions of the user a loop runs in, and how to set their variables."""

from __future__ import annotations

import ctypes
import os
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from types import FrameType
from typing import Any

_LIBRARIES = tuple(
    os.path.realpath(path) + os.sep
    for path in {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)


def user_frames(frame: FrameType | None) -> Iterator[FrameType]:
    """The frames of the user's functions that called ``frame``, innermost first.

    Those of libraries, such as progress bars, are left out, as is the script itself: its variables are globals.
    """
    while frame is not None:
        is_module = frame.f_code.co_name == "<module>" or frame.f_locals is frame.f_globals
        if not is_module and frame.f_globals.get("__name__", "").partition(".")[0] != "mlnb" and _is_users(frame):
            yield frame
        frame = frame.f_back


def _is_users(frame: FrameType) -> bool:
    path = frame.f_code.co_filename
    return not path.startswith("<frozen") and not os.path.realpath(path).startswith(_LIBRARIES)


def set_variables(frame: FrameType, values: Mapping[str, Any]) -> None:
    """Set local variables of a running function."""
    variables = frame.f_locals
    variables.update(values)
    if sys.version_info < (3, 13):  # from then on, f_locals writes through (PEP 667)
        ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
