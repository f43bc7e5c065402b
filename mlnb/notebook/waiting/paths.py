"""Paths that a program names: those that it may write, and those that it reads, judged by its syntax and live values.

A path is a pattern: what isn't known before the program runs is ``*``.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

_READS = re.compile(
    r"(read|load|parse|glob|rglob|iglob|exists|isfile|isdir|is_file|is_dir|listdir|scandir|walk|stat|getsize|getmtime"
    r"|imread|fromfile|genfromtxt|fromstring|from_pretrained|from_file|import_module|find_spec|compile|getenv"
    r"|ImageFolder|load_dataset)|.*(_loads?|Dataset|read_\w+|load_\w+)",
)
_WRITES = re.compile(
    r"save\w*|dump|write_\w+|to_(csv|json|parquet|pickle|hdf|excel|feather|file|disk|netcdf|zarr|html|markdown|stata)"
    r"|export\w*|mkdir|makedirs|touch|SummaryWriter|FileHandler|\w*FileHandler"
)
_PATH_METHODS = frozenset({"write_text", "write_bytes", "mkdir", "touch", "open", "unlink", "rename"})
_MODE = re.compile(r"[rwax][bt+]{0,2}")
_PLACE = re.compile(r"(.*_)?(dir|dirpath|path|folder|file|filename|output|out|to)")
_LIKE_PATH = re.compile(r"[^\s\0]*(/[^\s\0]*|\.[A-Za-z][A-Za-z0-9]{0,9})")
_FIELDS = re.compile(r"%[-#0 +]*\d*(?:\.\d+)?[a-zA-Z]|\{[^{}]*\}")
_DEPTH = 8


@dataclass
class Paths:
    """Paths that a program names.

    Attributes
    ----------
    written
        patterns of what it may write, as it names them.
    read
        patterns of what it reads.
    unknown
        whether it writes something whose path can't be known before.
    """

    written: set[str] = field(default_factory=set)
    read: set[str] = field(default_factory=set)
    unknown: bool = False


def named_in(tree: ast.AST, namespace: Mapping[str, Any]) -> Paths:
    """The paths that ``tree`` names; names that it doesn't assign have their values in ``namespace``."""
    return _Finder(tree, namespace).find()


