"""IPython's ``display`` for a rank: what it shows is saved in files of the attempt; plain text is printed.

Each is saved under the next number: a picture as ``0001.png``, all else as ``0002.json``, a MIME bundle. A display
never fails the run: a representation that raises is left out.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import sys
import threading
import traceback
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

figures_dir: Path | None = None
"""Where displays are saved; ``None`` in processes that save none (ranks other than 0)."""

CLEAR = "\x1b[H\x1b[2J"
"""Printed to clear what was printed before."""

CLEAR_BEFORE_NEXT = "\x1b[H\x1b[J"
"""Printed to clear what was printed before as soon as something is printed after it."""

_METHODS = {
    "text/html": "_repr_html_",
    "text/markdown": "_repr_markdown_",
    "image/svg+xml": "_repr_svg_",
    "image/png": "_repr_png_",
    "image/jpeg": "_repr_jpeg_",
    "text/latex": "_repr_latex_",
    "application/json": "_repr_json_",
    "application/javascript": "_repr_javascript_",
    "application/pdf": "_repr_pdf_",
}
_BINARY = ("image/png", "image/jpeg", "application/pdf")

_WIDGET = "application/vnd.jupyter.widget-view+json"

_count = 0
_widgets: list[_Widget] = []
_saving_widgets = threading.Lock()
_MAY_CHANGE = 20
"""How many of the newest widgets are saved again while the run goes on; the others are at its end."""
_numbers: dict[str, int] = {}  # of the displays that can be updated, by display_id
_printed_at_clear: int | None = None  # bytes printed when clear_output(wait=True) was called


def begin(folder: Path | None) -> None:
    """Save displays to ``folder`` from now on; ``None`` saves none."""
    global figures_dir
    figures_dir = folder
    os.environ["MPLBACKEND"] = "module://mlnb.node.rank.mpl_backend"


class Handle:
    """A display that can be updated."""

    def __init__(self, display_id: str) -> None:
        self.display_id = display_id

    def display(self, value: Any, **options: Any) -> None:
        """Show ``value`` under the same id."""
        display(value, display_id=self.display_id, **options)

    def update(self, value: Any, **options: Any) -> None:
        """Show ``value`` instead."""
        display(value, display_id=self.display_id, update=True, **options)


def display(
    *values: Any,
    include: Collection[str] | None = None,
    exclude: Collection[str] | None = None,
    metadata: Mapping[str, Any] | None = None,
    display_id: str | bool | None = None,
    raw: bool = False,
    clear: bool = False,
    update: bool = False,
    **_: Any,
) -> Handle | None:
    """Show values; see ``IPython.display.display``."""
    if clear:
        clear_output(wait=True)
    name = uuid4().hex if display_id is True else display_id or None
    for value in values:
        show = None if raw else _method(value, "_ipython_display_")
        if show is not None and _call(show) is not _FAILED:
            continue
        data = dict(value) if raw and isinstance(value, Mapping) else mime_bundle(value)
        chosen = {
            mime: content
            for mime, content in data.items()
            if mime == "text/plain" or ((not include or mime in include) and mime not in (exclude or ()))
        }
        number = publish(chosen, metadata, transient={"display_id": name} if name else None, update=update)
        if _WIDGET in chosen and number is not None:
            _widgets.append(_Widget(number, value))
    return Handle(name) if name else None


def publish(
    data: Mapping[str, Any],
    metadata: Mapping[str, Any] | None = None,
    *,
    transient: Mapping[str, Any] | None = None,
    update: bool = False,
    **_: Any,
) -> int | None:
    """Show a MIME bundle; see ``IPython.display.publish_display_data``. Returns the number under which it is saved."""
    name = (transient or {}).get("display_id")
    if not name and set(data) <= {"text/plain"}:
        print(data.get("text/plain", ""))
        return None
    number = _numbers.get(name) if update and name else None
    number = _save(data, metadata or {}, number)
    if name and number is not None:
        _numbers[name] = number
    return number


def mime_bundle(value: Any) -> dict[str, Any]:
    """The representations of a value, by MIME type; at least ``text/plain``."""
    data: dict[str, Any] = {}
    bundle = _method(value, "_repr_mimebundle_")
    if bundle is not None:
        made = _call(lambda: bundle(include=None, exclude=None))
        made = made[0] if isinstance(made, tuple) else made
        data |= {mime: content for mime, content in made.items() if content} if isinstance(made, Mapping) else {}
    for mime, name in _METHODS.items():
        method = None if mime in data else _method(value, name)
        made = None if method is None else _call(method)
        made = made[0] if isinstance(made, tuple) else made  # with metadata
        if made is not None and made is not _FAILED:
            data[mime] = made
    if "image/png" not in data and _method(value, "savefig") is not None and _method(value, "get_axes") is not None:
        png = _call(lambda: _png_of(value))
        data |= {"image/png": png} if png is not _FAILED else {}
    return {**data, "text/plain": data.get("text/plain") or _text(value)}


def clear_output(wait: bool = False) -> None:
    """Clear what the cell has shown and printed; with ``wait``, as soon as it shows or prints something again."""
    global _printed_at_clear
    for stream in (sys.stdout, sys.stderr):
        stream.write(CLEAR_BEFORE_NEXT if wait else CLEAR)
        stream.flush()
    _printed_at_clear = _printed()
    if not wait:
        _remove_all()


def finish() -> None:
    """End the displays: show the figures that are still open, as a notebook does at the end of a cell."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is not None:
        _call(pyplot.show)
    if _printed_at_clear is not None and _printed() > _printed_at_clear:
        _remove_all()
    save_widgets(everything=True)


