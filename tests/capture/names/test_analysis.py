"""Which names a cell reads before it has definitely assigned them."""

from __future__ import annotations

import sys

import pytest

from mlnb.capture import analyse, reach


@pytest.mark.parametrize(
    ("cell", "loads"),
    [
        ("loss = f(x)\nloss.backward()", "f x"),
        ("for x, y in loader: loss = g(x, y)", "loader g"),
        ("for x in xs: last = x\nprint(last)", "xs last print"),
        ("total += 1", "total"),
        ("del tmp", "tmp"),
        ("lr = lr * 2", "lr"),
        ("a = b = c", "c"),
        ("if p: a = 1\nelse: a = 2\na", "p"),
        ("if p: a = 1\na", "p a"),
        ("if p: a = 1\nelse: raise E\na", "p E"),
        ("try: a = f()\nexcept E: a = 0\na", "f E"),
        ("try: a = f()\nexcept E: pass\na", "f E a"),
        ("try: a = f()\nfinally: b = 1\na, b", "f"),
        ("try: pass\nexcept E as e: e\ne", "E e"),
        ("a = 1\ntry: pass\nfinally: del a\na", "a"),
        ("a = 1\ntry: f()\nexcept E: del a\nfinally: a", "a f E"),
        ("while c: a = 1\na", "c a"),
        ("while True:\n  a = 1\n  if a: break\na", ""),
        ("while True:\n  if c: break\n  a = 1\na", "c a"),
        ("for i in r: break\nelse: i = 0\ni", "r"),
        ("for i in r:\n  if i: continue\n  b = 1\n  b", "r"),
        ("with c() as (a, b): d = 1\na, b, d", "c"),
        ("import contextlib\nwith contextlib.suppress(E): a = 1\na", "E a"),
        ("match v:\n  case [a, *b]: pass\n  case {'k': a, **b}: pass\n  case _: a = b = 1\na, b", "v"),
        ("match v:\n  case P(x=a) if a > m: a\na", "v P m a"),
        ("[i for i in xs if i > k]", "xs k"),
        ("{a: b for a, b in d.items() for c in a}", "d"),
        ("[(z := i) for i in xs]\nz", "xs z"),
        ("(z := 1) and z", ""),
        ("p and (z := 1)\nz", "p z"),
        ("f'{a:{w}} {b!r}'", "a w b"),
        ("a, *b = c\nb", "c"),
        ("a[i] = v", "a i v"),
        ("a.b = v", "a v"),
        ("def f(x=d): return g + x", "d"),
        ("def f(): return g\nf()", "g"),
        ("def f(): return g\ng = 1\nf()", ""),
        ("def f(): return h()\ndef h(): return g\nf()", "g"),
        ("def f():\n  g = 1\n  def h(): return g\n  return h\nf()", ""),
        ("def f():\n  global g\n  g = 1\nf()\ng", "g"),
        ("def f():\n  n = 1\n  def h():\n    nonlocal n\n    n += 1\n  h()\nf()", ""),
        ("def f(*args, k=1, **kw): return args, k, kw\nf()", ""),
        ("@d\ndef f(): return g", "d g"),
        ("x = lambda: q", ""),
        ("x = lambda: q\nx()", "q"),
        ("run(lambda a, b=c: a + b + d)", "run c d"),
        ("class C(B, metaclass=M):\n  a = x\n  b = a\n  def m(self): return y", "B M x"),
        ("class C:\n  def m(self): return y\nC()", "y"),
        ("class C:\n  x = x", "x"),
        ("x: T = v", "T v"),
        ("from __future__ import annotations\nx: T = v\ndef f(a: U) -> V: pass", "v"),
        ("def f():\n  x: T = 1\nf()", ""),
        ("import a.b.c, d as e\na, e", ""),
        ("async def f():\n  async for i in g: await i\nrun(f)", "run g"),
        ("assert a, b", "a b"),
        ("print(*a, **b)", "print a b"),
        ("x = yes if c else no", "yes c no"),
        ("for i in range(n):\n  if i: print(prev)\n  prev = i", "range n print prev"),
    ],
)
def test_loads(cell, loads):
    assert set(analyse(cell).loads) == set(loads.split())


@pytest.mark.skipif(sys.version_info < (3, 12), reason="syntax of Python 3.12")
def test_type_parameters():
    names = analyse("def f[T](x: T) -> U: return x\nclass C[K](B): x: K\ntype A[V] = dict[V, W]")
    assert "T" not in names.loads
    assert "K" not in names.loads
    assert {"U", "B"} <= names.loads


def test_names_assigned_on_some_paths_are_possibly_assigned():
    names = analyse("for x in xs: last = x\nprint(last, other)")
    assert names.possibly_assigned == {"last"}
    assert {"xs", "print", "other"} <= names.required


def test_bodies_of_time_cells_are_analysed():
    names = analyse("get_ipython().run_cell_magic('time', '', 'y = x\\nz = y')")
    assert (names.loads, names.stores) == ({"x"}, {"y", "z"})
    assert analyse("get_ipython().run_cell_magic('bash', '', 'echo x')").stores == frozenset()


def test_names_a_function_reads_are_not_sent_if_the_cell_assigns_them_first(nb):
    nb.cell("lr = open('/dev/null')\ndef train(): return step()\ndef step(): return lr")
    assert nb.train("lr = 0.5\nresult = train()")["result"] == 0.5


def test_reach_follows_functions_classes_partials_and_instances(nb):
    nb.cell("from functools import partial")
    nb.cell("def f(): return a\ndef g(): return f()\nclass K:\n    def m(self): return b\nclass L(K): pass")
    nb.cell("k = L()\np = partial(g)\ndef outer():\n    inner = lambda: c\n    return inner\nh = outer()")
    ns = nb.namespace
    assert reach(["g"], ns) == {"g", "f", "a"}
    assert reach(["k"], ns) >= {"k", "b"}
    assert reach(["p"], ns) == {"p", "f", "a"}
    assert reach(["h"], ns) == {"h", "c"}
    assert reach(["nothing"], ns) == {"nothing"}


def test_a_class_in_a_function_reads_globals_of_names_that_it_assigns_itself():
    source = "def f():\n    b = 1\n    class K:\n        b = b\n    return K\nf()"
    assert "b" in analyse(source).loads
    assert "b" not in analyse(source.replace("        b = b", "        c = b")).loads


def test_a_nested_class_does_not_see_names_of_the_outer_class_body():
    assert "d" in analyse("class K:\n    d = 1\n    class L:\n        e = d").loads


def test_what_an_unloaded_module_may_give_is_possibly_assigned():
    names = analyse("first\nfrom not_loaded_yet import *\nsecond")
    assert names.certain == {"first"}
    assert "second" in names.possibly_assigned
