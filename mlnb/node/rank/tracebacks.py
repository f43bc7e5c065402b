"""Turns an exception of a rank into a report: traceback with the line numbers of the cell, memory figures."""

from __future__ import annotations

import linecache
import re
import resource
import sys
import traceback
from pathlib import PurePath
from types import FrameType
from typing import Any

from mlnb.task import Segment
from mlnb.units import format_size

_MLNB_PATHS = ("mlnb/node/",)
_CPU_ALLOCATION = re.compile(r"you tried to allocate (\d+) bytes", re.IGNORECASE)


def source_location(segments: tuple[Segment, ...], line: int) -> tuple[str, int] | None:
    """Map a line of ``script.py`` to its origin (a cell or file) and the line there; ``None`` for lines of mlnb."""
    for segment in segments:
        if segment.start <= line < segment.start + segment.count:
            return segment.source, segment.origin + line - segment.start
    return None


def describe_line(frame: FrameType, script: str, segments: tuple[Segment, ...]) -> str:
    """Name the line of the user's code that ``frame`` executes, with its text."""
    file, line = frame.f_code.co_filename, frame.f_lineno or 0
    text = linecache.getline(file, line).strip()
    source, number = (source_location(segments, line) if file == script else None) or (PurePath(file).name, line)
    return f"{source}, line {number}" + (f" ({text})" if text else "")


def describe(error: BaseException, script: str, segments: tuple[Segment, ...]) -> dict[str, Any]:
    """Describe an exception as JSON values.

    Returns
    -------
    dict
        ``type``, ``message``, ``text`` (the full traceback), ``source`` and ``line`` (the innermost line of the
        user's code, ``None`` if there is none) and ``memory`` (see :func:`out_of_memory_message`).
    """
    report = traceback.TracebackException.from_exception(error, limit=None)
    locations = _use_source_lines(report, script, segments, set())
    source, line = locations[-1] if locations else (None, None)
    message = _text_of(error)
    return {
        "type": type(error).__name__,
        "message": message,
        "text": "".join(report.format()),
        "source": source,
        "line": line,
        "memory": out_of_memory_message(error, message),
    }


def _text_of(error: BaseException) -> str:
    """An exception's text; empty if its own code raises."""
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - the script's own code
        return ""


def _use_source_lines(
    report: traceback.TracebackException, script: str, segments: tuple[Segment, ...], visited: set[int]
) -> list[tuple[str, int]]:
    """Replace frames in the script by lines of the user's code and remove mlnb's frames; return the user's lines."""
    visited.add(id(report))
    locations: list[tuple[str, int]] = []
    frames: list[traceback.FrameSummary] = []
    for frame in report.stack:
        if frame.filename == script:
            location = source_location(segments, frame.lineno or 0)
            if location is None:
                frames.append(frame)
                continue
            text = linecache.getline(script, frame.lineno or 0).strip()
            frames.append(traceback.FrameSummary(location[0], location[1], frame.name, lookup_line=False, line=text))
            locations.append(location)
        elif not _is_mlnb(frame.filename):
            frames.append(frame)
    report.stack[:] = frames
    if isinstance(report.exc_type, type) and issubclass(report.exc_type, SyntaxError) and report.filename == script:
        location = source_location(segments, int(report.lineno or 0))
        if location is not None:
            report.filename, report.lineno = location[0], str(location[1])
            locations.append(location)
    members = getattr(report, "exceptions", None) or ()  # of an exception group, new in Python 3.11
    for other in (report.__cause__, report.__context__, *members):
        if other is not None and id(other) not in visited:
            _use_source_lines(other, script, segments, visited)
    return locations


def _is_mlnb(filename: str) -> bool:
    path = filename.replace("\\", "/")
    return any(part in path for part in _MLNB_PATHS) or path.startswith("<frozen runpy")


def out_of_memory_message(error: BaseException, message: str) -> str | None:
    """Say how much memory was used, if ``error``, whose text is ``message``, means that it ran out; else ``None``."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.cuda.OutOfMemoryError):
        free, total = torch.cuda.mem_get_info()
        allocated = torch.cuda.memory_allocated()
        return (
            f"out of GPU memory: this rank holds {format_size(allocated)}, "
            f"{format_size(free)} of {format_size(total)} are free. "
            "Smaller batches, or a GPU with more memory (--gpu-memory), would help."
        )
    allocation = _CPU_ALLOCATION.search(message)
    if isinstance(error, MemoryError) or allocation:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        request = f" and asked for {format_size(int(allocation.group(1)))} more" if allocation else ""
        return f"out of memory: this rank held {format_size(peak)} at most{request}."
    return None
