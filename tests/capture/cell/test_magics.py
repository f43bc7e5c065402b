"""Magics in a cell become Python, in the same lines, or are refused."""

from __future__ import annotations

import pytest
from IPython.core.inputtransformer2 import TransformerManager

from mlnb.capture.cell.magics import rewrite
from mlnb.errors import CannotShip

TIMING = "__import__('mlnb.node.script.timing', fromlist=['timing'])"
transform = TransformerManager().transform_cell


@pytest.mark.parametrize(
    ("cell", "python"),
    [
        ("%time loss, n = fit(5)", f"with {TIMING}.Timer(): loss, n = fit(5)"),
        ("x = 1\nif x:\n    %time fit(5)", f"x = 1\nif x:\n    {TIMING}.Timer().value(fit(5))"),
        ("y = %time fit(5)", f"y = {TIMING}.Timer().value(fit(5))"),
        ("%time for x in data: fit(x)", f"for x in {TIMING}.Timer().loop(data): fit(x)"),
        ("# ö\n\n%%time\nx = 1", f"# ö\n\n{TIMING}.time_cell()  # %%time\nx = 1"),
        ("%timeit -n 10 -r 2 f(x)", f"{TIMING}.timeit(lambda: (f(x)), number=10, repeat=2)"),
        ("t = %timeit -o -q f(x)", f"t = {TIMING}.timeit(lambda: (f(x)), quiet=True, gives_result=True)"),
        ("%timeit y = f(x)", f"{TIMING}.timeit('y = f(x)', dict(f=f, x=x))"),
        ("\n%matplotlib inline\nx = 1", "\npass  # %matplotlib inline\nx = 1"),
        ("%env A=b c", "__import__('os').environ['A'] = 'b c'"),
        ("%env A {x}", "__import__('os').environ['A'] = f'{x}'"),
        ("value = %env A", "value = __import__('os').environ['A']"),
        ("%time await f()", f"{TIMING}.Timer().value(await f())"),
    ],
)
def test_magics_that_a_program_can_have(cell: str, python: str):
    assert rewrite(cell, transform, 1) == python
    assert rewrite(python, transform, 1) == python


@pytest.mark.parametrize("cell", ["x = 7\ny = (x\n%  4)", "text = '''\n%time f(x)\n!ls\n'''", "# %time\nx = '?'"])
def test_what_is_no_magic_stays_as_it_is(cell: str):
    assert rewrite(cell, transform, 1) == cell


def test_only_magics_are_rewritten_beside_text_that_looks_like_one():
    cell = "%time a = 1\ntext = '''\n%time b = 2\n'''"
    assert rewrite(cell, transform, 1) == f"with {TIMING}.Timer(): a = 1\ntext = '''\n%time b = 2\n'''"


@pytest.mark.parametrize(
    "line", ["!pip install a b", "%pip install -U b", "!uv pip install b", "!python -m pip install b"]
)
def test_an_installation_gets_its_advice(line: str):
    with pytest.raises(CannotShip, match=r"line 3: .* installs b, .*Install it in a separate cell, before this one"):
        rewrite(f"x = 1\n{line}", transform, 1)


@pytest.mark.parametrize("line", ["!ls", "files = !ls", "print?", "%who", "%time", "%time while x: f()"])
def test_all_others_are_refused_with_their_line(line: str):
    with pytest.raises(CannotShip, match=r"line 3: .* needs IPython, which a run doesn't have"):
        rewrite(f"x = 1\n{line}", transform, 1)
