"""Nested scopes: what functions, classes and comprehensions do to the names around them.

Each kind of scope has a walker. Function bodies are taken as a whole, their order ignored: a name that a function
assigns anywhere is local to it. Cells and class bodies are followed in their order (``definite_assignment``).
"""

# ruff: noqa: ARG002, D102, N802, N815 - visit_X are ast.NodeVisitor's hooks: the name says it all
from __future__ import annotations

import ast
from collections.abc import Iterable

from mlnb.capture.names.definite_assignment import DefiniteAssignment
from mlnb.capture.names.uses import NameUses, note_line
from mlnb.capture.names.walker import Walker, parameters

FunctionNode = ast.FunctionDef | ast.AsyncFunctionDef
ComprehensionNode = ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp


class ScopeWalker(Walker):
    """Enters nested scopes and adds what they do to the names around them."""

    # ---- hooks

    def define(self, name: str | None, call: NameUses) -> None:
        """A function or class ``name`` (``None``: a lambda) is defined; ``call`` is what a call of it does."""
        for loaded, line in call.all_loads:
            note_line(self.uses.deferred_loads, loaded, line)
        self.uses.stores |= call.stores
        self.uses.deletes |= call.deletes
        self.uses.add_effects(call)

    def load_unless_assigned(self, name: str, line: int) -> None:
        """``name`` is read by a nested scope that has possibly assigned it itself."""
        self.load(name, line)

    def maybe_store(self, name: str, line: int) -> None:
        """``name`` is assigned by code that may not run."""
        self.store(name, line)

    def load_from_class(self, name: str, line: int, required: bool) -> None:
        """A class body reads ``name`` from the scope around it: ``required``, or unless it has assigned the name."""
        if required:
            self.load(name, line)
        else:
            self.load_unless_assigned(name, line)

    def uses_of(self, nodes: Iterable[ast.AST]) -> NameUses:
        walker = ScopeWalker(self.evaluates_annotations)
        walker.run(nodes)
        return walker.uses

    # ---- functions

    def visit_Lambda(self, node: ast.Lambda) -> None:
        self.signature(node.args)
        self.define(None, call_uses(node, self.evaluates_annotations))

    def visit_Assign(self, node: ast.Assign) -> None:
        names = [target.id for target in node.targets if isinstance(target, ast.Name)]
        if isinstance(node.value, ast.Lambda) and names:  # a function with a name
            self.signature(node.value.args)
            for name in names:
                self.define(name, call_uses(node.value, self.evaluates_annotations))
            self.assign_targets(node)
        else:
            super().visit_Assign(node)

    def visit_FunctionDef(self, node: FunctionNode) -> None:
        self.run(node.decorator_list)
        enclosing, self.type_parameters = self.type_parameters, self.type_parameters | _type_parameters(node)
        self.signature(node.args)
        if node.returns:
            self.annotation(node.returns)
        self.type_parameters = enclosing
        self.define(node.name, call_uses(node, self.evaluates_annotations))
        self.store(node.name, node.lineno)

    visit_AsyncFunctionDef = visit_FunctionDef

    # ---- classes

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        self.run(node.decorator_list)
        enclosing, self.type_parameters = self.type_parameters, self.type_parameters | _type_parameters(node)
        self.run([*node.bases, *node.keywords])
        body = ClassBody(self.evaluates_annotations)
        body.type_parameters, self.type_parameters = self.type_parameters, enclosing
        body.run(node.body)
        body.uses.propagate_aliases()
        for name, line in body.loads.items():
            if name in body.uses.stores | body.global_names:
                note_line(self.uses.global_loads, name, line)
            self.load_from_class(name, line, name in body.unassigned)
        for name, line in body.nested_class_loads.items():
            self.load_from_class(name, line, True)
        self.uses.add_effects(body.uses.without(body.uses.stores - body.global_names))
        call = NameUses(loads=body.methods.loads, stores=body.global_names | body.methods.stores)
        call.add_effects(body.methods)
        self.define(node.name, call)
        self.store(node.name, node.lineno)

    # ---- comprehensions

    def _visit_comprehension(self, node: ComprehensionNode) -> None:
        self.visit(node.generators[0].iter)  # evaluated in the scope around it
        walker = _Comprehension(self.evaluates_annotations)
        walker.in_function = self.in_function
        for number, generator in enumerate(node.generators):
            if number:
                walker.visit(generator.iter)
            walker.note_alias(generator.target, generator.iter)
            walker.visit(generator.target)
            walker.run(generator.ifs)
        walker.run([node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt])
        walker.uses.propagate_aliases()
        outside = walker.uses.without(walker.uses.stores)
        for name, line in outside.loads.items():
            self.load(name, line)
        self.uses.add_effects(outside)
        self.define(None, NameUses(loads=outside.deferred_loads))
        for name in walker.walrus_names:
            self.maybe_store(name, node.lineno)

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _visit_comprehension


