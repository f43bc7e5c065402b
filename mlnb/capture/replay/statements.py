"""Statements: which of the session's statements changed a library, as far as a run has to repeat them.

A library's configuration isn't an object that could be sent: it is in its modules, classes and extensions. The
session's own statements lead there again: ``logging.basicConfig(…)``, ``plt.rcParams["figure.dpi"] = 80``.
"""

# ruff: noqa: SIM905 - long lists of words are easier to read in one string
from __future__ import annotations

import ast
import dis
import functools
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mlnb.capture.names.analysis import global_reads
from mlnb.capture.names.closures import closure_items
from mlnb.capture.names.effects import dotted_name
from mlnb.capture.outputs import is_array, is_loader, is_trained
from mlnb.capture.source.evaluate import evaluate
from mlnb.capture.source.imports import resolve
from mlnb.capture.source.nodes import Cell, DefNode

_SETTING = frozenset(
    "activate add allow apply autolog basic capture config configure deactivate default define disable enable filter "
    "filterwarnings ignore init initialize install monkey monkeypatch option override pandas patch register "
    "remove reset set simplefilter switch unregister unset update use".split()
)
"""Words with which the names of functions begin that change how a library works."""

_STANDARD = frozenset(
    "abc codecs collections copyreg decimal faulthandler functools gc locale logging mimetypes multiprocessing numbers "
    "resource socket sys threading typing warnings".split()
)
"""Modules of the standard library that have a configuration. What others do is done once: to files, to processes."""

_REGISTERING = frozenset("register unregister install".split())
"""Words with which functions of every module begin that change how the process works."""

_NOT_REPEATED = frozenset("atexit faulthandler os readline select selectors signal webbrowser".split())
"""Modules of the standard library whose registrations are for the session's own process."""

_SETTING_BY_OTHER_NAMES = frozenset({"copyreg.pickle", "csv.field_size_limit"})

_OF_OPERATORS = frozenset({"custom_op", "define", "impl", "impl_abstract", "triton_op"})
"""Functions of ``torch.library`` that register an operator, or what it does: code reaches it as ``torch.ops.x.y``."""

_OWN = frozenset({"IPython", "ipykernel", "ipywidgets", "mlnb", "matplotlib_inline"})
"""Libraries of the session itself."""

_DONE_ONCE = re.compile(
    r"sys\.(path|stdout|stderr|stdin|modules|argv|meta_path|exit|settrace|setprofile)\b|torch\.(cuda\.set_device|set_num_)"
    r"|torch\.distributed\.|matplotlib\.(use|pyplot\.switch_backend)\b|.*\b(seed|manual_seed|set_rng_state|set_state)\b"
)
"""What depends on where a process runs, and the states of generators: these travel as values."""

_PLAIN_STATEMENTS = (ast.Expr, ast.Assign, ast.AugAssign, ast.AnnAssign, ast.Delete)


@dataclass(frozen=True)
class Effect:
    """A statement that changed a library.

    Attributes
    ----------
    cell, node
        where it stands.
    libraries
        the top-level modules that it changes.
    target
        what it assigns to, if its value now is what counts, as ``plt.rcParams['figure.dpi']``.
    """

    cell: Cell
    node: ast.stmt
    libraries: frozenset[str]
    target: ast.Attribute | ast.Subscript | None = None


