"""Functions and classes of the session as source that makes them again, as they are now.

Their source says how they were made; since then the names they were made with may have been bound again. So what
their source evaluates at once (default values, a class's attributes) is compared with what they hold.
"""

from __future__ import annotations

import ast
import builtins
import copy
import enum
import functools
import operator
import types
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mlnb.capture.names import analyse
from mlnb.capture.refusals import why_not
from mlnb.capture.sources import Found, Sources, code_key, defines, flags_of, keys
from mlnb.capture.text import Edit, cut, expression

LIVE = "\0{}\0"
"""Stands in a text for a live value whose name isn't known yet."""


@dataclass
class Source:
    """Source that defines one name.

    Attributes
    ----------
    lines
        the text.
    found
        where most of it was written.
    lead
        lines of ``lines`` before those that were.
    eager, later
        names read when the text runs, and names read when what it defines is called.
    hints
        names in annotations that aren't evaluated.
    chains
        dotted names in it.
    live
        generated name → live value that the text reads when it runs.
    late
        ``(expression to assign to, live value)``: to be done when all names are bound.
    notes
        what the person should know.
    """

    lines: list[str]
    found: Found
    lead: int = 0
    eager: set[str] = field(default_factory=set)
    later: set[str] = field(default_factory=set)
    hints: set[str] = field(default_factory=set)
    chains: set[str] = field(default_factory=set)
    live: dict[str, Any] = field(default_factory=dict)
    late: list[tuple[str, Any]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


class Definitions:
    """Finds the source of the session's functions and classes.

    Parameters
    ----------
    sources
        what ran in the session.
    namespace
        the session's names.
    """

    def __init__(self, sources: Sources, namespace: Mapping[str, Any]) -> None:
        self._sources = sources
        self._namespace = namespace

    # ---- by name

    def statement(self, name: str, value: Any, called: str | None = None) -> Source | None:
        """The newest ``def``, ``class`` or ``name = lambda`` that binds ``name`` and made ``value``.

        Parameters
        ----------
        called
            the name to define it as, if it isn't ``name``.
        """
        called = called or name
        for found in self._sources.bindings(name):
            if isinstance(found.node, (ast.Import, ast.ImportFrom)):
                continue
            if isinstance(found.node, ast.ClassDef):
                cls = next((item for item in _classes(value) if self._score(found, item) > 0), None)
                if cls is not None:
                    return self._class_source(found, cls, called)
            elif isinstance(found.node, (ast.Assign, ast.AnnAssign)):
                source = self._assignment(found, value, called)
                if source is not None:
                    return source
            elif (function := _made_by(found, value)) is not None:
                return self._function_source(found, function, called)
        return None

    # ---- by object

    def function(self, name: str, function: types.FunctionType) -> Source | None:
        """Source that defines ``function`` as ``name``, without decorators; ``None`` if there is none."""
        found = self._sources.function(function.__code__)
        if found is None:
            return None
        if found.outer and (function.__closure__ or not isinstance(found.outer[-1], ast.ClassDef)):
            return self._factory(found, function, name)
        if isinstance(found.node, ast.Lambda):
            return self._lambda(found, function, name)
        return self._function_source(found, function, name)

    def cls(self, name: str, cls: type) -> Source | None:
        """Source that defines the class ``cls`` as ``name``; ``None`` if there is none."""
        filename = next(
            (f.__code__.co_filename for f in _methods(cls) if "<string>" not in f.__code__.co_filename), None
        )
        best: tuple[float, Found] | None = None
        for found in self._sources.classes(cls.__qualname__, filename):
            score = self._score(found, cls)
            if best is None or score > best[0]:
                best = score, found
        if best is None:
            return None
        if any(not isinstance(node, ast.ClassDef) for node in best[1].outer):
            return self._factory(best[1], cls, name)
        return self._class_source(best[1], cls, name)

    # ---- functions

    def _function_source(self, found: Found, function: types.FunctionType, name: str) -> Source:
        node = found.node
        assert isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))
        source = Source([], found)
        edits = self._defaults(source, node.args, function, name)
        source.lines = cut(found, edits, name).nested("if True:")
        source.lead = len(source.lines) - (node.end_lineno or 0) + found.first_line - 1
        self._read(source, found, {edit.node for edit in edits}, flags_of(function.__code__))
        self._attributes(source, function, name)
        return source

    def _assignment(self, found: Found, value: Any, name: str) -> Source | None:
        """Source from ``name = lambda …`` or ``name = namedtuple(…)`` and the like."""
        node = found.node
        assert isinstance(node, (ast.Assign, ast.AnnAssign))
        if isinstance(node.value, ast.Lambda):
            return self._lambda(found, value, name) if isinstance(value, types.FunctionType) else None
        assert isinstance(node.value, ast.Call)
        known, called = _literal(node.value.args[0])
        if not known or called != getattr(value, "__name__", None):
            return None
        source = Source(f"{name} = {expression(Found(found.cell, node.value))}".split("\n"), found)
        self._read(source, found, set())
        return source

    def _lambda(self, found: Found, function: types.FunctionType, name: str) -> Source | None:
        node = next(
            (
                inner
                for inner in ast.walk(found.node)
                if isinstance(inner, ast.Lambda) and defines(Found(found.cell, inner), function.__code__)
            ),
            None,
        )
        if node is None:
            return None
        inside = Found(found.cell, node)
        source = Source([], inside)
        source.lines = f"{name} = {expression(inside)}".split("\n")
        for default, live in _pairs(node.args, function):
            if not self._same(default, live):
                source.late.append((f"{name}.__defaults__", function.__defaults__))
                break
        self._read(source, inside, set())
        return source

    def _defaults(
        self, source: Source, args: ast.arguments, function: types.FunctionType, name: str
    ) -> list[Edit]:
        """Replace default values that would come out differently now."""
        edits = []
        for index, (default, live) in enumerate(_pairs(args, function)):
            if not self._same(default, live) and why_not(live) is None:
                generated = f"_{name}_default_{index}"
                source.live[generated] = live
                edits.append(Edit(default, LIVE.format(generated)))
        if len(function.__defaults__ or ()) != len(args.defaults):
            source.late.append((f"{name}.__defaults__", function.__defaults__))
        return edits

    def _attributes(self, source: Source, function: types.FunctionType, name: str) -> None:
        for key, value in vars(function).items():
            if not key.startswith("_") and isinstance(value, (int, float, str, bytes, list, dict, set, tuple)):
                source.late.append((f"{name}.{key}", value))

    # ---- made inside of other functions

    def _factory(self, found: Found, value: types.FunctionType | type, name: str) -> Source | None:
        """Source for what a function of the session made: a function around it holds its variables."""
        node = found.node
        cells = _closure(value)
        source = Source([], found)
        maker = f"_make_{name.lstrip('_')}"
        free = analyse(ast.Module([_as_statement(node)], []))
        if isinstance(node, ast.Lambda):
            body, indent, inner = f"    return {expression(found)}".split("\n"), "    ", ""
            result = []
        else:
            edits = []
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and isinstance(value, types.FunctionType):
                edits = self._defaults(source, node.args, value, name)
            piece = cut(found, edits)
            body, indent = piece.lines, piece.indent
            inner = node.name  # type: ignore[attr-defined]
            result = [f"{indent}return {inner}"]
        variables = []
        for variable, content in cells.items():
            if variable in (inner, "__class__"):  # it is in its own scope there too
                continue
            variables.append(f"{indent}{variable} = None")
            source.late.append((_cell_of(name, value, variable), content))
        for variable, content in self._bases(found, value).items():
            if variable not in cells:
                generated = f"_{name}_{variable}"
                source.live[generated] = content
                variables.append(f"{indent}{variable} = {LIVE.format(generated)}")
        head = [f"def {maker}():", *variables]
        source.lines = [*head, *body, *result, f"{name} = {maker}()"]
        source.lead = len(head)
        local = set(cells)
        source.eager = set(free.certain) - local - {inner}
        source.later = (set(free.loads) | set(free.deferred)) - source.eager - local - {inner}
        source.chains = set(free.chains)
        return source

    @staticmethod
    def _bases(found: Found, value: Any) -> dict[str, type]:
        """The bases that a class made inside of a function has from there."""
        if not isinstance(found.node, ast.ClassDef):
            return {}
        pairs = zip(found.node.bases, value.__bases__, strict=False)
        return {b.id: base for b, base in pairs if isinstance(b, ast.Name) and "<locals>" in base.__qualname__}

    # ---- classes

    def _class_source(self, found: Found, cls: type, name: str) -> Source:
        node = found.node
        assert isinstance(node, ast.ClassDef)
        source = Source([], found)
        edits = []
        for attribute, value in _assigned(node):
            if attribute in vars(cls) and not _literal(value)[0]:
                live = vars(cls)[attribute]
                known, now = self._evaluate(value)
                if (
                    known
                    and not _equal(now, live)
                    and isinstance(live, (int, float, str, bytes, tuple, type(None)))
                ):
                    generated = f"_{name}_{attribute}"
                    source.live[generated] = live
                    edits.append(Edit(value, LIVE.format(generated)))
        source.lines = cut(found, edits, name).nested("if True:")
        source.lead = len(source.lines) - (node.end_lineno or 0) + found.first_line - 1
        self._read(source, found, {edit.node for edit in edits}, _flags(cls))
        self._patches(source, found, cls, name)
        for expression_, base in zip(node.bases, cls.__bases__, strict=False):
            known, now = self._evaluate(expression_)
            if known and isinstance(now, type) and now is not base and now.__name__ == base.__name__:
                source.notes.append(
                    f"{name} was defined with an earlier {base.__name__}: it goes with the present one"
                )
        return source

    def _patches(self, source: Source, found: Found, cls: type, name: str) -> None:
        """What was set on a class after its ``class`` statement."""
        node = found.node
        assert isinstance(node, ast.ClassDef)
        known_keys = keys(found, _flags(cls))
        written = {attribute: _literal(value) for attribute, value in _assigned(node)}
        bound = {n for statement in node.body for n in _binds(statement)}
        special = issubclass(cls, (enum.Enum, tuple))
        for attribute, value in vars(cls).items():
            function = _underlying(value)
            if function is not None:
                ours = is_ours(function)
                inner = [f for f in _functions(function) if code_key(f.__code__) in known_keys]
                if ours and not inner:
                    source.late.append((f"{name}.{attribute}", value))
            elif attribute.startswith("_") or special or isinstance(value, type):
                continue
            elif attribute in written:
                known, then = written[attribute]
                if known and not _equal(then, value):
                    source.late.append((f"{name}.{attribute}", value))
            elif (
                attribute not in bound
                and not node.decorator_list
                and why_not(value) is None
                and not callable(value)
            ):
                if type(value).__module__ == "builtins" and not isinstance(value, types.MemberDescriptorType):
                    source.late.append((f"{name}.{attribute}", value))

    def _score(self, found: Found, cls: type) -> float:
        """How well a ``class`` statement fits a class: above 0 if it can have made it."""
        node = found.node
        assert isinstance(node, ast.ClassDef)
        if node.name != cls.__name__:
            return -100.0
        known_keys = keys(found, _flags(cls))
        score = 0.5
        names = {n for statement in node.body for n in _binds(statement)}
        for method in _methods(cls):
            if method.__name__ in names and is_ours(method):
                score += 1 if code_key(method.__code__) in known_keys else -1
        known = set(vars(cls)) | set(vars(cls).get("__annotations__", ())) | set(getattr(cls, "__members__", ()))
        known |= set(getattr(cls, "__dataclass_fields__", ())) | set(getattr(cls, "_fields", ()))
        mangled = {
            f"_{cls.__name__.lstrip('_')}{n}" if n.startswith("__") and not n.endswith("__") else n for n in names
        }
        score -= len(mangled - known - {"_ignore_", "__slots__"})
        line = vars(cls).get("__firstlineno__")  # Python 3.13
        if isinstance(line, int) and line != found.first_line:
            score -= 0.25
        members = getattr(cls, "__members__", {})
        for attribute, value in _assigned(node):
            known_, then = _literal(value)
            if known_ and attribute in members and members[attribute].value != then:
                score -= 1
        bases = [base.id for base in node.bases if isinstance(base, ast.Name)]
        actual = {base.__name__ for base in cls.__mro__}
        return score - sum(0.5 for base in bases if base not in actual and base != "NamedTuple")

    # ---- evaluation

    def _read(self, source: Source, found: Found, replaced: set[ast.expr], flags: int = 0) -> None:
        """Note which names a statement reads, now and later."""
        node = _as_statement(found.node)
        names = analyse(_without(node, replaced) if replaced else ast.Module([node], []), postponed=bool(flags))
        own = {getattr(found.node, "name", "")}
        source.eager |= set(names.certain) - own
        source.later |= (set(names.loads) | set(names.deferred)) - source.eager - own
        source.hints |= set(names.hints) - own
        source.chains |= set(names.chains)

    def _same(self, node: ast.expr, live: Any) -> bool:
        """Whether evaluating ``node`` now gives ``live``."""
        if isinstance(node, ast.Lambda):
            return isinstance(live, types.FunctionType)
        known, now = self._evaluate(node)
        return known and _equal(now, live)

    def _evaluate(self, node: ast.expr) -> tuple[bool, Any]:
        """The value that a simple expression has now, if it is one that calls nothing."""
        try:
            return True, _Evaluator(self._namespace).value(node)
        except (ValueError, TypeError, ArithmeticError, AttributeError, LookupError):
            return False, None


