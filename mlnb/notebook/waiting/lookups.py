"""Names that code looks up as strings: ``globals()["x"]``, ``frame.query("a > @x")``, ``!echo {x}``, ``%time f(x)``.

Code that ``eval`` and ``exec`` run is not analysed here: :mod:`mlnb.notebook.waiting.hook` sees it when it runs.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import CodeType

_FUNCTIONS = frozenset({"globals", "locals", "vars", "dir"})
"""Functions that give all names of the session, if they are called without arguments."""

_NAMESPACES = frozenset({"user_ns", "user_global_ns", "__main__", "f_globals", "f_locals"})
"""What else gives them."""

_LISTINGS = frozenset({"who", "who_ls", "whos"})
"""Line magics that show them."""

_LINE_ARGUMENTS = {"run_line_magic": 2, "run_cell_magic": 2, "system": 1, "getoutput": 1}
"""Methods of the shell that a transformed cell calls, and how many of their arguments are a line."""

_NOT_PYTHON = frozenset(
    {
        "bash",
        "file",
        "html",
        "javascript",
        "js",
        "latex",
        "markdown",
        "perl",
        "ruby",
        "script",
        "sh",
        "svg",
        "writefile",
    }
)
"""Cell magics whose body names nothing of the session."""

_BINDING = _NAMESPACES | {"exec", "globals", "__globals__", "get_ipython", "_getframe", "currentframe", "f_back"}
"""What code uses that binds names of the session by other means than its syntax."""

_QUERIES = frozenset({"query", "eval", "evaluate", "format_map", "ev", "ex", "run_cell", "push"})
"""Methods that look up names of the calling code in a string."""

_IDENTIFIER, _QUERIED = re.compile(r"[^\W\d]\w*"), re.compile(r"@([^\W\d]\w*)")


@dataclass
class Lookups:
    """What code looks up as strings.

    Attributes
    ----------
    names
        names, and other words in such strings.
    everything
        whether it may look up any name.
    queries
        whether it queries data frames, so that ``@x`` in any string may be a name.
    """

    names: set[str] = field(default_factory=set)
    everything: bool = False
    queries: bool = False

    def joined(self, other: Lookups) -> Lookups:
        """Both together."""
        return Lookups(self.names | other.names, self.everything or other.everything, self.queries or other.queries)


def queried(strings: Iterable[str]) -> set[str]:
    """The names after ``@`` in strings."""
    return {name for text in strings if "@" in text for name in _QUERIED.findall(text)}


def in_tree(tree: ast.Module) -> Lookups:
    """What a cell, as IPython has transformed it, looks up as strings."""
    found, parents = Lookups(), _parents(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found.names |= set(_in_line(node, node.func.attr))
            found.everything |= node.func.attr == "run_line_magic" and _first_argument(node) in _LISTINGS
            if node.func.attr in _QUERIES:
                found.names |= {name for text in _constants(node) for name in _IDENTIFIER.findall(text)}
                found.queries = found.queries or bool(node.args)
        if (_mentioned(node) in _NAMESPACES or _is_called(node, parents)) and not _is_local(node, parents):
            _add_key(node, parents, found)
    return found


def binds_more(tree: ast.AST) -> bool:
    """Whether code may bind names of the session that its syntax doesn't show: by ``exec``, ``globals()``, ``*``."""
    parents = _parents(tree)
    return any(_binds_more(node, parents) for node in ast.walk(tree))


