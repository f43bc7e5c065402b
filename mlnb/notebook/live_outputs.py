"""The views of this kernel's runs, brought up to date by one thread that costs next to nothing.

Where the Jupyter server streams the run to the page, the kernel has nothing to do until the end. For front ends that
know only widgets it feeds one with what is new; for the rest it changes the text now and then.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from mlnb.api import Run
from mlnb.api.read.cursor import SeriesCursor
from mlnb.api.read.state import observe
from mlnb.api.read.wire import PIXELS
from mlnb.errors import MlnbError
from mlnb.notebook.output_bundle import MIME, bundle
from mlnb.render.summary import LINES, head, line
from mlnb.rundir import FINAL

LIGHT = 0.5
"""Seconds between two changes of the text, at least."""

WHOLE = 5.0
"""Seconds between two outputs with all curves: what a notebook keeps that is saved before the end."""

SERVED_WHOLE = 30.0
"""The same where the page gets them from the server."""

SERVED = "MLNB_SERVED"
"""Set by our server extension: the folder whose runs it streams."""

_FRONT_ENDS = ("JPY_SESSION_NAME", "VSCODE_", "COLAB_")
"""How names in the environment begin of a kernel that someone looks at; one run for its results alone has none."""


@dataclass
class _LiveOutput:
    """One output that shows a run."""

    run: Run
    handle: Any
    widget: Any = None
    cursor: SeriesCursor = field(default_factory=lambda: SeriesCursor(PIXELS))
    words: str = ""
    state: tuple[str, str] = ("", "")
    began: float = field(default_factory=time.monotonic)
    light: float = field(default_factory=time.monotonic)
    whole: float = field(default_factory=time.monotonic)


class LiveOutputs:
    """The views of this kernel's runs."""

    INTERVAL = 0.25

    def __init__(self) -> None:
        self._views: dict[str, list[_LiveOutput]] = {}
        self._ended: dict[str, list[_LiveOutput]] = {}
        """Outputs of runs that have ended, for those that are resumed."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def show(self, run: Run) -> None:
        """Show ``run`` under the running cell, and follow it if it goes on."""
        from IPython.display import display

        shown = bundle(run)
        ended = shown[MIME]["state"] in FINAL
        widget = None if ended else _widget(run, shown[MIME])
        handle = display({**shown, **_mime(widget)}, raw=True, display_id=True)
        if ended or handle is None:
            return
        with self._lock:
            view = _LiveOutput(run, handle, widget, state=_state(shown))
            # one that was resumed is followed again wherever it is shown
            self._views.setdefault(run.id, self._ended.pop(run.id, [])).append(view)
            if self._thread is None:
                self._thread = threading.Thread(target=self._follow, name="mlnb-views", daemon=True)
                self._thread.start()

    def refresh(self, run: Run) -> None:
        """Bring the views of ``run`` up to date now."""
        with self._lock:
            self._refresh(run.id)

    def _follow(self) -> None:
        while True:
            time.sleep(self.INTERVAL)
            with self._lock, contextlib.suppress(OSError, MlnbError):
                if not self._views:
                    self._thread = None
                    return
                active = [views[0].run for views in self._views.values()]
                for run, seen in zip(active, observe([run.watched for run in active]), strict=True):
                    run.take(seen)
                    self._refresh(run.id)

    def _refresh(self, run_id: str) -> None:
        views = self._views.get(run_id, [])
        if not views:
            return
        if views[0].run.observe().state in FINAL:
            shown = bundle(views[0].run)
            if shown[MIME]["state"] not in FINAL:
                return  # it was resumed meanwhile
            self._ended[run_id] = self._views.pop(run_id)
            for view in views:
                view.handle.update(shown, raw=True)  # without the widget, which a saved notebook couldn't bring back
                if view.widget is not None:
                    view.widget.close()
                    view.widget = None
            return
        for view in views:
            _update(view, time.monotonic())


def _update(view: _LiveOutput, now: float) -> None:
    """Bring one view of a run that goes on up to date, as cheaply as its front end allows."""
    run = view.run
    if view.widget is not None and view.widget.seen:
        _feed(view, now)
        return
    seen = run.observe()
    changed = (seen.state, seen.reason) != view.state
    # curves that have just begun are shown soon
    every = SERVED_WHOLE if served(run) else min(WHOLE, max(LIGHT, 0.5 * (view.whole - view.began)))
    whole = now - view.whole >= every
    if now - view.light < LIGHT or (served(run) and not changed and not whole):
        return
    view.light = now
    words = line(run) + run.tail(LINES)
    if words == view.words and not whole:
        return
    view.words = words
    shown = bundle(run, whole=whole)
    if shown[MIME]["state"] in FINAL:
        return  # the next look finds it too, and shows the end
    view.state = _state(shown)
    view.whole = now if whole else view.whole
    view.handle.update({**shown, **_mime(view.widget)}, raw=True)


def _feed(view: _LiveOutput, now: float) -> None:
    """Send a widget what is new."""
    told = view.run.all_series()
    for update in view.cursor.new(told):
        view.widget.put(update.metric, update.offset, update.steps, update.values)
    if now - view.light >= LIGHT:
        view.light = now
        view.widget.run = {**head(view.run, told, final=False), "updated": 0}


def _state(shown: dict[str, Any]) -> tuple[str, str]:
    return shown[MIME]["state"], shown[MIME]["reason"]


def served(run: Run) -> bool:
    """Whether the server that started this kernel streams ``run`` to the page."""
    folder = os.environ.get(SERVED)
    return folder is not None and str(run.dir.parent) == folder


def has_front_end() -> bool:
    """Whether somebody may look at this kernel's outputs while it lives."""
    return any(name.startswith(_FRONT_ENDS) for name in os.environ)


def _widget(run: Run, said: dict[str, Any]) -> Any:
    """A widget for front ends that have no renderer of ours; ``None`` where nobody could draw it."""
    if not has_front_end():
        return None
    try:
        from mlnb.notebook.widget import RunWidget

        widget = RunWidget({name: value for name, value in said.items() if name != "metrics"})
    except (ImportError, MlnbError):  # the text does without
        return None
    # in a thread: ending takes as long as the run takes to end
    widget.on_stop(lambda: threading.Thread(target=_cancel, args=(run,), daemon=True).start())
    return widget


def _cancel(run: Run) -> None:
    with contextlib.suppress(MlnbError):  # the view goes on to say that it runs
        run.cancel()


def _mime(widget: Any) -> dict[str, Any]:
    if widget is None:
        return {}
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return {"application/vnd.jupyter.widget-view+json": view}
