"""Has IPython's display functions, when a cell or a library imports them, show what they are given in the run."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

from mlnb.node.rank import display

_MODULE = "IPython.core.display_functions"


def install() -> None:
    """Replace the functions, now or when their module is imported."""
    if _MODULE in sys.modules:
        _replace(sys.modules[_MODULE])
    else:
        sys.meta_path.insert(0, _Finder())


def _replace(module: ModuleType) -> None:
    """Replace what writes to the notebook; the module's other functions call these."""
    for name, function in (
        ("display", display.display),
        ("publish_display_data", display.publish),
        ("clear_output", display.clear_output),
    ):
        setattr(module, name, function)


class _Finder(MetaPathFinder):
    """Finds the module as usual, but replaces its functions once it is loaded."""

    def find_spec(
        self,
        fullname: str,
        path: Sequence[str] | None,
        target: ModuleType | None = None,  # noqa: ARG002 - the protocol's
    ) -> ModuleSpec | None:
        """See :class:`importlib.abc.MetaPathFinder`."""
        if fullname != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path)
        if spec is not None and spec.loader is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """See :class:`importlib.abc.Loader`."""
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """See :class:`importlib.abc.Loader`."""
        self._loader.exec_module(module)
        _replace(module)