class _Evaluator:
    _OPERATORS: Mapping[type, Callable[[Any, Any], Any]] = {
        ast.Add: operator.add,
        ast.Sub: operator.sub,
        ast.Mult: operator.mul,
        ast.Div: operator.truediv,
        ast.FloorDiv: operator.floordiv,
        ast.Mod: operator.mod,
    }

    def __init__(self, namespace: Mapping[str, Any]) -> None:
        self._namespace = namespace

    def value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Name):
            return self._namespace[node.id] if node.id in self._namespace else vars(builtins)[node.id]
        if isinstance(node, ast.Attribute):
            owner = self.value(node.value)
            if not isinstance(owner, (types.ModuleType, type)):
                raise ValueError(node.attr)
            return getattr(owner, node.attr)
        if isinstance(node, ast.BinOp) and type(node.op) in self._OPERATORS:
            left, right = self.value(node.left), self.value(node.right)
            if not isinstance(left, (int, float)) or not isinstance(right, (int, float)):
                raise ValueError("not numbers")
            return self._OPERATORS[type(node.op)](left, right)
        return ast.literal_eval(node)


def is_ours(function: types.FunctionType) -> bool:
    """Whether a function was defined in the session, or in a file that ``%run`` ran there (and left nameless)."""
    return bool(function.__globals__.get("__name__", "__main__") == "__main__")