class _Comprehension(ScopeWalker):
    """The inside of a comprehension: its loop variables are local, ``:=`` assigns outside."""

    def __init__(self, evaluates_annotations: bool) -> None:
        super().__init__(evaluates_annotations)
        self.walrus_names: set[str] = set()

    def load(self, name: str, line: int) -> None:
        if name not in self.walrus_names:
            super().load(name, line)

    def visit_NamedExpr(self, node: ast.NamedExpr) -> None:
        self.visit(node.value)
        self.walrus_names.add(node.target.id)

    def maybe_store(self, name: str, line: int) -> None:
        self.walrus_names.add(name)


class _FunctionBody(ScopeWalker):
    """A function's body."""

    def __init__(self, evaluates_annotations: bool) -> None:
        super().__init__(evaluates_annotations)
        self.in_function = True
        self.global_names: set[str] = set()
        self.nonlocal_names: set[str] = set()

    def visit_Global(self, node: ast.Global) -> None:
        self.global_names |= set(node.names)

    def visit_Nonlocal(self, node: ast.Nonlocal) -> None:
        self.nonlocal_names |= set(node.names)

    def define(self, name: str | None, call: NameUses) -> None:
        for loaded, line in call.all_loads:
            note_line(self.uses.loads, loaded, line)
        self.global_names |= call.stores | call.deletes
        self.uses.stores |= call.stores
        self.uses.deletes |= call.deletes
        self.uses.add_effects(call)


class CellBody(DefiniteAssignment, ScopeWalker):
    """A cell's top level, which also tracks what calls of the functions defined there would read.

    Attributes
    ----------
    call_loads
        name of a function or class → names that a call of it reads, with their lines. An entry lasts until the function
        is read: from then on it may be called at any time, and its loads count as loads of the cell.
    loads_in_calls
        the names that have come to count as loads of the cell in this way.
    """

    def __init__(self, evaluates_annotations: bool = True) -> None:
        super().__init__(evaluates_annotations)
        self.call_loads: dict[str, dict[str, int]] = {}
        self.loads_in_calls: set[str] = set()
        self._defined: dict[str, int] | None = None  # what a call of the newest definition reads

    def load(self, name: str, line: int) -> None:
        super().load(name, line)
        for loaded, loaded_line in self.call_loads.pop(name, {}).items():  # whoever reads a function may call it
            self._load_in_call(loaded, loaded_line)

    def _load_in_call(self, name: str, line: int) -> None:
        self.loads_in_calls.add(name)
        before, self.in_deferred_code = self.in_deferred_code, True
        self.load(name, line)
        self.in_deferred_code = before

    def load_unless_assigned(self, name: str, line: int) -> None:
        if not self.state.is_definite(name):
            note_line(self.loads, name, line)

    def store(self, name: str, line: int) -> None:
        super().store(name, line)
        self.call_loads.pop(name, None)

    def maybe_store(self, name: str, line: int) -> None:
        self.uses.stores.add(name)
        self.state.possibly.add(name)

    def define(self, name: str | None, call: NameUses) -> None:
        self.uses.stores |= call.stores
        self.uses.deletes |= call.deletes
        self.state.possibly |= call.stores
        self.uses.add_effects(call)
        loads = {**call.deferred_loads, **call.loads}
        if name is not None:
            self._defined = loads
            return
        for loaded, line in loads.items():  # a lambda without a name may be called at once
            self._load_in_call(loaded, line)

    def visit_FunctionDef(self, node: FunctionNode) -> None:
        before = self.call_loads.get(node.name, {})
        super().visit_FunctionDef(node)
        self._track_definition(node, before)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: ast.ClassDef) -> None:
        before = self.call_loads.get(node.name, {})
        super().visit_ClassDef(node)
        self._track_definition(node, before)

    def _track_definition(self, node: FunctionNode | ast.ClassDef, before: dict[str, int]) -> None:
        self._track_calls(node.name, before)
        if node.decorator_list:
            self._load_in_call(node.name, node.lineno)  # a decorator may call it

    def visit_Assign(self, node: ast.Assign) -> None:
        before = dict(self.call_loads)
        super().visit_Assign(node)
        if isinstance(node.value, ast.Lambda):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    self._track_calls(target.id, before.get(target.id, {}))

    def _track_calls(self, name: str, before: dict[str, int]) -> None:
        if self._defined is not None:
            # on another path the earlier definition of the name may be the one that is called: keep its loads too
            self.call_loads[name] = {**before, **self._defined}


