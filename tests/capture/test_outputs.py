"""Outputs of a cell: names that it assigns, and values that it may have changed."""

from __future__ import annotations

import pytest


@pytest.fixture
def nb(nb):
    nb.cell("import torch, numpy as np, pandas as pd\nfrom torch import nn\nfrom collections import deque")
    nb.cell(
        "model = nn.Linear(2, 2)\nopt = torch.optim.SGD(model.parameters(), 0.1)\nX = torch.ones(3, 2)\nA = np.ones(3)"
    )
    nb.cell("df = pd.DataFrame({'a': [1]})\nhistory = []\ncfg = {'a': 1}\nbest = 0\nwords = 'x'\nd = deque()")
    nb.cell("class Meter:\n    def __init__(self): self.n = 0\n    def add(self): self.n += 1\nmeter = Meter()")
    nb.cell("from torch.utils.data import *\ndata = TensorDataset(X)\nloader = DataLoader(data)")
    nb.cell(
        "import re, decimal, datetime, pathlib\nfolder, pattern = pathlib.Path('.'), re.compile('x')\n"
        "price, when = decimal.Decimal('1'), datetime.date(2026, 1, 1)"
    )
    nb.cell("g = torch.Generator()\nscaler = torch.amp.GradScaler('cpu', enabled=False)")
    return nb


def outputs(nb, cell, **options):
    return set(nb.capture(cell, **options).outputs)


@pytest.mark.parametrize(
    ("cell", "names"),
    [
        ("a = 1\nb: int = 2\n_c = 3", {"a", "b", "_c"}),
        ("for _ in range(3): pass\n_1 = _i = _oh = __name__ = 2", set()),
        ("for i, (j, *k) in []: pass\nwith open('/dev/null') as f: pass", {"i", "j", "k", "f"}),
        ("import os.path\nfrom sys import argv as v\ndef f(): local = 1\nclass C: x = 1", {"os", "v", "f", "C"}),
        ("if (n := 3): pass\nprint([(m := i) for i in [1]])", {"n", "m"}),
        ("def f():\n    global made\n    made = 1\nf()", {"f", "made"}),
        ("try: pass\nexcept ValueError as e: pass", set()),
        ("match [1]:\n    case [a, *b]: pass\n    case {'k': v, **r}: pass", {"a", "b", "v", "r"}),
        ("best += 1", {"best"}),
        ("del best", {"best"}),
    ],
)
def test_names_that_the_cell_assigns(nb, cell, names):
    assert outputs(nb, cell) == names


@pytest.mark.parametrize(
    ("cell", "changed"),
    [
        ("model(X)", {"model"}),
        ("opt.zero_grad()", {"opt"}),
        ("torch.rand(1, generator=g)", {"g"}),
        ("print(scaler)", {"scaler"}),
        ("for x, in loader: pass", {"x"}),
        ("print(X.sum(), A.mean(), df.a)", set()),
        ("X[0] = 1", {"X"}),
        ("X += 1", {"X"}),
        ("X.add_(1)", {"X"}),
        ("view = X[0]\nview.zero_()", {"view", "X"}),
        ("torch.nn.init.normal_(X)", {"X"}),
        ("torch.add(X, X, out=X)", {"X"}),
        ("np.random.shuffle(A)", {"A"}),
        ("A.sort()", {"A"}),
        ("df['b'] = 2", {"df"}),
        ("df.loc[0, 'a'] = 2", {"df"}),
        ("df.drop(columns='a', inplace=True)", {"df"}),
        ("history.append(1)", {"history"}),
        ("print(len(history), history[0:1], cfg.get('a'), sorted(history))", set()),
        ("cfg['a'] = 2", {"cfg"}),
        ("cfg |= {}", {"cfg"}),
        ("history[:] = [1]", {"history"}),
        ("d.append(1)", {"d"}),
        ("meter.add()", {"meter"}),
        ("meter.n = 2", {"meter"}),
        ("def change(m): m.n = 1\nchange(meter)", {"change", "meter"}),
        ("alias = history\nalias.append(1)", {"alias", "history"}),
        ("for h in [history]: h.append(1)", {"h", "history"}),
        ("[h.append(1) for h in (history, cfg['l'])]", {"history", "cfg"}),
        ("print(words.upper())", set()),
        ("folder.exists()\nprice.quantize(1)\nwhen.replace(year=1)\npattern.match('x')", set()),
    ],
)
def test_values_that_the_cell_may_change(nb, cell, changed):
    nb.namespace["cfg"]["l"] = []
    returned = outputs(nb, cell)
    assert returned - {"opt", "model"} == changed - {"opt", "model"}
    assert changed <= returned


def test_values_that_a_function_of_the_session_changes(nb):
    nb.cell("def step(x):\n    record(x)\n    cfg['n'] = x\ndef record(x):\n    history.append(x)")
    assert outputs(nb, "step(1)") == {"history", "cfg"}


CHANGES_ITS_ARGUMENT = {
    "by position": ("def norm(a, b):\n    b -= b.mean()", "norm(1, X)"),
    "by keyword": ("def norm(a=None):\n    a[0] = 1", "norm(a=X)"),
    "through another": ("def norm(a):\n    a.sub_(1)\ndef both(c, d): norm(d)", "both(1, X)"),
    "in a loop": ("def norm(parts):\n    for part in parts: part.mul_(2)", "norm([X, X])"),
    "a method": ("class Norm:\n    def fit(self, x): x.div_(2)\nnorm = Norm()", "norm.fit(X)"),
}


@pytest.mark.parametrize(("definition", "call"), CHANGES_ITS_ARGUMENT.values(), ids=CHANGES_ITS_ARGUMENT)
def test_an_array_that_a_function_of_the_session_changes_as_its_argument(nb, definition, call):
    nb.cell(definition)
    assert "X" in outputs(nb, call)
    assert "X" not in outputs(nb, "print(X)")


def test_an_array_that_a_function_only_reads_is_none_of_the_outputs(nb):
    nb.cell("def mean(a):\n    b = a.clone()\n    b -= 1\n    return b.mean()")
    assert "X" not in outputs(nb, "mean(X)")


def test_a_global_that_a_function_of_the_session_assigns(nb):
    nb.cell("def step():\n    global best\n    best += 1")
    assert outputs(nb, "step()") == {"best"}
    assert nb.train("step()")["best"] == 1


def test_other_names_of_changed_values_are_outputs_too(nb):
    nb.cell("same = meter")
    assert outputs(nb, "meter.add()\nprint(same)") == {"meter", "same"}


def test_outputs_listed_by_the_user(nb):
    assert nb.capture("a = b = 1", outputs=["a"]).outputs == ("a",)


def test_values_that_may_change_are_among_the_inputs(nb):
    captured = nb.capture("print(X, history, best, model)")
    assert set(captured.inputs) == {"X", "history", "model"}


def test_deletes(nb):
    captured = nb.capture("del best, cfg['a']\nfor i in []: pass\ndel i")
    assert captured.deletes == ("best", "i")
