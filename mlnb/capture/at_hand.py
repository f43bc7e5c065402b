"""At hand: the notebook's other definitions, for cells that load pickles or look names up while they run."""

from __future__ import annotations

import ast
import builtins
import functools
import re
import types
from collections.abc import Iterable

from mlnb.capture.reasons import Reason
from mlnb.capture.ship import secrets
from mlnb.capture.slice import Slice
from mlnb.capture.source.definition import DefinitionSource
from mlnb.capture.source.imports import import_location

_LOADS = re.compile(
    r"load|loads|load_\w+|\w+_load|\w*pickle\w*|Unpickler|from_pretrained|from_checkpoint|instantiate|locate|restore"
    r"|eval|exec|globals|locals|vars|import_module|__import__|__main__|shelve|recv|get_object"
)
_ONLY_DATA = frozenset({"load_state_dict", "load_dataset", "load_model_state", "load_weights"})


def looks_names_up(trees: Iterable[ast.AST]) -> bool:
    """Whether code may load a pickle, or look names up by their text: either may need any of the definitions."""
    return any(_looks_names_up(tree) for tree in trees)


@functools.lru_cache(maxsize=2048)
def _looks_names_up(tree: ast.AST) -> bool:
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            word = node.attr
        elif isinstance(node, ast.Name):
            word = node.id
        elif isinstance(node, ast.Constant) and node.value == "__main__":
            return True
        else:
            continue
        if _LOADS.fullmatch(word) and word not in _ONLY_DATA:
            return True
    return False


class AtHand:
    """Adds to a slice the notebook's functions and classes that the script can define.

    A class may need data. A function is left out if it needs any: only a pickle of the function itself would call it.
    """

    def __init__(self, slice_: Slice) -> None:
        self._slice, self._session = slice_, slice_.session
        self._found: dict[str, bool] = {}

    def add(self) -> None:
        """Add them. What they need must be found by ``slice.resolve()``."""
        for name, value in list(self._session.namespace.items()):
            is_definition = isinstance(value, (types.FunctionType, type)) and value.__module__ == "__main__"
            if is_definition and self._session.has(name) and self._is_sent(name, isinstance(value, type)):
                self._slice.need(name, Reason(None))

    def _is_sent(self, name: str, with_data: bool) -> bool:
        if name in self._slice.reasons or name in vars(builtins) or not self._session.has(name):
            return True
        if name not in self._found:
            self._found[name] = True  # definitions may need each other
            self._found[name] = self._can_be_sent(name, with_data)
        return self._found[name]

    def _can_be_sent(self, name: str, with_data: bool) -> bool:
        value = self._session.namespace[name]
        if isinstance(value, types.ModuleType) or import_location(value) is not None:
            return True
        if isinstance(value, (types.FunctionType, type)):
            source = self._slice.finder.by_name(name, value) or self._slice.references.source_of(name, value)
            return source is not None and self._is_complete(source, isinstance(value, type) or with_data)
        if self._slice.checks.is_credential(name, value):
            return False
        is_plain = isinstance(value, (int, float, str, bytes, type(None)))
        return is_plain or (with_data and self._slice.checks.pickling_error(value) is None)

    def _is_complete(self, source: DefinitionSource, with_data: bool) -> bool:
        """Whether all that a definition needs can be sent."""
        if secrets.find_in_source(source.origin.node):
            return False
        if not all(name in vars(builtins) or self._session.has(name) for name in source.required):
            return False
        values = [*source.live_values.values(), *(value for _, value in source.deferred_assignments)]
        if any(self._slice.checks.pickling_error(value) for value in values):
            return False
        return all(self._is_sent(name, with_data) for name in (*source.required, *source.deferred))
