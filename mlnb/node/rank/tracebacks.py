"""Exceptions as the person who wrote the cell wants them: the cell's own line numbers, and memory in numbers."""

from __future__ import annotations

import linecache
import re
import resource
import sys
import traceback
from typing import Any

from mlnb.task import Segment
from mlnb.units import format_size

_OWN = ("mlnb/node/",)
_CPU_ALLOCATION = re.compile(r"you tried to allocate (\d+) bytes", re.IGNORECASE)


def where(segments: tuple[Segment, ...], line: int) -> tuple[str, int] | None:
    """The person's own source and line for a line of ``script.py``."""
    for segment in segments:
        if segment.start <= line < segment.start + segment.count:
            return segment.source, segment.origin + line - segment.start
    return None


def describe(error: BaseException, script: str, segments: tuple[Segment, ...]) -> dict[str, Any]:
    """An exception as JSON values.

    Returns
    -------
    dict
        ``type``, ``message``, ``text`` (the whole traceback), ``source`` and ``line`` (the innermost line that
        the person wrote) and, where memory ran out, ``memory`` in words.
    """
    report = traceback.TracebackException.from_exception(error, limit=None)
    own = _rewrite(report, script, segments, set())
    source, line = own[-1] if own else (None, None)
    return {
        "type": type(error).__name__,
        "message": str(error),
        "text": "".join(report.format()),
        "source": source,
        "line": line,
        "memory": memory(error),
    }


def _rewrite(
    report: traceback.TracebackException, script: str, segments: tuple[Segment, ...], seen: set[int]
) -> list[tuple[str, int]]:
    """Replace frames in the script by the person's own lines, and drop ours; what was replaced."""
    seen.add(id(report))
    own: list[tuple[str, int]] = []
    kept: list[traceback.FrameSummary] = []
    for frame in report.stack:
        if frame.filename == script:
            place = where(segments, frame.lineno or 0)
            if place is None:
                kept.append(frame)
                continue
            text = linecache.getline(script, frame.lineno or 0).strip()
            kept.append(traceback.FrameSummary(place[0], place[1], frame.name, lookup_line=False, line=text))
            own.append(place)
        elif not _is_ours(frame.filename):
            kept.append(frame)
    report.stack[:] = kept
    if isinstance(report.exc_type, type) and issubclass(report.exc_type, SyntaxError) and report.filename == script:
        place = where(segments, int(report.lineno or 0))
        if place is not None:
            report.filename, report.lineno = place[0], str(place[1])
            own.append(place)
    for other in (report.__cause__, report.__context__):
        if other is not None and id(other) not in seen:
            _rewrite(other, script, segments, seen)
    return own


def _is_ours(filename: str) -> bool:
    path = filename.replace("\\", "/")
    return any(part in path for part in _OWN) or path.startswith("<frozen runpy")


def memory(error: BaseException) -> str | None:
    """What is known of the memory, in words, if ``error`` says that it ran out."""
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(error, torch.cuda.OutOfMemoryError):
        free, total = torch.cuda.mem_get_info()
        ours = torch.cuda.memory_allocated()
        return (
            f"out of GPU memory: this rank holds {format_size(ours)}, "
            f"{format_size(free)} of {format_size(total)} are free. "
            "Smaller batches, or a GPU with more memory (--gpu-memory), would help."
        )
    asked = _CPU_ALLOCATION.search(str(error))
    if isinstance(error, MemoryError) or asked:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        wanted = f" and asked for {format_size(int(asked.group(1)))} more" if asked else ""
        return f"out of memory: this rank held {format_size(peak)} at most{wanted}."
    return None
