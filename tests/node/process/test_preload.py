"""What is imported once a node, before its ranks are forked."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mlnb.rundir import read_json
from tests.node.allocation import Allocate
from tests.waiting import until

PRINT_COLLECTOR_STATE = """
import gc
from mlnb.node.process.preload import preload
gc.collect()
assert gc.get_freeze_count() == 0
print(preload(["json.tool"]), gc.isenabled(), gc.get_freeze_count() > 1000)
"""


def test_imported_objects_are_frozen_and_the_garbage_collector_is_on_again():
    done = subprocess.run([sys.executable, "-c", PRINT_COLLECTOR_STATE], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["None", "True", "True"]


def a_torch(folder: Path, code: str) -> dict[str, str]:
    """An environment with another torch."""
    (folder / "torch").mkdir()
    (folder / "torch" / "__init__.py").write_text(code)
    return {"PYTHONPATH": str(folder)}


def test_a_run_reports_its_start_before_it_imports_torch(allocate: Allocate, tmp_path: Path):
    go = tmp_path / "go"
    waits = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.02)\nraise ImportError('no go')"
    allocation = allocate("print('here')", nodes=1)
    allocation.start(**a_torch(tmp_path, waits))
    allocation.event("starting")
    until(lambda: allocation.run.state == "starting")
    alive = allocation.run.directory.attempt(1).heartbeat(0)
    beats = until(lambda: read_json(alive))
    until(lambda: (read_json(alive) or {})["t"] > beats["t"] + 2)
    assert allocation.programs[0].poll() is None
    go.touch()
    assert allocation.codes() == [1], allocation.output()


def test_a_torch_that_can_not_be_imported_is_the_reason_in_one_line(allocate: Allocate, tmp_path: Path):
    allocation = allocate("import torch", nodes=1)
    allocation.start(**a_torch(tmp_path, "raise OSError('libcudart.so.12: cannot open shared object file')"))
    assert allocation.codes() == [1], allocation.output()
    assert allocation.run.state == "failed"
    assert allocation.run.reason == (
        f"torch can't be imported: OSError: libcudart.so.12: cannot open shared object file (Python {sys.executable})"
    )
