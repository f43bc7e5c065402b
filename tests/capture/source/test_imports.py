"""Imports are sent as import statements, local modules as files."""

from __future__ import annotations

import os
import sys

import pytest


def test_the_user_s_own_imports(nb):
    nb.cell("import os.path as p, json\nfrom collections import OrderedDict as OD, deque\nimport xml.dom.minidom")
    script = nb.capture("p.join('a'), json.dumps(1), OD(), deque(), xml.dom.minidom").script
    for line in (
        "import os.path as p",
        "import json",
        "from collections import OrderedDict as OD, deque",
        "import xml.dom.minidom",
    ):
        assert line in script.splitlines()
    assert nb.train("result = p.join('a', 'b')")["result"] == "a/b"


def test_star_imports(nb):
    nb.cell("from math import *")
    captured = nb.capture("result = sin(0) + floor(pi)")
    assert "from math import floor, sin" in captured.script.replace("sin, floor", "floor, sin")
    assert nb.execute(captured)["result"] == 3


def test_a_name_that_was_assigned_another_module_later(nb):
    nb.cell("import json as j")
    nb.cell("import math as j")
    assert "import math as j" in nb.capture("j.pi").script
    nb.namespace["j"] = __import__("string")
    assert "import string as j" in nb.capture("j.digits").script


def test_submodules_reached_through_a_package(nb):
    nb.cell("import xml\nimport xml.etree.ElementTree")
    script = nb.capture("xml.etree.ElementTree.Element('a')").script
    assert "import xml.etree.ElementTree" in script.splitlines()
    nb.cell("import concurrent as c\nimport concurrent.futures")
    assert nb.train("result = c.futures.Future")["result"].__name__ == "Future"


def test_future_imports_come_first(nb):
    nb.cell("from __future__ import annotations")
    script = nb.capture("from __future__ import division\nx = 1").script
    lines = [line for line in script.splitlines() if line and not line.startswith("#")]
    assert lines[0] == "from __future__ import annotations, division"
    assert "# from __future__ import division" in script
    compile(script, "s", "exec")


def test_display_is_imported_from_mlnb(nb):
    captured = nb.capture("display(1)")
    assert "from mlnb.node.rank.display import display" in captured.script
    nb.cell("from IPython.display import display")
    assert "from mlnb.node.rank.display import display" in nb.capture("display(1)").script


def test_functions_and_classes_of_libraries(nb):
    nb.cell("import torch, numpy\nrelu, exp, Linear, Opt = torch.relu, numpy.exp, torch.nn.Linear, torch.optim.SGD")
    nb.cell(
        "from torch import sigmoid\nfrom typing import Optional, List\nimport numpy as np\nfrom numpy import float32"
    )
    names = nb.train(
        "result = relu(torch.tensor(-1.)).item(), exp(0), Linear(1, 1), Opt, sigmoid, Optional, List, float32"
    )
    assert names["result"][0] == 0
    assert names["result"][3] is nb["Opt"]


@pytest.fixture
def local(nb, monkeypatch):
    """A folder for modules beside the notebook, which are unloaded after the test."""
    monkeypatch.syspath_prepend(str(nb.folder))
    before = set(sys.modules)
    yield nb.folder
    for name in set(sys.modules) - before:
        del sys.modules[name]


def test_local_modules_are_sent_with_the_local_modules_they_import(nb, local):
    (local / "helpers_x.py").write_text(
        "import deeper_x\ndef f():\n    import lazy_x\n    return deeper_x.V + lazy_x.V\n"
    )
    (local / "deeper_x.py").write_text("V = 1\n")
    (local / "lazy_x.py").write_text("V = 2\n")
    (local / "unused_x.py").write_text("V = 2\n")
    nb.cell("import helpers_x as h")
    captured = nb.capture("result = h.f()")
    assert sorted(captured.files) == ["modules/deeper_x.py", "modules/helpers_x.py", "modules/lazy_x.py"]
    assert nb.execute(captured)["result"] == 3


