"""For any program, running the script has the same results as running the cell in the session."""

from __future__ import annotations

import ast
import contextlib
from itertools import chain

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlnb.capture import analyse

NAMES = ("a", "b", "c", "d")
names = st.sampled_from(NAMES)  # no products below: squared in loops within loops, numbers would never end
leaf = st.one_of(names, st.integers(-3, 3).map(str))
expressions = st.recursive(
    leaf,
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-&"), inner).map(lambda t: f"({t[0]} {t[1]} {t[2]})"),
        st.tuples(inner, inner, inner).map(lambda t: f"({t[0]} if {t[1]} > 0 else {t[2]})"),
        st.tuples(names, inner).map(lambda t: f"({t[0]} := {t[1]})"),
        st.tuples(inner, names, inner).map(lambda t: f"sum([{t[0]} for {t[1]} in range({t[2]} % 3)])"),
        st.tuples(names, inner, inner).map(lambda t: f"(lambda {t[0]}: {t[1]})({t[2]})"),
        st.tuples(inner, inner).map(lambda t: f"({t[0]} and {t[1]})"),
    ),
    max_leaves=5,
)


def indent(lines):
    return ["    " + line for line in lines]


simple = st.one_of(
    st.tuples(names, expressions).map(lambda t: [f"{t[0]} = {t[1]}"]),
    st.tuples(names, st.sampled_from(["+=", "-=", "&="]), expressions).map(lambda t: [" ".join(t)]),
    st.tuples(names, names, expressions, expressions).map(lambda t: [f"{t[0]}, {t[1]} = {t[2]}, {t[3]}"]),
    expressions.map(lambda e: [f"out.append({e})"]),
    names.map(lambda n: [f"del {n}"]),
)
blocks = st.deferred(lambda: st.lists(statements, min_size=1, max_size=3).map(lambda parts: list(chain(*parts))))
statements = st.one_of(
    simple,
    simple,
    st.tuples(expressions, blocks, blocks).map(lambda t: [f"if {t[0]} > 0:", *indent(t[1]), "else:", *indent(t[2])]),
    st.tuples(names, expressions, blocks).map(lambda t: [f"for {t[0]} in range({t[1]} % 3):", *indent(t[2])]),
    st.tuples(blocks, blocks, blocks).map(
        lambda t: ["try:", *indent(t[0]), "except NameError:", *indent(t[1]), "finally:", *indent(t[2])]
    ),
    st.tuples(names, names, blocks, expressions).map(
        lambda t: [f"def {t[0]}_f({t[1]}=0):", *indent(t[2]), f"    return {t[3]}", f"out.append({t[0]}_f)"]
    ),
    st.tuples(names, blocks, expressions).map(
        lambda t: [f"def {t[0]}_f():", f"    global {t[0]}", *indent(t[1]), f"    return {t[2]}", f"{t[0]}_f()"]
    ),
    blocks.map(lambda b: ["class K:", *indent(b), "out.append(K.__dict__.get('a'))"]),
)
programs = st.lists(statements, min_size=1, max_size=6).map(lambda parts: "\n".join(list(chain(*parts))))


def is_python(program):
    try:
        compile(program, "p", "exec")
    except SyntaxError:
        return False
    return True


class Recording(dict):
    """Globals that record which names are read before they are assigned."""

    def __init__(self, values):
        super().__init__()
        self.values_, self.bound, self.read = values, set(), set()

    def __setitem__(self, name, value):
        self.bound.add(name)
        super().__setitem__(name, value)

    def __missing__(self, name):
        self.read.add(name)
        if name in self.values_ and name not in self.bound:
            return self.values_[name]
        raise KeyError(name)

    def __delitem__(self, name):
        if not super().__contains__(name):
            self.read.add(name)
        super().__delitem__(name)


def search(examples):
    """How many examples are tried. Each costs a tenth of a second: a few are enough for a fault that many show."""
    return settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))


def finds_every_name_that_is_read(program):
    # functions see globals through a plain dictionary only, so read names are recorded for module-level code
    tree = ast.parse(program)
    space = Recording(dict.fromkeys(NAMES, 1) | {"out": []})
    with contextlib.suppress(Exception):
        exec(compile(tree, "p", "exec"), {"__builtins__": __builtins__}, space)
    assert space.read & {*NAMES, "out"} <= analyse(program).loads