class EffectFinder:
    """Finds the statements of a session that changed libraries.

    Parameters
    ----------
    namespace
        the session's names.
    imported
        the names whose value one of the session's import statements still gives.
    """

    def __init__(self, namespace: Mapping[str, Any], imported: Mapping[str, str]) -> None:
        self._namespace, self._imported = namespace, imported

    def find(self, cells: Iterable[Cell]) -> Iterator[Effect]:
        """The statements, in the order in which they ran; of several that assign to one target, the last one."""
        found: dict[str, Effect] = {}
        for cell in cells:
            for effect in self.of_cell(cell):
                key = ast.dump(effect.target or effect.node)
                found.pop(key, None)
                found[key] = effect
        yield from found.values()

    def of_cell(self, cell: Cell) -> Iterator[Effect]:
        """The statements at the top level of one cell."""
        for node in cell.tree.body:
            try:
                effect = self._effect(cell, node)
            except Exception:  # noqa: BLE001, S112 - objects of the session failed when asked what they are
                continue
            if effect is not None:
                yield effect

    def _effect(self, cell: Cell, node: ast.stmt) -> Effect | None:
        """``node``, if all that it does is to change libraries."""
        if isinstance(node, (ast.If, ast.For, ast.Try)):
            handlers = [statement for handler in getattr(node, "handlers", ()) for statement in handler.body]
            inner = [*node.body, *node.orelse, *handlers, *getattr(node, "finalbody", ())]
            parts = [self._effect(cell, statement) for statement in inner if not isinstance(statement, ast.Pass)]
            if not parts or any(part is None for part in parts):
                return None
            return Effect(cell, node, frozenset().union(*(part.libraries for part in parts if part)))
        if isinstance(node, DefNode):
            registered_in = frozenset(filter(None, map(self._registering, node.decorator_list)))
            return Effect(cell, node, registered_in) if registered_in else None
        if not isinstance(node, _PLAIN_STATEMENTS):
            return None
        if isinstance(node, ast.Expr):
            libraries = self._changed_by_call(node.value) if isinstance(node.value, ast.Call) else None
            return Effect(cell, node, libraries) if libraries else None
        targets = node.targets if isinstance(node, (ast.Assign, ast.Delete)) else [node.target]
        target = targets[0]
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Call) and isinstance(target, ast.Name):
            libraries = self._changed_by_call(node.value) if self._sets_and_returns(node.value) else None
            return Effect(cell, ast.copy_location(ast.Expr(node.value), node.value), libraries) if libraries else None
        if len(targets) != 1 or not isinstance(target, (ast.Attribute, ast.Subscript)):
            return None
        owner = self._owner(target, any_module=True)
        if owner is None or _DONE_ONCE.match(self._dotted(target)) or owner == "os":
            return None
        return Effect(cell, node, frozenset({owner}), None if isinstance(node, ast.Delete) else target)

    def _registering(self, decorator: ast.expr) -> str | None:
        """The library in which a decorator registers what it is given, as ``@register_dataframe_accessor("x")``."""
        function = decorator.func if isinstance(decorator, ast.Call) else decorator
        if self._registers_operator(function):
            return "torch"
        name = getattr(function, "attr", getattr(function, "id", ""))
        return self._owner(function, _any_module(name)) if _name_parts(name)[:1] == ["register"] else None

    # ---- calls

    def _changed_by_call(self, call: ast.Call) -> frozenset[str] | None:
        """The libraries that a call changes that stands alone."""
        parts = [*call.args, *call.keywords]
        names = {node.id for part in parts for node in ast.walk(part) if isinstance(node, ast.Name)}
        if any(_is_data(self._namespace.get(name)) for name in names):
            return None
        if isinstance(call.func, ast.Name) and call.func.id == "setattr" and call.args:
            owner = self._owner(call.args[0])
            return frozenset({owner}) if owner else None
        receiver = getattr(call.func, "value", None)
        if isinstance(receiver, ast.Name) and _is_operator_library(self._namespace.get(receiver.id)):
            return frozenset({"torch"})
        if self._registers_operator(call.func):
            return frozenset({"torch"})
        dotted = {self._dotted(call.func), self._own_name(call.func)} - {""}
        names = {name.rpartition(".")[2] for name in dotted} | {str(getattr(call.func, "attr", ""))}
        is_named = not dotted.isdisjoint(_SETTING_BY_OTHER_NAMES)
        if any(map(_DONE_ONCE.match, dotted)) or not (is_named or any(map(is_setting, names))):
            return None
        any_module = is_named or any(map(_any_module, names))
        owner = self._owner(call.func, any_module)
        if owner is None and isinstance(call.func, ast.Name):
            owner = _repeated(self._own_name(call.func).split(".")[0], any_module)
        if owner is not None:
            return frozenset({owner})
        function = self._namespace.get(call.func.id) if isinstance(call.func, ast.Name) else None
        return self._changed_by_function(function) if isinstance(function, types.FunctionType) else None

    def _own_name(self, function: ast.expr) -> str:
        """The name that a library's function has there: the session may call it by another name."""
        value = evaluate(function, self._namespace)
        if isinstance(value, types.BuiltinFunctionType) and isinstance(value.__self__, types.ModuleType):
            return f"{value.__self__.__name__}.{value.__name__}"
        if not isinstance(value, types.FunctionType) or value.__module__ in (None, "__main__"):
            return ""
        return f"{value.__module__}.{value.__name__}"

    def _sets_and_returns(self, call: ast.Call) -> bool:
        """Whether what a call returns is no more than a handle, or what was set before: its effect is what counts."""
        name = self._own_name(call.func).rpartition(".")[2]
        is_other = name.startswith(("setup", "setting", "setdefault"))
        return name.startswith(("register_", "set", "enable_", "disable_")) and not is_other

    def _registers_operator(self, function: ast.expr) -> bool:
        """Whether a function, or what one returns, registers something of an operator: ``torch.library.impl(…)(f)``."""
        while isinstance(function, ast.Call):
            function = function.func
        value = evaluate(function, self._namespace)
        if not isinstance(value, types.FunctionType) or not value.__module__.startswith(
            ("torch.library", "torch._lib")
        ):
            return False
        return value.__name__.startswith("register_") or value.__name__ in _OF_OPERATORS

    def _changed_by_function(self, function: types.FunctionType) -> frozenset[str] | None:
        """The libraries that a function of the notebook uses, if it has no part in the session's data."""
        names = global_reads(function.__code__)
        values = [*(self._namespace.get(name) for name in names), *(value for _, value in closure_items(function))]
        if function.__module__ != "__main__" or _assigns_globals(function.__code__) or any(map(_is_data, values)):
            return None
        owners = (self._library_of_name(name) for name in names)
        return frozenset(owner for owner in owners if owner and owner not in ("random", "os")) or None

    # ---- owners

    def _dotted(self, node: ast.expr) -> str:
        """A dotted name, with the module's own name in place of the session's."""
        while isinstance(node, (ast.Subscript, ast.Call)):
            node = node.value if isinstance(node, ast.Subscript) else node.func
        dotted = dotted_name(node) or ""
        root, _, rest = dotted.partition(".")
        value = self._namespace.get(root)
        if isinstance(value, types.ModuleType):
            return f"{value.__name__}.{rest}"
        return f"{self._imported[root]}.{dotted}" if root in self._imported else dotted

    def _owner(self, node: ast.expr, any_module: bool = False) -> str | None:
        """The library whose module, class or object ``node`` starts from; ``None`` if it is the session's own.

        Parameters
        ----------
        any_module
            whether modules of the standard library count that have no configuration.
        """
        while not isinstance(node, ast.Name):
            if isinstance(node, (ast.Attribute, ast.Subscript)):
                node = node.value
            elif isinstance(node, ast.Call):
                node = node.func
            else:
                return None
        return self._library_of_name(node.id, any_module)

    def _library_of_name(self, name: str, any_module: bool = False) -> str | None:
        value = self._namespace.get(name)
        if isinstance(value, types.ModuleType):
            root = value.__name__.split(".")[0]
        elif name in self._imported:
            root = self._imported[name].split(".")[0]
        elif value is not None and is_singleton(value):
            root = type(value).__module__.split(".")[0]
        else:
            return None
        return _repeated(root, any_module)