def _binds_more(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    if isinstance(node, ast.ImportFrom):
        return node.names[0].name == "*"
    if isinstance(node, ast.Attribute) and node.attr == "modules":  # not torch's method: sys.modules[__name__]
        return _mentioned(node.value) == "sys"
    if isinstance(node, ast.Name) and node.id == "eval":  # not torch's method
        return True
    return (_mentioned(node) in _BINDING or _is_called(node, parents)) and not _is_local(node, parents)


def _parents(tree: ast.AST) -> dict[ast.AST, ast.AST]:
    return {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}


def in_code(code: CodeType) -> Lookups:
    """What a function looks up as strings: its strings, where it asks for all names of the session."""
    strings = set(code_strings(code))
    names = queried(strings) if "query" in code.co_names or "eval" in code.co_names else set()
    if not {"globals", "user_ns", "f_globals", "__main__"}.intersection(code.co_names):
        return Lookups(names)
    names |= {text for text in strings if text.isidentifier()}
    return Lookups(names, not names)


def _is_local(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether ``node`` is no name of the session: ``locals`` in a function, ``__main__`` that is compared."""
    if isinstance(node, ast.Constant):
        return not isinstance(parents.get(node), (ast.Subscript, ast.Call))
    while _mentioned(node) in ("locals", "vars", "dir", "f_locals", None) and node in parents:
        node = parents[node]
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            return True
    return False


def _in_line(call: ast.Call, method: str) -> Iterator[str]:
    """Identifiers in the lines that a cell passes to IPython: ``f`` and ``x`` in ``%timeit f(x)``."""
    count = _LINE_ARGUMENTS.get(method, 0)
    texts = [argument.value for argument in call.args[:count] if isinstance(argument, ast.Constant)]
    if method == "run_cell_magic" and len(call.args) == 3 and texts and texts[0] not in _NOT_PYTHON:
        texts += [argument.value for argument in call.args[2:] if isinstance(argument, ast.Constant)]
    for text in texts[1:] if method.startswith("run_") else texts:
        yield from _IDENTIFIER.findall(text) if isinstance(text, str) else ()


def identifier(node: ast.AST) -> str | None:
    """A name, or the name of an attribute; ``None`` for any other node."""
    if isinstance(node, ast.Name):
        return node.id
    return node.attr if isinstance(node, ast.Attribute) else None


def _mentioned(node: ast.AST) -> str | None:
    return "__main__" if isinstance(node, ast.Constant) and node.value == "__main__" else identifier(node)


def _first_argument(call: ast.Call) -> object:
    return call.args[0].value if call.args and isinstance(call.args[0], ast.Constant) else None


def _is_called(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether ``node`` is the function of ``globals()`` or the like; ``vars(x)`` gives the names of ``x``."""
    call = parents.get(node)
    is_function = isinstance(node, ast.Name) and node.id in _FUNCTIONS
    return is_function and isinstance(call, ast.Call) and call.func is node and not call.args


def _add_key(node: ast.AST, parents: dict[ast.AST, ast.AST], found: Lookups) -> None:
    """Add the key under which a mapping of all names is read, as in ``globals()["x"]``; without one, everything."""
    parent = parents.get(node)
    if isinstance(parent, ast.Call) and parent.func is node:
        node, parent = parent, parents.get(parent)
    if isinstance(parent, ast.Subscript) and parent.slice is node and _mentioned(node) == "__main__":  # sys.modules[…]
        node, parent = parent, parents.get(parent)
    if isinstance(parent, ast.Subscript) and parent.value is node:
        if isinstance(parent.ctx, ast.Load):
            _add_constant(parent.slice, found)
    elif isinstance(parent, ast.Attribute) and parent.attr in ("get", "pop", "setdefault"):
        call = parents.get(parent)
        _add_constant(call.args[0] if isinstance(call, ast.Call) and call.args else parent, found)
    elif isinstance(parent, ast.Attribute) and _mentioned(node) == "__main__":
        found.names.add(parent.attr)
    elif isinstance(parent, ast.Compare) and isinstance(parent.ops[0], (ast.In, ast.NotIn)):
        _add_constant(parent.left, found)
    elif not (isinstance(parent, ast.Attribute) and parent.attr in ("update", "clear")) and not _is_eval(parent):
        found.everything = True


def _is_eval(node: ast.AST | None) -> bool:
    """Whether ``node`` calls ``eval`` or ``exec``, with all names as an argument."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec")


def _add_constant(key: ast.AST, found: Lookups) -> None:
    if isinstance(key, ast.Constant) and isinstance(key.value, str):
        found.names.add(key.value)
    else:
        found.everything = True


def _constants(call: ast.Call) -> Iterable[str]:
    for node in ast.walk(call):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value


def code_strings(code: CodeType) -> Iterator[str]:
    """The strings in a function's code."""
    for constant in code.co_consts:
        if isinstance(constant, str):
            yield constant
        elif isinstance(constant, CodeType):
            yield from code_strings(constant)
