"""The script is a program that a person can read and run, and the plan says what it takes along."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch

import mlnb

ROOT = Path(mlnb.__file__).parent.parent


def test_it_reads_like_a_program(nb):
    nb.cell("import math\nfrom enum import Enum")
    nb.cell("class Mode(Enum):\n    A = 1")
    nb.cell("mode = Mode.A\nrate = 0.5\nnames = ['a']")
    nb.cell("def f(x=rate):\n    return math.floor(x)")
    captured = nb.capture("print(f(), mode, names)", label="cell [5]")
    assert captured.script == (
        "# Written by mlnb: a notebook's cell and what it needs.\n"
        "# It runs by itself where this file is: torchrun --nproc-per-node 1 script.py\n"
        "\n"
        "import math\n"
        "from enum import Enum\n"
        "\n"
        "names = ['a']\n"
        "rate = 0.5\n"
        "\n"
        "\n"
        "class Mode(Enum):\n"
        "    A = 1\n"
        "\n"
        "\n"
        "mode = Mode.A\n"
        "\n"
        "\n"
        "def f(x=rate):\n"
        "    return math.floor(x)\n"
        "\n"
        "\n"
        "# cell [5]\n"
        "print(f(), mode, names)\n"
    )


def test_the_same_session_gives_the_same_script(nb):
    nb.cell("import torch\nfrom torch import nn\nk = {'b', 'a', 'c'}\nz = a = [1]\nmodel = nn.Linear(2, 2)")
    nb.cell("def f(): return g\ng = h = lambda: k")
    cell = "print(f(), z, a, model, h, k)"
    first, second = nb.capture(cell), nb.capture(cell)
    assert first.script == second.script
    assert {p: c.digest() for p, c in first.finish().items()} == {p: c.digest() for p, c in second.finish().items()}


def test_it_runs_by_hand(nb):
    nb.cell("import torch\nfrom torch import nn")
    nb.cell(
        "class Net(nn.Module):\n    def __init__(self):\n        super().__init__()\n        self.l = nn.Linear(2, 1)"
    )
    nb.cell("net = Net()\nX = torch.ones(2000, 2)\nexpected = net.l(X).sum().item()")
    run = nb.write(nb.capture("print(repr(net.l(X).sum().item()))"))
    done = subprocess.run(
        [sys.executable, run / "script.py"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert float(done.stdout) == nb["expected"]


def test_definitions_stand_before_what_needs_them_at_once(nb):
    nb.cell("def deco(f): return f\ndef base(): return Base\nclass Base: x = 1")
    nb.cell("@deco\ndef a(v=Base): return v.x\nclass K(base()): y = a()")
    assert nb.train("result = K().x, K.y")["result"] == (1, 1)


def test_the_plan(nb):
    nb.cell("import torch\nX = torch.ones(1000, 2)\nlr = 0.1\ndef f(): return lr")
    items = {item.name: item for item in nb.capture("f(), torch.sum(X)").items}
    assert (items["X"].kind, items["X"].size, items["X"].detail) == ("data", 8000, "Tensor 1000x2 torch.float32")
    assert (items["f"].kind, items["f"].detail) == ("definition", "cell [1]")
    assert (items["lr"].kind, items["lr"].detail) == ("value", "0.1")
    assert (items["torch"].kind, items["torch"].detail) == ("import", "import torch")


def test_names_that_hide_built_in_ones(nb):
    nb.cell("float = 3\nset = 4\ninf = 1e999\nempty = [{1}.__class__()]")
    assert nb.train("result = inf, empty, float")["result"] == (1e999, [set()], 3)


def test_texts_and_names_in_any_script(nb):
    nb.cell("größe = 'Ångström \\u2028 \"quoted\" \\\\ \\n'\ndef straße(ö='ß', x=größe): return ö + x")
    nb.cell("größe = 'other'")
    assert nb.train("result = straße(), größe")["result"] == (nb["straße"](), "other")


def test_torch_s_switches_are_as_in_the_session(nb, monkeypatch):
    nb.cell("import torch")
    assert "set_default_dtype" not in nb.capture("torch.ones(1)").script
    torch.set_default_dtype(torch.float64)
    torch.backends.cudnn.benchmark = True
    try:
        captured = nb.capture("result = torch.ones(1).dtype")
    finally:
        torch.set_default_dtype(torch.float32)
        torch.backends.cudnn.benchmark = False
    try:
        assert nb.execute(captured)["result"] is torch.float64
        assert torch.backends.cudnn.benchmark is True
    finally:
        torch.set_default_dtype(torch.float32)
        torch.backends.cudnn.benchmark = False


def test_definitions_of_an_earlier_train_cell_are_found(nb):
    def train(line, cell):
        nb.shell.run_cell(cell)

    nb.shell.register_magic_function(train, "cell")
    nb.cell("%%train --gpus 2\n\ndef f(x):\n    return x + 1")
    captured = nb.capture("result = f(1)")
    assert nb.execute(captured)["result"] == 2
    assert (captured.segments[0].source, captured.segments[0].origin) == ("cell [1]", 3)
