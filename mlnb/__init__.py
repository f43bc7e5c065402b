"""Run notebook cells as training jobs. Start: ``%load_ext mlnb``, then ``%%train`` on top of a cell.

``%%train?`` shows the options, ``%runs`` the runs, ``mlnb.runs`` gives them to Python; ``mlnb --help`` for the command
line.
"""

# Ranks import this module too: everything but the version is loaded on first use. Python 3.6 can read it, so that the
# node program can say that it needs a newer one (mlnb.node.requirements).

from importlib import import_module
from typing import TYPE_CHECKING, Any

from mlnb.version import __version__

if TYPE_CHECKING:
    from mlnb.api import runs
    from mlnb.node.checkpoint.epochs import epochs
    from mlnb.node.rank.log import log
    from mlnb.notebook import load_ipython_extension

__all__ = ["__version__", "epochs", "load_ipython_extension", "log", "runs"]

_LAZY = {
    "epochs": "mlnb.node.checkpoint.epochs",
    "load_ipython_extension": "mlnb.notebook",
    "log": "mlnb.node.rank.log",
    "runs": "mlnb.api",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'mlnb' has no attribute {name!r}")
    value = getattr(import_module(_LAZY[name]), name)
    globals()[name] = value
    return value


def _jupyter_server_extension_points() -> "list[dict[str, str]]":
    """The modules of the server extension, as Jupyter servers look them up."""
    return [{"module": "mlnb.server"}]


def __dir__() -> "list[str]":
    return sorted(__all__)