def test_local_packages_are_sent_without_caches_and_big_files(nb, local):
    package = local / "pkg_x"
    (package / "sub" / "__pycache__").mkdir(parents=True)
    (package / "__init__.py").write_text("from . import sub\n")
    (package / "sub" / "__init__.py").write_text("from ..names import N\n")
    (package / "names.py").write_text("N = 3\n")
    (package / "labels.txt").write_text("cat\n")
    (package / "big.bin").write_bytes(b"0" * 2_000_000)
    (package / "sub" / "__pycache__" / "x.pyc").write_bytes(b"0")
    nb.cell("from pkg_x.sub import N\nfrom pkg_x import names")
    captured = nb.capture("result = names.N + N")
    assert sorted(captured.files) == [
        "modules/pkg_x/__init__.py", "modules/pkg_x/labels.txt", "modules/pkg_x/names.py",
        "modules/pkg_x/sub/__init__.py",
    ]  # fmt: skip
    assert any("big.bin" in note for note in captured.notes)
    assert nb.execute(captured)["result"] == 6


def test_local_modules_of_objects_are_sent(nb, local):
    (local / "models_x.py").write_text("class Net:\n    def __init__(self): self.w = 4\n")
    nb.cell("import models_x\nnet = models_x.Net()\ndel models_x")
    captured = nb.capture("result = net.w")
    assert list(captured.files) == ["modules/models_x.py"]
    assert nb.execute(captured)["result"] == 4


def test_modules_that_only_the_cell_imports(nb, local):
    (local / "only_x.py").write_text("V = 5\n")
    captured = nb.capture("from only_x import V\nresult = V")
    assert list(captured.files) == ["modules/only_x.py"]
    assert nb.execute(captured)["result"] == 5


def test_modules_that_the_cell_imports_by_import_module(nb, local):
    (local / "dynamic_x.py").write_text("V = 6\n")
    captured = nb.capture("import importlib\nresult = importlib.import_module('dynamic_x').V")
    assert list(captured.files) == ["modules/dynamic_x.py"]
    assert nb.execute(captured)["result"] == 6


def test_installed_modules_and_mlnb_are_not_sent(nb):
    nb.cell("import torch, numpy, mlnb, json")
    assert not nb.capture("torch, numpy, mlnb, json").files


def test_a_module_edited_since_its_import_is_sent_as_it_is_now(nb, local):
    (local / "edited_x.py").write_text("def f():\n    return 1\n")
    nb.cell("import edited_x")
    (local / "edited_x.py").write_text("def f():\n    return 'longer, now'\n")
    os.utime(local / "edited_x.py")
    captured = nb.capture("result = edited_x.f()")
    assert any("edited_x.py was edited since" in note for note in captured.notes)
    assert nb.execute(captured)["result"] == "longer, now"


def test_a_module_edited_since_its_import_into_one_that_does_not_compile(nb, local):
    (local / "broken_x.py").write_text("def f():\n    return 1\n")
    nb.cell("import broken_x")
    (local / "broken_x.py").write_text("return 'parses, but does not compile'\n")
    captured = nb.capture("result = broken_x.f()")
    assert any("broken_x.py was edited since" in note for note in captured.notes)


def test_files_listed_with_in(nb):
    (nb.folder / "data").mkdir()
    (nb.folder / "data" / "a.csv").write_text("1,2\n")
    (nb.folder / "notes.txt").write_text("x")
    captured = nb.capture("x = 1", include=["data", "notes.txt"])
    assert sorted(captured.files) == ["files/data/a.csv", "files/notes.txt"]
    assert "neither a variable" in nb.refusal("x = 1", include=["nothing.txt"])


def test_names_listed_with_in_are_sent_even_if_nothing_reads_them(nb):
    nb.cell("hidden_by_eval = 3")
    assert nb.train("result = eval('hidden_' + 'by_eval')", include=["hidden_by_eval"])["result"] == 3