@given(programs.filter(is_python))
@search(50)
def test_analyse_finds_every_name_that_is_read_before_it_is_assigned(program):
    finds_every_name_that_is_read(program)


@pytest.mark.cluster
@given(programs.filter(is_python))
@search(1000)
def test_analyse_finds_every_name_in_a_long_search(program):
    finds_every_name_that_is_read(program)


values_of_names = st.lists(st.integers(-3, 3), min_size=4, max_size=4)


@given(program=programs.filter(is_python), values=values_of_names)
@search(30)
def test_the_script_has_the_same_results_as_the_cell(nb, program, values):
    same_results(nb, program, values)


@pytest.mark.cluster
@given(program=programs.filter(is_python), values=values_of_names)
@search(500)
def test_the_script_has_the_same_results_in_a_long_search(nb, program, values):
    same_results(nb, program, values)


def same_results(nb, program, values):
    nb.shell.user_ns.update(zip(NAMES, values, strict=True), out=[], side=[10])
    nb.shell.user_ns.pop("K", None)
    in_session = {**dict(zip(NAMES, values, strict=True)), "out": [], "__name__": "__main__"}
    before = dict(in_session)
    failed = None
    try:
        exec(compile(program, "p", "exec"), in_session)
    except Exception as error:
        failed = error
    captured = nb.capture(program)
    if failed is not None:
        return
    in_run = nb.execute(captured)
    plain = (int, bool, type(None))

    def comparable(value):
        return value if isinstance(value, plain) else type(value).__name__

    for name in captured.outputs:
        if name == "out":
            assert [comparable(v) for v in in_run["out"]] == [comparable(v) for v in in_session["out"]]
        elif name in in_run:
            assert comparable(in_run[name]) == comparable(in_session[name])
        else:  # deleted, or left as it was
            assert (name not in in_session) if name in captured.deletes else (in_session.get(name) == before.get(name))


definitions = st.lists(
    st.sampled_from(
        [
            "def f(): return a",
            "def f(x=a): return x + b",
            "def g(): return f() + 1",
            "g = lambda: f() * 2",
            "class A:\n    v = a\n    def get(self): return self.v + b",
            "class B(A):\n    def get(self): return super().get() + c",
            "class A:\n    v = b\n    def get(self): return self.v - f()",
            "def make(n):\n    def inner(): return n + a\n    return inner\nh = make(b)",
            "h = make(a)",
            "obj = B()",
            "obj = A()",
            "a = a + 1",
            "b = b * 2",
            "import functools\n@functools.cache\ndef f(): return a * 10",
            "def twice(fn):\n    def run(): return 2 * fn()\n    return run\n@twice\ndef g(): return b",
            "A.extra = 3",
            "items = [f, h]",
        ]
    ),
    max_size=12,
)


@given(cells=definitions)
@search(80)
def test_definitions_and_redefinitions_in_any_order(nb, cells):
    nb.reset()
    base = ["a, b, c = 1, 2, 3", "def f(): return 7\ndef g(): return f()", "def make(n): return lambda: n"]
    base += [
        "class A:\n    v = 1\n    def get(self): return self.v",
        "class B(A): pass",
        "h = make(5)\nobj = A()\nitems = [h]",
    ]
    for cell in [*base, *cells]:
        nb.cell(cell)
    cell = "result = f(), g(), h(), A().get(), B.__mro__[1].v, [i() for i in items], getattr(A, 'extra', 0)"
    stale = type(nb["obj"]) not in (nb["A"], nb["B"]) or nb["A"] is not nb["B"].__mro__[1]
    if not stale:
        cell += ", obj.get(), B().get()"
    captured = nb.capture(cell)
    expected: dict = {}
    if not stale:
        exec(cell, nb.namespace)
        expected = nb.namespace["result"]
        assert nb.execute(captured)["result"] == expected
    else:
        assert nb.execute(captured)["result"][:4] == tuple(eval("(f(), g(), h(), A().get())", nb.namespace))
