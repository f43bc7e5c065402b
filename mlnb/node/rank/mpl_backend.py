"""A matplotlib backend that draws with Agg and keeps what ``show()`` shows. Set through MPLBACKEND in ranks."""

from __future__ import annotations

from typing import Any

from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mlnb.node.rank import display as kept


class FigureManager(FigureManagerBase):
    """Keeps each open figure on ``show()``, then closes it, as notebooks do."""

    @classmethod
    def pyplot_show(cls, *args: Any, **kwargs: Any) -> None:  # noqa: ARG003 - matplotlib's signature
        """Keep all open figures."""
        from matplotlib import pyplot

        for number in pyplot.get_fignums():
            kept.figure(pyplot.figure(number))
        pyplot.close("all")


class FigureCanvas(FigureCanvasAgg):
    """Agg, with the manager above."""

    manager_class = FigureManager
