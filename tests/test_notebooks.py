"""The notebooks that people start with run from top to bottom, a kernel restart in their middle included."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

NOTEBOOKS = Path(__file__).parents[1] / "notebooks"


def demo() -> ModuleType:
    spec = importlib.util.spec_from_file_location("run_demo", NOTEBOOKS / "run_demo.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_train_in_a_cell_trains_and_survives_a_restart() -> None:
    run_demo = demo()
    book = run_demo.run(NOTEBOOKS / "01-train-in-a-cell.ipynb")

    before = float(run_demo.printed(book, r"accuracy before: ([0-9.]+)"))
    after = float(run_demo.printed(book, r"accuracy after: ([0-9.]+)"))
    restarted = float(run_demo.printed(book, r"on all digits: ([0-9.]+)"))
    assert before < 0.3
    assert after > 0.9
    assert restarted > 0.9
    assert float(run_demo.printed(book, r"accuracy of two ranks: ([0-9.]+)")) > 0.8
    assert run_demo.printed(book, r"(attempts: .*)") == "attempts: 2, steps: 132 of 132"

    saved = [
        output.data["application/vnd.mlnb.run+json"]
        for cell in book.cells
        if "%%train" in cell.source  # another shows the run that it has cancelled
        for output in cell.get("outputs", ())
        if "application/vnd.mlnb.run+json" in output.get("data", {})
    ]
    assert [run["state"] for run in saved] == ["succeeded"] * 3
    assert [run["name"] for run in saved] == ["digits", "two-ranks", "two-ranks"]
    assert len(saved[0]["metrics"]["loss"]["step"]) == 440
    assert len(saved[0]["metrics"]["accuracy"]["step"]) == 20