def _repeated(root: str, any_module: bool) -> str | None:
    """``root``, the name of a module, if what changes the module is repeated in runs."""
    if root in _OWN or root in ("__main__", ""):
        return None
    is_left_out = _NOT_REPEATED.__contains__ if any_module else lambda name: name not in _STANDARD
    return None if root in sys.stdlib_module_names and is_left_out(root) else root


def is_setting(name: str) -> bool:
    """Whether a function's name says that it changes how something works: ``set_option``, ``basicConfig``."""
    parts = _name_parts(name)
    if not parts:
        return False
    return parts[0] in _SETTING or parts[0].startswith("set") or parts[-1] in ("autolog", "config", "defaults")


def _name_parts(name: str) -> list[str]:
    return [word.lower() for word in re.findall(r"[A-Z]?[a-z0-9]+|[A-Z]+(?![a-z])", name)]


def _any_module(function: str) -> bool:
    """Whether a function's name says that it registers something, in whatever module it is."""
    return bool(_REGISTERING.intersection(_name_parts(function)[:1]))


def begins_something(node: ast.stmt) -> bool:
    """Whether a statement starts what the run has ended, as ``wandb.init()``."""
    call = node.value if isinstance(node, ast.Expr) else None
    function = call.func if isinstance(call, ast.Call) else None
    name = str(getattr(function, "attr", getattr(function, "id", "")))
    return name.startswith(("init", "setup"))


def _is_operator_library(value: Any) -> bool:
    """Whether a value is a ``torch.library.Library``: whatever is called on it, or given it, registers in torch."""
    library = sys.modules.get("torch.library")
    return library is not None and isinstance(value, library.Library)


def _is_data(value: Any) -> bool:
    """Whether a value is data that a call may change, and that is sent as it is now."""
    return is_array(value) or is_trained(value) or is_loader(value) or isinstance(value, (list, set, bytearray))


@functools.lru_cache(maxsize=1024)
def _assigns_globals(code: types.CodeType) -> bool:
    """Whether a function binds global names."""
    return any(instruction.opname in ("STORE_GLOBAL", "DELETE_GLOBAL") for instruction in dis.get_instructions(code))


def is_singleton(value: Any) -> bool:
    """Whether a library has this object by a name of its own, as a logger: another process finds its own there."""
    if type(value).__module__ in ("__main__", "builtins") or isinstance(value, (type, types.FunctionType)):
        return False
    try:
        reduced = value.__reduce_ex__(4)
        if isinstance(reduced, str):
            return resolve(getattr(value, "__module__", None) or type(value).__module__, reduced) is value
        made_by, arguments = reduced[:2]
        is_lookup = isinstance(made_by, types.FunctionType) and made_by.__module__ == type(value).__module__
        return is_lookup and len(reduced) == 2 and made_by(*arguments) is value
    except Exception:  # noqa: BLE001 - code of the session's objects
        return False