class _Finder:
    def __init__(self, tree: ast.AST, namespace: Mapping[str, Any]) -> None:
        self._tree, self._namespace = tree, namespace
        self._assigned: dict[str, list[ast.expr]] = {}
        self._opaque: set[str] = set()
        self._modes: set[ast.expr] = set()
        self._mentioned: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    self._note_assigned(target, node.value)
            elif isinstance(node, ast.withitem) and isinstance(node.optional_vars, ast.Name):
                self._opaque.add(node.optional_vars.id)
            elif isinstance(node, ast.arg):
                self._opaque.add(node.arg)
            elif isinstance(node, (ast.For, ast.comprehension)):
                self._opaque |= {name.id for name in ast.walk(node.target) if isinstance(name, ast.Name)}

    def _note_assigned(self, target: ast.expr, value: ast.expr) -> None:
        if isinstance(target, ast.Name):
            self._assigned.setdefault(target.id, []).append(value)
        else:
            self._opaque |= {
                name.id for name in ast.walk(target) if isinstance(name, ast.Name) and isinstance(name.ctx, ast.Store)
            }

    def find(self) -> Paths:
        found = Paths()
        for node in ast.walk(self._tree):
            if isinstance(node, ast.Call):
                self._add_call(node, found)
            elif isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                self._mentioned |= self._patterns(node.value)
        like_paths = {text for text in self._mentioned if _LIKE_PATH.fullmatch(text) and text.strip("*/.")}
        found.written |= like_paths - found.read
        return found

    def _add_call(self, call: ast.Call, found: Paths) -> None:
        function = call.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        values = [*call.args, *(keyword.value for keyword in call.keywords)]
        if isinstance(function, ast.Attribute) and (name in _PATH_METHODS or _READS.fullmatch(name)):
            values.append(function.value)
        mode = self._mode(call, name)
        patterns = {text for value in values if value not in self._modes for text in self._patterns(value)}
        if mode == "r" or (mode is None and _READS.fullmatch(name)):
            found.read |= patterns
        elif mode is not None or _WRITES.fullmatch(name):
            specific = {text for text in patterns if text.strip("*/.")}
            found.written |= specific
            found.unknown = found.unknown or not (specific or any(map(self._is_handle, values)))
        else:
            self._mentioned |= patterns
            named = [keyword.value for keyword in call.keywords if _PLACE.fullmatch(keyword.arg or "")]
            found.written |= {text for value in named for text in self._patterns(value)}

    def _is_handle(self, value: ast.expr) -> bool:
        """Whether ``value`` is an open file, whose path was seen where it was opened."""
        if isinstance(value, ast.Name):
            return value.id in self._opaque
        return isinstance(value, ast.Call) and getattr(value.func, "attr", getattr(value.func, "id", "")) == "open"

    def _mode(self, call: ast.Call, name: str) -> str | None:
        """``w`` if a call opens a file to write it, ``r`` to read it; ``None`` if it opens none."""
        is_method = isinstance(call.func, ast.Attribute) and name == "open" and len(call.args) < 2
        positional = call.args[:1] if is_method else call.args[1:2]
        given = [*positional, *(keyword.value for keyword in call.keywords if keyword.arg == "mode")]
        modes = [value for value in given if isinstance(value, ast.Constant) and _MODE.fullmatch(str(value.value))]
        self._modes.update(modes)
        if modes:
            return "r" if all(str(mode.value)[0] == "r" and "+" not in str(mode.value) for mode in modes) else "w"
        return "r" if name == "open" else None

    # ---- patterns

    def _patterns(self, node: ast.expr, depth: int = 0) -> set[str]:
        """What text or path an expression may give; empty if it is neither."""
        if depth > _DEPTH:
            return set()
        if isinstance(node, ast.Constant):
            return {node.value} if isinstance(node.value, str) and 0 < len(node.value) < 1000 else set()
        if isinstance(node, ast.JoinedStr):
            parts = [self._part(part, depth) for part in node.values]
            return {_joined(*choice) for choice in _product(parts)}
        if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Add, ast.Div, ast.Mod)):
            return self._operation(node, depth)
        if isinstance(node, ast.Call):
            return self._call(node, depth)
        if isinstance(node, ast.Name):
            return self._name(node.id, depth)
        if isinstance(node, (ast.Attribute, ast.Subscript)):
            return self._item(node, depth) or _as_text(self._value(node))
        if isinstance(node, ast.IfExp):
            return self._patterns(node.body, depth + 1) | self._patterns(node.orelse, depth + 1)
        return set()

    def _part(self, part: ast.expr, depth: int) -> set[str]:
        if not isinstance(part, ast.FormattedValue):
            return self._patterns(part, depth + 1)
        if part.format_spec is None:
            value = self._value(part.value)
            if isinstance(value, (int, float, str, PurePath)):
                return {str(value)}
            return self._patterns(part.value, depth + 1) or {"*"}
        return {"*"}

    def _operation(self, node: ast.BinOp, depth: int) -> set[str]:
        left = self._patterns(node.left, depth + 1)
        if isinstance(node.op, ast.Mod):
            return {_FIELDS.sub("*", text) for text in left}
        right = self._patterns(node.right, depth + 1)
        if not left and not right:
            return set()
        between = "/" if isinstance(node.op, ast.Div) else ""
        return {_joined(a, between, b) for a, b in _product([left or {"*"}, right or {"*"}])}

    def _call(self, node: ast.Call, depth: int) -> set[str]:
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        if name == "format" and isinstance(node.func, ast.Attribute):
            return {_FIELDS.sub("*", text) for text in self._patterns(node.func.value, depth + 1)}
        if name in ("join", "joinpath", "Path", "PurePath", "str", "fspath", "abspath", "realpath", "resolve"):
            parts = [self._patterns(argument, depth + 1) or {"*"} for argument in node.args]
            if name in ("joinpath", "resolve") and isinstance(node.func, ast.Attribute):
                parts.insert(0, self._patterns(node.func.value, depth + 1) or {"*"})
            return {str(PurePath(*choice)) for choice in _product(parts)} if parts else set()
        return set()

    def _name(self, name: str, depth: int) -> set[str]:
        if name in self._assigned:
            return {text for value in self._assigned[name] for text in self._patterns(value, depth + 1)}
        return set() if name in self._opaque else _as_text(self._namespace.get(name))

    def _item(self, node: ast.expr, depth: int) -> set[str]:
        """``a["b"]`` where the program assigns a dictionary to ``a``."""
        if not (isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant)):
            return set()
        values = self._assigned.get(node.value.id, ()) if isinstance(node.value, ast.Name) else ()
        found: set[str] = set()
        for value in values:
            if isinstance(value, ast.Dict):
                for key, item in zip(value.keys, value.values, strict=True):
                    if isinstance(key, ast.Constant) and key.value == node.slice.value:
                        found |= self._patterns(item, depth + 1)
        return found

    def _value(self, node: ast.expr) -> Any:
        """The live value of ``a``, ``a.b`` and ``a["b"]``, without running code of the session; else ``None``."""
        if isinstance(node, ast.Name):
            is_of_session = node.id not in self._assigned and node.id not in self._opaque
            return self._namespace.get(node.id) if is_of_session else None
        if isinstance(node, ast.Attribute):
            owner = self._value(node.value)
            try:
                return (vars(owner) if isinstance(owner, type) else object.__getattribute__(owner, "__dict__"))[
                    node.attr
                ]
            except (AttributeError, KeyError, TypeError):
                return None
        if isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
            owner = self._value(node.value)
            return owner.get(node.slice.value) if type(owner) is dict else None
        return None


def _as_text(value: Any) -> set[str]:
    return {str(value)} if isinstance(value, (str, PurePath)) and 0 < len(str(value)) < 1000 else set()


def _joined(*parts: str) -> str:
    return re.sub(r"\*+", "*", "".join(parts))


def _product(parts: list[set[str]]) -> Iterator[tuple[str, ...]]:
    """All choices of one from each set, the first hundred of them."""
    choices: list[tuple[str, ...]] = [()]
    for options in parts:
        choices = [(*choice, option) for choice in choices for option in sorted(options)][:100]
    yield from choices
