"""Local modules have the session's values in the run."""

from __future__ import annotations

import sys

import pytest

from mlnb.node.script import module_values

SOURCE = """
import os
STEPS = 2
LR = 0.1 / 2
CORES = os.cpu_count()
REGISTRY = {}
class Settings:
    width = 4
    def __init__(self): self.lr, self.seen = 0.1, []
    def describe(self): return "original"
SETTINGS = Settings()
def lr(): return SETTINGS.lr
def register(name): REGISTRY[name] = len(REGISTRY)
def steps(): return STEPS, LR, Settings.width
def count():
    global STEPS
    STEPS += 1
"""


@pytest.fixture
def settings(nb, monkeypatch):
    (nb.folder / "values_of_module.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(nb.folder))
    monkeypatch.delitem(sys.modules, "values_of_module", raising=False)
    nb.cell("import values_of_module as cfg\nfrom values_of_module import SETTINGS, REGISTRY, lr")
    return sys.modules["values_of_module"]


def run(nb, cell: str, monkeypatch) -> dict:
    """Run a cell with a module that was imported anew, as in another process."""
    captured = nb.capture(cell)
    monkeypatch.delitem(sys.modules, "values_of_module")
    return nb.execute(captured)


def test_values_are_those_of_the_session(nb, settings, monkeypatch):
    nb.cell("cfg.STEPS = 7; cfg.LR = 0.5; cfg.Settings.width = 8\ncfg.register('a'); SETTINGS.lr = 0.2; cfg.count()")
    captured = nb.capture("cfg.steps()")
    assert [item.detail for item in captured.items if item.kind == "values"] == [
        "STEPS, LR, REGISTRY, Settings.width, SETTINGS: as in this session"
    ]
    names = run(
        nb,
        "result = cfg.steps(), lr(), cfg.REGISTRY, cfg.SETTINGS is SETTINGS, cfg.REGISTRY is REGISTRY\n"
        "SETTINGS.lr = 0.3; changed = lr()",
        monkeypatch,
    )
    assert names["result"] == ((8, 0.5, 8), 0.2, {"a": 0}, True, True)
    assert names["changed"] == 0.3
    assert names["cfg"] is not settings


def test_values_that_the_source_gives_anew_are_not_sent(nb, settings):
    captured = nb.capture("cfg.steps()")
    (values,) = [stream.values[module_values.NAME] for stream in captured.streams]
    assert "CORES" not in values["values_of_module"]
    assert "STEPS" not in values["values_of_module"]
    nb.cell("cfg.CORES = 3")
    (values,) = [stream.values[module_values.NAME] for stream in nb.capture("cfg.steps()").streams]
    assert values["values_of_module"]["CORES"] == 3


def test_functions_and_methods_that_were_replaced(nb, settings, monkeypatch):
    nb.cell("def describe(self): return 'replaced'\ncfg.Settings.describe = describe\ncfg.lr = lambda: 5")
    names = run(nb, "result = SETTINGS.describe(), cfg.lr()", monkeypatch)
    assert names["result"] == ("replaced", 5)


def test_what_the_cell_changes_is_found(nb, settings, monkeypatch):
    names = run(
        nb,
        "cfg.STEPS = 9; cfg.Settings.width = 2; cfg.NEW = 1; cfg.register('b')\n"
        "cfg.later, cfg.lr = [1], len; del cfg.LR\n"
        "from mlnb.node.script import module_values\nfrom mlnb.node.data.sent import Removed\n"
        "changes = {path: value for _, path, value in module_values.current.changes(repr).values()}",
        monkeypatch,
    )
    changes = names["changes"]
    expected = {"STEPS": 9, "Settings.width": 2, "NEW": 1, "REGISTRY": {"b": 0}, "later": [1], "lr": len}
    assert {name: changes[name] for name in expected} == expected
    assert changes["LR"] is names["Removed"]


def test_a_value_that_can_t_be_sent_is_left_as_the_source_makes_it(nb, settings, monkeypatch):
    nb.cell("import threading\ncfg.REGISTRY['gate'] = threading.Barrier(2)")
    assert run(nb, "result = cfg.REGISTRY", monkeypatch)["result"] == {}