class ClassBody(CellBody):
    """A class's body: it reads what it has definitely assigned itself; its methods and nested classes don't see that.

    Attributes
    ----------
    methods
        what calls of its methods do.
    global_names
        names that it declares global.
    nested_class_loads
        names that class bodies in it read, with the first line that does.
    """

    def __init__(self, evaluates_annotations: bool = True) -> None:
        super().__init__(evaluates_annotations)
        self.methods = NameUses()
        self.global_names: set[str] = set()
        self.nested_class_loads: dict[str, int] = {}

    def load_from_class(self, name: str, line: int, required: bool) -> None:
        note_line(self.nested_class_loads, name, line)

    def define(self, name: str | None, call: NameUses) -> None:
        for loaded, line in call.all_loads:
            note_line(self.methods.loads, loaded, line)
        self.methods.stores |= call.stores
        self.methods.add_effects(call)

    def visit_Global(self, node: ast.Global) -> None:
        self.global_names |= set(node.names)


def changed_in_body(node: FunctionNode) -> set[str]:
    """The names, parameters and other variables of its own included, whose value the syntax of a function changes."""
    walker = _FunctionBody(evaluates_annotations=False)
    walker.run(node.body)
    walker.uses.propagate_aliases()
    return set(walker.uses.mutated)


def call_uses(node: FunctionNode | ast.Lambda, evaluates_annotations: bool = True) -> NameUses:
    """What a call of a function does to names outside of it."""
    walker = _FunctionBody(evaluates_annotations)
    walker.run([node.body] if isinstance(node, ast.Lambda) else node.body)
    walker.uses.propagate_aliases()
    # a nested function's global statement makes a name global there only; a name that is both assigned here and
    # declared global in a nested function counts as global: rather capture too much than too little
    assigned = walker.uses.stores | walker.uses.deletes
    local = {arg.arg for arg in parameters(node.args)} | (assigned - walker.global_names - walker.nonlocal_names)
    outside = walker.uses.without((local | _type_parameters(node)) - walker.global_names)
    outside.stores &= walker.global_names
    outside.deletes &= walker.global_names
    for name, line in outside.global_loads.items():
        note_line(outside.loads, name, line)
    return outside


def _type_parameters(node: ast.AST) -> set[str]:
    """The names in brackets of ``def f[T](…)`` and ``class C[T]`` (Python 3.12)."""
    return {parameter.name for parameter in getattr(node, "type_params", ())}