def _equal(one: Any, other: Any) -> bool:
    """Whether two values can stand for each other: the same object, or equal plain values."""
    if one is other:
        return True
    plain = (int, float, complex, str, bytes, bool, tuple, list, dict, set, frozenset)
    return type(one) is type(other) and isinstance(one, plain) and repr(one) == repr(other)


def _literal(node: ast.expr) -> tuple[bool, Any]:
    try:
        return True, ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return False, None


def _pairs(args: ast.arguments, function: types.FunctionType) -> Iterator[tuple[ast.expr, Any]]:
    """Default values' expressions and what they are now."""
    live = function.__defaults__ or ()
    if len(live) == len(args.defaults):
        yield from zip(args.defaults, live, strict=True)
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        keywords = function.__kwdefaults__ or {}
        if default is not None and arg.arg in keywords:
            yield default, keywords[arg.arg]


def _assigned(node: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for statement in node.body:
        if isinstance(statement, ast.Assign):
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    yield target.id, statement.value
        elif isinstance(statement, ast.AnnAssign) and statement.value and isinstance(statement.target, ast.Name):
            yield statement.target.id, statement.value


def _binds(statement: ast.stmt) -> list[str]:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return [statement.name]
    if isinstance(statement, ast.Assign):
        return [target.id for target in statement.targets if isinstance(target, ast.Name)]
    if isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
        return [statement.target.id]
    return []


def _methods(cls: type) -> Iterator[types.FunctionType]:
    """The functions in a class's own dictionary, out of their wrappings."""
    for value in vars(cls).values():
        function = _underlying(value)
        if function is not None:
            yield from _functions(function)


def _underlying(value: Any) -> types.FunctionType | None:
    if isinstance(value, (staticmethod, classmethod)):
        value = value.__func__
    elif isinstance(value, property):
        value = value.fget
    elif isinstance(value, functools.cached_property):
        value = value.func
    return value if isinstance(value, types.FunctionType) else None


def _functions(value: Any) -> Iterator[types.FunctionType]:
    """The Python functions in a decorated function: itself, what it wraps, what it has closed over."""
    queue: deque[tuple[Any, int]] = deque([(value, 0)])
    seen = set()
    while queue:
        item, depth = queue.popleft()
        if id(item) in seen or depth > 5:
            continue
        seen.add(id(item))
        if isinstance(item, types.FunctionType):
            yield item
            for cell in item.__closure__ or ():
                try:
                    queue.append((cell.cell_contents, depth + 1))
                except ValueError:  # not filled yet
                    continue
        if isinstance(item, (type, types.ModuleType)):
            continue
        for attribute in ("__wrapped__", "__func__", "func", "fget", "py_func", "fn", "callback", "_fun"):
            inner = getattr(item, attribute, None) if callable(item) or attribute == "fget" else None
            if inner is not None:
                queue.append((inner, depth + 1))


def _classes(value: Any) -> Iterator[type]:
    """The classes that a decorated class may be, or hold."""
    if isinstance(value, type):
        yield value
        inner = getattr(value, "__wrapped__", None)
        if isinstance(inner, type):
            yield inner


def _made_by(found: Found, value: Any) -> types.FunctionType | None:
    """The function in ``value`` that the ``def`` statement ``found`` made."""
    name = getattr(found.node, "name", None)
    for function in _functions(value):
        if function.__code__.co_name == name and defines(found, function.__code__):
            return function
    return None


def _flags(cls: type) -> int:
    return next((flags_of(method.__code__) for method in _methods(cls)), 0)


def _closure(value: types.FunctionType | type) -> dict[str, Any]:
    """The variables that a function, or a class's methods, have from around them."""
    found = {}
    functions = list(_methods(value)) if isinstance(value, type) else [value]
    for function in functions:
        for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
            try:
                found[name] = cell.cell_contents
            except ValueError:  # not filled yet
                continue
    return found


def _cell_of(name: str, value: types.FunctionType | type, variable: str) -> str:
    """How a program reaches the cell of ``variable``."""
    if isinstance(value, type):
        for method in _methods(value):
            if variable in method.__code__.co_freevars:
                index = method.__code__.co_freevars.index(variable)
                raw = vars(value).get(method.__name__)
                inner = ".fget" if isinstance(raw, property) else ""
                return f"{name}.{method.__name__}{inner}.__closure__[{index}].cell_contents"
        raise LookupError(variable)
    return f"{name}.__closure__[{value.__code__.co_freevars.index(variable)}].cell_contents"


def _as_statement(node: ast.AST) -> ast.stmt:
    """A node as a statement of its own: a lambda is bound to a name, so that its body counts as run later."""
    if isinstance(node, ast.Lambda):
        target = ast.copy_location(ast.Name("_", ast.Store()), node)
        return ast.copy_location(ast.Assign([target], node), node)
    assert isinstance(node, ast.stmt)
    return node


class _Replaced(ast.NodeTransformer):
    def __init__(self, nodes: set[ast.expr]) -> None:
        self._nodes = nodes

    def visit(self, node: ast.AST) -> ast.AST:
        if node in self._nodes:
            return ast.copy_location(ast.Constant(None), node)
        replaced: ast.AST = super().visit(node)
        return replaced


def _without(node: ast.stmt, replaced: set[ast.expr]) -> ast.Module:
    """The statement without some expressions, as a tree of its own."""
    marks = {(e.lineno, e.col_offset, type(e)) for e in replaced}
    tree = copy.deepcopy(node)
    same = {
        inner
        for inner in ast.walk(tree)
        if isinstance(inner, ast.expr) and (inner.lineno, inner.col_offset, type(inner)) in marks
    }
    return ast.Module([_Replaced(same).visit(tree)], [])  # type: ignore[list-item]
