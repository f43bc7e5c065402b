"""A live view of a run as an anywidget, which may be updated from any thread and sends each point once."""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import anywidget
import numpy as np
import traitlets
from numpy.typing import NDArray

from mlnb.api.read.growable import Array, GrowableColumns
from mlnb.errors import MlnbError

Numbers: TypeAlias = Sequence[float] | Iterable[float] | NDArray[np.generic]

STATIC = Path(__file__).parents[2] / "static"


@functools.cache
def _built(path: Path) -> str:
    """Read a file that the JavaScript build writes."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        msg = f"the widget's front end is not built ({path.name} is missing): run `make js`, or install a wheel"
        raise MlnbError(msg) from None


class RunWidget(anywidget.AnyWidget):  # type: ignore[misc, unused-ignore]  # typed only in some versions
    """One view of one run.

    A view sends ``hello`` when it appears, and gets all points. After that every view gets only new points, with
    their offset. A view that has missed a message sends ``resync``, and gets all points again.

    Parameters
    ----------
    run
        The texts that the view shows: ``id``, ``name``, ``state``, ``reason`` and ``line``.
        Assign a new dictionary to change it.
    """

    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)
    run = traitlets.Dict().tag(sync=True)

    def __init__(self, run: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        self._lock = threading.Lock()  # held while sending, too: messages must arrive in order of offset
        self._metrics: dict[str, GrowableColumns] = {}
        self._displayed = False
        self._stop_callbacks: list[Callable[[], object]] = []
        super().__init__(
            _esm=_built(STATIC / "widget.js"), _css=_built(STATIC / "widget.css"), run=dict(run or {}), **kwargs
        )
        self.on_msg(self._on_message)

    def append(self, metric: str, steps: Numbers, values: Numbers) -> None:
        """Add points of a metric, from any thread, and send them to all views.

        A Jupyter server drops messages beyond a thousand a second: call this with batches, some times a second.

        Parameters
        ----------
        metric
            Its name; a new one starts a new curve.
        steps, values
            One value for each step. Values may be NaN or infinite; ``None`` becomes NaN.

        Raises
        ------
        ValueError
            if there is not one value for each step; then nothing is added.
        """
        step_column, value_column = _column(steps), _column(values)
        with self._lock:
            points = self._metrics.get(metric) or GrowableColumns(2)
            offset = len(points)
            points.append(step_column, value_column)
            self._metrics[metric] = points
            if len(step_column) or not offset:
                self._send_points(metric, offset)

    def put(self, metric: str, offset: int, steps: Numbers, values: Numbers) -> None:
        """Replace the points of a metric from ``offset`` on (``held[offset:] = new``), and send the new ones.

        Raises
        ------
        ValueError
            if fewer than ``offset`` points are held, or there is not one value for each step.
        """
        step_column, value_column = _column(steps), _column(values)
        with self._lock:
            points = self._metrics.setdefault(metric, GrowableColumns(2))
            points.cut(offset)
            points.append(step_column, value_column)
            self._send_points(metric, offset)

    @property
    def is_displayed(self) -> bool:
        """Whether a view has sent ``hello``: a front end shows it."""
        return self._displayed

    def on_stop(self, callback: Callable[[], object]) -> None:
        """Call ``callback`` when the user clicks Stop. It runs in the kernel's main thread."""
        self._stop_callbacks.append(callback)

    def _on_message(self, _widget: object, content: object, _buffers: object) -> None:
        kind = content.get("type") if isinstance(content, dict) else None
        if kind in ("hello", "resync"):
            self._send_all()
        elif kind == "stop":
            for callback in self._stop_callbacks:
                callback()

    def _send_all(self) -> None:
        with self._lock:
            self._displayed = True
            for metric in self._metrics:
                self._send_points(metric, 0)

    def _send_points(self, metric: str, offset: int) -> None:
        """Send a metric's points from ``offset`` on, unless no view exists yet. The caller holds the lock."""
        if not self._displayed:
            return
        points = self._metrics[metric]
        content = {"type": "points", "metric": metric, "offset": offset, "count": len(points) - offset}
        self.send(content, [np.concatenate(points.columns(offset)).astype("<f8", copy=False).tobytes()])


def _column(numbers: Numbers) -> Array:
    """Numbers of any kind as one column of float64; ``None`` becomes NaN."""
    values = numbers if isinstance(numbers, (np.ndarray, Sequence)) else list(numbers)
    column = np.asarray(values, dtype=np.float64)
    if column.ndim != 1:
        msg = f"points of a metric are one-dimensional, these have shape {column.shape}"
        raise ValueError(msg)
    return column
