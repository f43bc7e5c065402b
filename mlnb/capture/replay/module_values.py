"""Module values: which attributes of local modules are no longer what the modules' source gives them."""

from __future__ import annotations

import ast
import enum
import functools
import sys
import types
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from mlnb.capture.outputs import is_array, is_loader, is_trained
from mlnb.capture.source.bytecode import CodeKey, all_codes, code_key
from mlnb.capture.source.evaluate import UNKNOWN, constant, equal
from mlnb.capture.source.modules import LocalModules, parsed
from mlnb.capture.source.nodes import top_level
from mlnb.node.data.kinds import caches
from mlnb.node.script.module_values import CACHE

_PLAIN = (bool, int, float, complex, str, bytes, tuple, frozenset, type(None))

_CONTAINERS = (list, dict, set, bytearray)


def local_modules(modules: LocalModules) -> Iterator[types.ModuleType]:
    """The loaded modules that are sent."""
    for name, module in sys.modules.copy().items():  # a list of the items could meet an import
        if (
            name.split(".")[0] in modules.sizes
            and type(module) is types.ModuleType
            and getattr(module, "__file__", None)
        ):
            yield module


def changed_values(module: types.ModuleType, assigned: Collection[str]) -> Iterator[tuple[str, Any]]:
    """The attributes of a module, of its classes and functions, that its source wouldn't give their values.

    Lists and the like are always among them: what the cell puts into them comes back into the session's own.

    Parameters
    ----------
    assigned
        dotted attributes that the session has assigned: their values count, whatever the source says.
    """
    tree = parsed(Path(str(module.__file__)))
    codes = _codes(tree) if tree else None
    if tree is None or codes is None:
        return
    written, imported, defined = _bindings(tree)
    for name, value in list(vars(module).items()):
        if name.startswith("__") or isinstance(value, types.ModuleType):
            continue
        if name in assigned:
            yield name, value
        elif name in imported:
            continue
        elif isinstance(value, caches.KIND):
            made = caches.entries(value)
            yield from [(f"{name}.{CACHE}", made)] if made else []
        elif isinstance(value, (types.FunctionType, type)):
            yield from _of_definition(module, name, value, defined.get(name), codes, assigned)
        elif isinstance(value, _CONTAINERS) or (_differs(written[name], value) if name in written else _is_data(value)):
            yield name, value


@functools.lru_cache(maxsize=256)
def _codes(tree: ast.Module) -> frozenset[CodeKey] | None:
    """The functions of a module's source; ``None`` if it doesn't compile."""
    try:
        return frozenset(code_key(code) for code in all_codes(compile(tree, "<module>", "exec", dont_inherit=True)))
    except (SyntaxError, ValueError, RecursionError):
        return None


def _of_definition(
    module: types.ModuleType,
    name: str,
    value: types.FunctionType | type,
    node: ast.stmt | None,
    codes: Collection[CodeKey],
    assigned: Collection[str],
) -> Iterator[tuple[str, Any]]:
    """What differs from the source in a function or class of a module, or in its place."""
    if value.__module__ != module.__name__:
        if node is not None:
            yield name, value
    elif isinstance(value, types.FunctionType):
        yield from ((f"{name}.{key}", v) for key, v in vars(value).items() if _is_data(v) and key[:2] != "__")
    elif node is not None:
        attributes = dict(_of_class(node, value, codes))
        attributes |= {f"{key}.{CACHE}": made for key, f in caches.of_class(value) if (made := caches.entries(f))}
        attributes |= {key: v for key, v in vars(value).items() if f"{name}.{key}" in assigned}
        yield from ((f"{name}.{key}", v) for key, v in attributes.items())


def _bindings(tree: ast.Module) -> tuple[dict[str, ast.expr], set[str], dict[str, ast.stmt]]:
    """What the top level of a module binds: names to expressions, by imports, by definitions."""
    written: dict[str, ast.expr] = {}
    imported: set[str] = set()
    defined: dict[str, ast.stmt] = {}
    for node in top_level(tree):
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            imported |= {alias.asname or alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            defined[node.name] = node
        elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            written.update({target.id: node.value for target in targets if isinstance(target, ast.Name)})
        else:
            names = [n for n in ast.walk(node) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)]
            written.update({name.id: ast.Name("_", ast.Load()) for name in names})
    return written, imported, defined


def _differs(expression: ast.expr, value: Any) -> bool:
    """Whether a value is not, or may be not, what an expression gives when the module is imported."""
    if isinstance(value, _PLAIN):  # that of other expressions is found anew: a device, a path, the number of cores
        written = constant(expression)
        return written is not UNKNOWN and not equal(written, value)
    return _is_state(value)


def _is_state(value: Any) -> bool:
    """Whether an object holds what the session may have changed: an instance of a local class, a model."""
    kind = type(value)
    if isinstance(value, enum.Enum) or is_array(value) or is_loader(value):
        return False
    if is_trained(value) or isinstance(value, (types.SimpleNamespace, *_CONTAINERS)):
        return True
    root = kind.__module__.split(".")[0]
    return root == "__main__" or (root not in sys.stdlib_module_names and _is_local(root))


def _is_local(root: str) -> bool:
    return LocalModules(Path.cwd()).is_local(root)


def _of_class(node: ast.stmt, cls: type, codes: Collection[CodeKey]) -> Iterator[tuple[str, Any]]:
    """The attributes of a module's class that its ``class`` statement wouldn't give their values."""
    if issubclass(cls, (enum.Enum, tuple)) or not isinstance(node, ast.ClassDef):
        return
    written, _, defined = _bindings(ast.Module(node.body, []))
    for name, value in list(vars(cls).items()):
        function = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
        if name.startswith("__") and name.endswith("__") and name not in defined:
            continue
        if isinstance(function, types.FunctionType):
            is_own = function.__module__ == cls.__module__ and (code_key(function.__code__) in codes)
            if (not is_own and name in defined and not getattr(defined[name], "decorator_list", ())) or (
                name not in defined and name not in written and function.__module__ == "__main__"
            ):
                yield name, value
        elif name in written:
            if isinstance(value, _CONTAINERS) or _differs(written[name], value):
                yield name, value
        elif name not in defined and not node.decorator_list and not name.startswith("_") and _is_data(value):
            yield name, value


def _is_data(value: Any) -> bool:
    return isinstance(value, (*_PLAIN, *_CONTAINERS)) or is_array(value) or is_trained(value)