def save_widgets(*, everything: bool = False) -> None:
    """Save how the newest widgets look now, as text: nothing outside of this process knows that. Closed ones go.

    May be called from any thread.
    """
    with _saving_widgets, contextlib.suppress(OSError):
        for shown in _widgets[:] if everything else _widgets[-_MAY_CHANGE:]:
            if figures_dir is None or not shown.save(figures_dir):
                _widgets.remove(shown)


def save_figure(figure: Any) -> None:
    """Save a matplotlib figure as a PNG image."""
    png = _call(lambda: _png_of(figure))
    if png is not _FAILED:
        _save({"image/png": png}, {}, None)


def _png_of(figure: Any) -> bytes:
    import io

    file = io.BytesIO()
    figure.savefig(file, format="png", bbox_inches="tight")
    return file.getvalue()


@dataclass
class _Widget:
    """A widget that was displayed, as one of tqdm's bars."""

    number: int
    value: Any
    text: str = ""

    def save(self, folder: Path) -> bool:
        """Save how it looks now; returns whether it is still shown."""
        path = folder / f"{self.number:04d}.json"
        if getattr(self.value, "comm", self) is None:
            path.unlink(missing_ok=True)
        elif path.exists() and (text := _text(self.value)) != self.text:
            self.text = text
            _save({"text/plain": text}, {}, self.number)
        return path.exists()


_FAILED = object()


def _call(function: Any) -> Any:
    """What ``function`` returns; ``_FAILED`` if it raises, with its traceback on standard error."""
    try:
        return function()
    except Exception:  # noqa: BLE001 - the user's own representation
        traceback.print_exc()
        return _FAILED


def _method(value: Any, name: str) -> Any:
    """A method that the value's class defines; instances may answer to any name."""
    if isinstance(value, type) or not callable(getattr(type(value), name, None)):
        return None
    return getattr(value, name)


def _text(value: Any) -> str:
    """A value as text, as a notebook shows it."""
    pretty = sys.modules.get("IPython.lib.pretty")
    text = _call(lambda: pretty.pretty(value) if pretty is not None else repr(value))
    return f"<{type(value).__name__}>" if text is _FAILED else str(text)


def _save(data: Mapping[str, Any], metadata: Mapping[str, Any], number: int | None) -> int | None:
    """Save a display under a number, by default the next; returns the number, if it was saved."""
    global _count
    if figures_dir is None:
        return None
    if _printed_at_clear is not None:
        _remove_all()
    if number is None:
        _count += 1
        number = _count
    figures_dir.mkdir(mode=0o700, exist_ok=True)
    if set(data) <= {"image/png", "text/plain"} and "image/png" in data:
        ending, other, content = "png", "json", _bytes(data["image/png"])
    else:
        shown = {mime: _encoded(item) if mime in _BINARY else item for mime, item in data.items()}
        document = {"data": shown, "metadata": dict(metadata)}
        ending, other, content = "json", "png", json.dumps(document, default=str).encode()
    temporary = figures_dir / f".{number:04d}.tmp"
    temporary.write_bytes(content)
    temporary.rename(figures_dir / f"{number:04d}.{ending}")
    (figures_dir / f"{number:04d}.{other}").unlink(missing_ok=True)
    return number


def _bytes(content: Any) -> bytes:
    return base64.b64decode(content) if isinstance(content, str) else bytes(content)


def _encoded(content: Any) -> str:
    return content if isinstance(content, str) else base64.b64encode(bytes(content)).decode()


def _remove_all() -> None:
    """Remove all displays, for ``clear_output``."""
    global _printed_at_clear
    _printed_at_clear = None
    _numbers.clear()
    _widgets.clear()
    if figures_dir is not None and figures_dir.exists():
        for path in figures_dir.iterdir():
            path.unlink(missing_ok=True)


def _printed() -> int:
    """How many bytes this process's standard output and standard error have."""
    total = 0
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            stream.flush()
            total += os.fstat(number).st_size
        except (OSError, ValueError):
            continue
    return total
