"""Names losses by the variable before ``.backward()``, where a program has several."""

from __future__ import annotations

import ast
import functools
import linecache
import os
import re
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from types import CodeType, FrameType

DEFAULT = "loss"
_LIBRARIES = tuple(
    os.path.realpath(path) + os.sep
    for path in {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
)
_INSTALLED = re.compile(r"[/\\](?:site|dist)-packages[/\\]|<frozen ")


class LossNames:
    """Finds the name for a call of ``backward()``; each place in the code is looked up once."""

    def __init__(self) -> None:
        self._found: dict[tuple[CodeType, int], str] = {}

    def name(self, frame: FrameType | None) -> str:
        """The name of the loss whose ``backward()`` is called in ``frame``, or by a library that ``frame`` calls.

        ``loss``, unless the function in which the call is written, or its file, has several losses.
        """
        if frame is None:
            return DEFAULT
        position = (frame.f_code, frame.f_lasti)
        name = self._found.get(position)
        if name is None:
            own = own_frame(frame)
            if own is not frame and own is not None:
                return self.name(own)
            name = self._found[position] = DEFAULT if own is None else _look_up(own)
        return name


def own_frame(frame: FrameType | None) -> FrameType | None:
    """The innermost frame of the user's own code."""
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if not module.startswith(("mlnb.", "torch.")) and not _is_installed(frame.f_code.co_filename):
            return frame
        frame = frame.f_back
    return None


@functools.lru_cache(maxsize=1024)
def _is_installed(filename: str) -> bool:
    """Whether a file belongs to Python or to a library."""
    return bool(_INSTALLED.search(filename)) or os.path.realpath(filename).startswith(_LIBRARIES)


@dataclass(frozen=True)
class _Call:
    """A call of ``backward`` in a file: its place, the function that it is in, and the variable."""

    first: int
    last: int
    column: int
    function: int
    variable: str


def _look_up(frame: FrameType) -> str:
    calls = _calls("".join(linecache.getlines(frame.f_code.co_filename)))
    first, last, column = _position(frame)
    call = next(
        (item for item in calls if item.first >= first and item.last <= last and column in (None, item.column)), None
    )
    if call is None:
        return DEFAULT
    in_function = {item.variable for item in calls if item.function == call.function}
    in_file = {item.variable for item in calls if _is_loss(item.variable)} | {call.variable}
    several = len(in_function) > 1 or (len(in_file) > 1 and _is_loss(call.variable))
    return call.variable if several else DEFAULT


def _position(frame: FrameType) -> tuple[int, int, int | None]:
    """First and last line of the call that ``frame`` executes, and its column, which Python 3.10 does not know."""
    line = frame.f_lineno or 0
    positions = getattr(frame.f_code, "co_positions", None)
    if positions is None:
        return line, line, None
    start, end, column, _ = list(positions())[frame.f_lasti // 2]
    return start or line, end or start or line, column


@functools.lru_cache(maxsize=64)
def _calls(source: str) -> list[_Call]:
    """The calls of ``backward`` in a file, of those whose variable can be told."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return []
    return list(_calls_in(tree, 0))


def _calls_in(node: ast.AST, function: int) -> Iterator[_Call]:
    """The calls below a node of the function that begins in line ``function``."""
    for child in ast.iter_child_nodes(node):
        if (
            isinstance(child, ast.Call)
            and isinstance(child.func, ast.Attribute)
            and child.func.attr.endswith("backward")
        ):
            variable = _variable_of(child, child.func.value)
            if variable is not None:
                yield _Call(child.lineno, child.end_lineno or child.lineno, child.col_offset, function, variable)
        is_function = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef))
        yield from _calls_in(child, getattr(child, "lineno", 0) if is_function else function)


def _variable_of(call: ast.Call, receiver: ast.expr) -> str | None:
    """The loss in ``loss.backward()``, ``scaler.scale(loss).backward()`` or ``accelerator.backward(loss)``."""
    own = _variable(receiver)
    given = _variable(call.args[0]) if call.args else None
    if own == "autograd":  # torch.autograd.backward(loss)
        return given
    if given is None or (own is not None and _is_loss(own) and not _is_loss(given)):
        return own
    return given


def logged_by(source: str) -> set[str]:
    """The names of the metrics that a program logs by ``mlnb.log(name=…)``, as far as it is written so."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError):
        return set()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("mlnb.log", "log"):
            names |= {keyword.arg for keyword in node.keywords if keyword.arg is not None}
    return names - {"step"}


def _is_loss(name: str) -> bool:
    return any(part in name.lower() for part in ("loss", "err", "cost", "objective"))


def _variable(node: ast.expr) -> str | None:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        return node.attr
    if isinstance(node, (ast.List, ast.Tuple)):
        return _variable(node.elts[0]) if len(node.elts) == 1 else None
    if isinstance(node, ast.Subscript):
        index = node.slice
        return (
            index.value if isinstance(index, ast.Constant) and isinstance(index.value, str) else _variable(node.value)
        )
    if isinstance(node, ast.Call):
        given = _variable(node.args[0]) if node.args else None
        return given if given is not None or not isinstance(node.func, ast.Attribute) else _variable(node.func.value)
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Div)):
        sides = [_variable(side) for side in (node.left, node.right)]
        return next((side for side in sides if side is not None and _is_loss(side)), sides[0])
    return None
