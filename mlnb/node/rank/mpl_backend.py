"""A matplotlib backend that draws with Agg and saves what ``show()`` shows. Ranks select it through MPLBACKEND."""

from __future__ import annotations

from typing import Any

from matplotlib.backend_bases import FigureManagerBase
from matplotlib.backends.backend_agg import FigureCanvasAgg

from mlnb.node.rank import display


class FigureManager(FigureManagerBase):
    """Saves each open figure on ``show()``, then closes it, as notebooks do."""

    @classmethod
    def pyplot_show(cls, *args: Any, **kwargs: Any) -> None:  # noqa: ARG003 - matplotlib's signature
        """Save and close all open figures."""
        from matplotlib import pyplot

        for number in pyplot.get_fignums():
            display.save_figure(pyplot.figure(number))
        pyplot.close("all")


class FigureCanvas(FigureCanvasAgg):
    """Agg, with the manager above."""

    manager_class = FigureManager
