"""Effects: which names an expression mutates, may mutate or returns a view of, judged by its syntax."""

# ruff: noqa: SIM905 - long lists of words are easier to read in one string
from __future__ import annotations

import ast

VIEWS = frozenset(
    "view reshape detach squeeze unsqueeze transpose permute t flatten ravel numpy expand narrow select "
    "chunk split unbind swapaxes swapdims view_as items values get iterrows itertuples".split()
)
"""Methods whose result shares memory with the object they are called on, or is a part of it."""

IN_PLACE = frozenset("sort fill put itemset partition setfield resize shuffle setdefault".split())
"""Methods that change their object (arrays, data frames, dictionaries)."""

PURE_FUNCTIONS = frozenset(
    "len print range enumerate zip sorted sum min max isinstance issubclass type repr str list tuple set "
    "dict frozenset any all id hash float int bool complex abs round format bytes callable hasattr reversed "
    "divmod pow ord chr vars dir display".split()
)
"""Built-in functions that change none of their arguments."""

READ_ONLY_METHODS = frozenset(
    "items keys values get copy index count clone item tolist numpy mean sum std min max size dim shape head "
    "tail describe startswith endswith split strip join format encode decode lower upper state_dict "
    "parameters named_parameters isdisjoint issubset issuperset union intersection difference".split()
)
"""Methods that usually only read."""


def root(node: ast.expr) -> str | None:
    """The name at the start of ``a.b[0].c``; looks through ``*a`` and calls of :data:`VIEWS`."""
    while True:
        if isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred)):
            node = node.value
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in VIEWS:
            node = node.func.value
        else:
            return node.id if isinstance(node, ast.Name) else None


def roots(node: ast.expr) -> set[str]:
    """The names whose values ``node`` passes on: its own, or those in ``[a, b]``, ``a if c else b`` and the like."""
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        return {name for element in node.elts for name in roots(element)}
    if isinstance(node, ast.Dict):
        return {name for value in node.values for name in roots(value)}
    if isinstance(node, ast.IfExp):
        return roots(node.body) | roots(node.orelse)
    if isinstance(node, ast.BoolOp):
        return {name for value in node.values for name in roots(value)}
    if isinstance(node, (ast.NamedExpr, ast.Await)):
        return roots(node.value)
    name = root(node)
    return {name} if name else set()


def views(node: ast.expr) -> set[str]:
    """The names whose values may contain ``node``'s value, or the elements that iterating over it gives."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id in ("enumerate", "zip", "reversed", "iter", "sorted", "list", "tuple")
    ):
        return {name for argument in node.args for name in roots(argument)}
    return roots(node)


def dotted_name(node: ast.expr) -> str | None:
    """``a.b.c`` as text, if ``node`` is only names and dots."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return None
    return ".".join([node.id, *reversed(parts)])


def of_call(node: ast.Call) -> tuple[set[str], set[str]]:
    """The names whose values a call mutates, and those whose values it may mutate."""
    mutated: set[str] = set()
    maybe_mutated: set[str] = set()
    arguments = {name for argument in node.args for name in roots(argument)}
    arguments |= {name for keyword in node.keywords for name in roots(keyword.value)}
    function = node.func.id if isinstance(node.func, ast.Name) else None
    if function not in PURE_FUNCTIONS:
        maybe_mutated |= arguments
    if isinstance(node.func, ast.Attribute):
        function = node.func.attr
        owner = root(node.func.value)
        if owner and function not in READ_ONLY_METHODS:
            maybe_mutated.add(owner)
        if owner and (_in_place(function) or any(_is_true(k, "inplace") for k in node.keywords)):
            mutated.add(owner)
    if function and _in_place(function) and function not in ("sort", "fill", "split") and node.args:
        mutated |= roots(node.args[0])  # nn.init.normal_(w), random.shuffle(order)
    for keyword in node.keywords:
        if keyword.arg == "out":
            mutated |= roots(keyword.value)
    return mutated, maybe_mutated | mutated


def _in_place(method: str) -> bool:
    """Whether a method changes its object: a known one, or by torch's convention of a trailing underscore."""
    return method in IN_PLACE or (method.endswith("_") and not method.endswith("__"))


def _is_true(keyword: ast.keyword, name: str) -> bool:
    return keyword.arg == name and isinstance(keyword.value, ast.Constant) and keyword.value.value is True
