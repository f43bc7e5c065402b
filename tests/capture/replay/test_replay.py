"""Statements of the session that changed libraries run again before the cell."""

from __future__ import annotations

import ast
import logging
import sys
import warnings

import pytest

from mlnb.capture.replay.of_cell import settings_of_cell


@pytest.fixture(autouse=True)
def _restored():
    root, level, handlers = logging.getLogger(), logging.getLogger().level, list(logging.getLogger().handlers)
    with warnings.catch_warnings():
        yield
    root.setLevel(level)
    root.handlers[:] = handlers


def replayed(captured) -> list[str]:
    return [item.name for item in captured.items if item.kind == "statement"]


def module(nb, name: str, text: str, monkeypatch) -> None:
    (nb.folder / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(str(nb.folder))
    monkeypatch.delitem(sys.modules, name, raising=False)


def test_settings_run_again_in_their_order(nb):
    nb.cell(
        """
        import logging, warnings
        log = logging.getLogger("training")
        warnings.simplefilter("error", RuntimeWarning)
        """
    )
    nb.cell("logging.basicConfig(level=logging.INFO, force=True)\nlog.setLevel(logging.DEBUG); log.propagate = True")
    captured = nb.capture("log.info('done')")
    assert replayed(captured) == [
        'warnings.simplefilter("error", RuntimeWarning)',
        "logging.basicConfig(level=logging.INFO, force=True)",
        "log.setLevel(logging.DEBUG)",
        "log.propagate = True",
    ]
    script = captured.script
    assert script.index("basicConfig") < script.index("log.setLevel") < script.index("log.info")


def test_what_the_session_did_once_does_not_run_again(nb, tmp_path):
    nb.cell(
        f"""
        import os, random, sys, time, torch, numpy as np
        values = [1, 2]
        random.shuffle(values); np.random.seed(1); torch.manual_seed(1); time.sleep(0)
        torch.save(values, {str(tmp_path / "x.pt")!r}); os.makedirs({str(tmp_path / "y")!r})
        sys.path.append("nowhere"); sys.path.remove("nowhere"); w = torch.ones(1); torch.nn.init.ones_(w)
        """
    )
    assert replayed(nb.capture("print(values, w, random.random(), np.pi, os.sep, time.time())")) == []


def test_an_assignment_gives_the_value_that_the_target_has_now(nb):
    nb.cell("import matplotlib as mpl\nsize = 50\nold = mpl.rcParams['figure.dpi']\nmpl.rcParams['figure.dpi'] = size")
    nb.cell("size = 70\nmpl.rcParams['figure.dpi'] = size + 1\nsize = 90")
    try:
        assert replayed(nb.capture("print(mpl.__version__)")) == ["mpl.rcParams['figure.dpi'] = 71.0"]
        assert replayed(nb.capture("print(1)")) == []
    finally:
        nb.cell("mpl.rcParams['figure.dpi'] = old")


def test_what_can_t_be_sent_is_made_anew_by_its_line(nb):
    nb.cell(
        """
        import logging
        log = logging.getLogger("anew")
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(message)s!"))
        log.addHandler(handler)
        """
    )
    script = nb.capture("log.warning('x')").script
    lines = ["handler = logging.StreamHandler()", "handler.setFormatter(", "log.addHandler(handler)"]
    assert [script.index(line) for line in lines] == sorted(script.index(line) for line in lines)


def test_a_function_of_the_notebook_that_configures_runs_again(nb):
    nb.cell("import warnings\ndef configure_warnings(action):\n    warnings.simplefilter(action)\n")
    nb.cell("configure_warnings('ignore')")
    assert replayed(nb.capture("print(1)")) == ["configure_warnings('ignore')"]


def test_notebook_classes_are_registered_again(nb):
    nb.cell("import copyreg\nclass A: pass\ndef reduce_a(a): return A, ()\ncopyreg.pickle(A, reduce_a)")
    nb.cell("import functools, torch\ntorch.serialization.add_safe_globals([A])")
    captured = nb.capture("print(torch.serialization.get_safe_globals())")
    assert replayed(captured) == ["copyreg.pickle(A, reduce_a)", "torch.serialization.add_safe_globals([A])"]
    assert "class A" in captured.script


def test_a_credential_is_not_repeated(nb):
    nb.cell("import logging\nlogging.basicConfig(datefmt='hf_abcdefghijklmnopqrstuvwxyz012345AB')")
    captured = nb.capture("print(1)")
    assert replayed(captured) == []
    assert any("credential" in note for note in captured.notes)


def test_imports_for_their_effect(nb, monkeypatch):
    module(nb, "effect_registry", "MODELS = {}\n", monkeypatch)
    module(nb, "effect_plugins", "import effect_registry\neffect_registry.MODELS['a'] = 1\n", monkeypatch)
    nb.cell("import effect_registry, effect_plugins\nprint(effect_plugins.__name__)")
    nb.cell("from sklearn.experimental import enable_iterative_imputer\nimport rich")
    captured = nb.capture("print(sorted(effect_registry.MODELS))\nfrom sklearn.impute import IterativeImputer")
    assert "from sklearn.experimental import enable_iterative_imputer" in captured.script
    assert "import effect_plugins" in captured.script
    assert "modules/effect_plugins.py" in captured.files
    assert "import rich" not in captured.script
    assert "sklearn" not in nb.capture("print(1)").script


def test_an_object_of_a_library_stays_the_library_s(nb):
    nb.cell("from matplotlib import rcParams\nfrom os import environ\nold = rcParams['figure.dpi']")
    nb.cell("rcParams['figure.dpi'] = 70")
    try:
        captured = nb.capture("import matplotlib\nresult = rcParams is matplotlib.rcParams, environ['PATH']")
    finally:
        nb.cell("rcParams['figure.dpi'] = old")
    assert "from matplotlib import rcParams" in captured.script
    assert "from os import environ" in captured.script
    assert replayed(captured) == ["rcParams['figure.dpi'] = 70.0"]
    assert nb.execute(captured)["result"][0] is True


def test_what_the_cell_sets_is_set_here_too(nb):
    nb.cell("import logging, warnings, torch\nfrom matplotlib import rcParams")
    cell = (
        "import pandas as pd\nlogging.disable(5)\nx = 1\nrcParams['figure.dpi'] = 60\nrcParams.update({})\n"
        "pd.options.display.max_rows = 9\nx.bit_length()\ntorch.save(x, 'y')\nlogging.info('x')"
    )
    captured = nb.capture(cell)
    nb.cell("import pandas as pd")
    found = settings_of_cell(captured.script, captured.segments[-1].start, nb.namespace)
    assert [ast.unparse(node) for node in found] == [
        "logging.disable(5)",
        "rcParams['figure.dpi'] = 60",
        "rcParams.update({})",
        "pd.options.display.max_rows = 9",
    ]


def test_objects_that_fail_when_they_are_asked_disturb_nothing(nb):
    nb.cell("class Nasty:\n    __class__ = property(lambda self: 1 / 0)\nnasty = Nasty()")
    nb.cell("import logging\nnasty.x = 1; logging.disable(0)")
    assert replayed(nb.capture("print(1)")) == ["logging.disable(0)"]


def test_settings_by_another_name_and_those_whose_result_is_kept(nb):
    nb.cell(
        """
        import logging, sys
        from logging import basicConfig as bc
        from torch import nn
        def hook(module, inputs, outputs): pass
        """
    )
    nb.cell(
        """
        bc(level=logging.DEBUG, force=True)
        configure = logging.disable
        configure(5)
        handle = nn.modules.module.register_module_forward_hook(hook)
        old = sys.setrecursionlimit(sys.getrecursionlimit())
        copied = dict(a=1)
        """
    )
    try:
        captured = nb.capture("layer = nn.Linear(2, 2)\nlogging.info('x')")
    finally:
        nb["handle"].remove()
        logging.disable(logging.NOTSET)
    assert replayed(captured) == [
        "bc(level=logging.DEBUG, force=True)",
        "configure(5)",
        "nn.modules.module.register_module_forward_hook(hook)",
        "sys.setrecursionlimit(sys.getrecursionlimit())",
    ]
    assert "def hook(" in captured.script
    assert "handle" not in captured.script
