"""Updates the outputs that show this kernel's runs, in one thread for all.

If the Jupyter server streams the run to the page, the kernel has little to do until the end. In front ends that support
only widgets it sends new points to a widget; in all others it replaces the text at intervals.
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
from mlnb.render.output_bundle import MIME, bundle
from mlnb.render.summary import OUTPUT_LINES, status_line, summary
from mlnb.rundir import FINAL

TEXT_INTERVAL = 0.5
"""The shortest time in seconds between two updates of the text."""

CURVES_INTERVAL = 5.0
"""Seconds between two outputs with all curves, which a notebook has if it is saved before the end."""

SERVED_CURVES_INTERVAL = 30.0
"""The same if the page gets the curves from the server."""

SERVED = "MLNB_SERVED"
"""Environment variable set by mlnb's server extension: the folder whose runs it streams."""

_FRONT_ENDS = ("JPY_SESSION_NAME", "VSCODE_", "COLAB_")
"""Prefixes of environment variables that front ends set. A kernel without a front end has none of them."""


@dataclass
class _LiveOutput:
    """One output that shows a run.

    Attributes
    ----------
    shown_text, shown_state
        the text, and the state and reason, that it shows now.
    text_changed, curves_changed
        when text and curves were last sent, by ``time.monotonic``.
    """

    run: Run
    handle: Any
    widget: Any = None
    cursor: SeriesCursor = field(default_factory=lambda: SeriesCursor(PIXELS))
    shown_text: str = ""
    shown_state: tuple[str, str] = ("", "")
    began: float = field(default_factory=time.monotonic)
    text_changed: float = field(default_factory=time.monotonic)
    curves_changed: float = field(default_factory=time.monotonic)


class LiveOutputs:
    """The outputs that show this kernel's runs."""

    INTERVAL = 0.25
    """Seconds between two readings of the runs."""

    def __init__(self) -> None:
        self._active: dict[str, list[_LiveOutput]] = {}
        self._ended: dict[str, list[_LiveOutput]] = {}
        """Outputs of runs that have ended: a run may be resumed."""
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def show(self, run: Run) -> None:
        """Show ``run`` under the running cell, and follow it unless it has ended."""
        from IPython.display import display

        shown = bundle(run)
        ended = shown[MIME]["state"] in FINAL
        widget = None if ended else _widget(run, shown[MIME])
        handle = display({**shown, **_widget_view(widget)}, raw=True, display_id=True)
        if ended or handle is None:
            return
        with self._lock:
            output = _LiveOutput(run, handle, widget, shown_state=_state(shown))
            # if the run was resumed, its older outputs are updated again, too
            self._active.setdefault(run.id, self._ended.pop(run.id, [])).append(output)
            if self._thread is None:
                self._thread = threading.Thread(target=self._follow, name="mlnb-outputs", daemon=True)
                self._thread.start()

    def refresh(self, run: Run) -> None:
        """Update the outputs that show ``run`` now."""
        with self._lock:
            self._refresh(run.id)

    def _follow(self) -> None:
        while True:
            time.sleep(self.INTERVAL)
            with self._lock:
                if not self._active:
                    self._thread = None
                    return
                runs = [outputs[0].run for outputs in self._active.values()]
                observations = observe([run.observable for run in runs])
                for run, observation in zip(runs, observations, strict=True):
                    run.record(observation)
                    self._refresh(run.id)

    def _refresh(self, run_id: str) -> None:
        """Update the outputs of one run. If that fails, they stay as they are until the next time; others go on."""
        with contextlib.suppress(Exception):
            self._try_to_refresh(run_id)

    def _try_to_refresh(self, run_id: str) -> None:
        outputs = self._active.get(run_id, [])
        if not outputs:
            return
        if outputs[0].run.observe().state in FINAL:
            shown = bundle(outputs[0].run)
            if shown[MIME]["state"] not in FINAL:
                return  # it was resumed meanwhile
            self._ended[run_id] = self._active.pop(run_id)
            for output in outputs:
                output.handle.update(shown, raw=True)  # without the widget, which a saved notebook could not restore
                if output.widget is not None:
                    output.widget.close()
                    output.widget = None
            return
        for output in outputs:
            _update(output, time.monotonic())


def _update(output: _LiveOutput, now: float) -> None:
    """Update one output of a run that has not ended, at the least cost for its front end."""
    run = output.run
    if output.widget is not None and output.widget.is_displayed:
        _feed(output, now)
        return
    observation = run.observe()
    changed = (observation.state, observation.reason) != output.shown_state
    # curves that have just begun are shown soon
    soon = max(TEXT_INTERVAL, 0.5 * (output.curves_changed - output.began))
    interval = SERVED_CURVES_INTERVAL if served(run) else min(CURVES_INTERVAL, soon)
    with_curves = now - output.curves_changed >= interval
    if now - output.text_changed < TEXT_INTERVAL or (served(run) and not changed and not with_curves):
        return
    output.text_changed = now
    text = status_line(run) + run.tail(OUTPUT_LINES)
    if text == output.shown_text and not with_curves:
        return
    output.shown_text = text
    shown = bundle(run, with_curves=with_curves)
    if shown[MIME]["state"] in FINAL:
        return  # the next reading shows the end
    output.shown_state = _state(shown)
    output.curves_changed = now if with_curves else output.curves_changed
    output.handle.update({**shown, **_widget_view(output.widget)}, raw=True)


def _feed(output: _LiveOutput, now: float) -> None:
    """Send new points to a widget."""
    series = output.run.all_series()
    for update in output.cursor.new(series):
        output.widget.put(update.metric, update.offset, update.steps, update.values)
    if now - output.text_changed >= TEXT_INTERVAL:
        output.text_changed = now
        output.widget.run = {**summary(output.run, series, final=False), "updated": 0}


def _state(shown: dict[str, Any]) -> tuple[str, str]:
    return shown[MIME]["state"], shown[MIME]["reason"]


def served(run: Run) -> bool:
    """Whether the server that started this kernel streams ``run`` to the page."""
    folder = os.environ.get(SERVED)
    return folder is not None and str(run.dir.parent) == folder


def has_front_end() -> bool:
    """Whether this kernel may have a front end that shows its outputs."""
    return any(name.startswith(_FRONT_ENDS) for name in os.environ)


def _widget(run: Run, data: dict[str, Any]) -> Any:
    """A widget for front ends without mlnb's renderer; ``None`` if no front end could draw it."""
    if not has_front_end():
        return None
    try:
        from mlnb.notebook.view.widget import RunWidget

        widget = RunWidget({name: value for name, value in data.items() if name != "metrics"})
    except (ImportError, MlnbError):  # the output is then text only
        return None
    # in a thread: cancelling returns when the run has ended
    widget.on_stop(lambda: threading.Thread(target=_cancel, args=(run,), daemon=True).start())
    return widget


def _cancel(run: Run) -> None:
    with contextlib.suppress(MlnbError):  # the output still says that it runs
        run.cancel()


def _widget_view(widget: Any) -> dict[str, Any]:
    """The part of a MIME bundle that shows a widget; empty without one."""
    if widget is None:
        return {}
    view = {"version_major": 2, "version_minor": 0, "model_id": widget.model_id}
    return {"application/vnd.jupyter.widget-view+json": view}
