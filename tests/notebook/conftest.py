"""One kernel for most tests here: starting one costs seconds, a cell costs milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlnb.api import runs
from tests.notebook.kernels import Kernel, kernel

CONFIG = "c.TrainMagics.cpus = 1  # two runs side by side on two cores\n"

PRELUDE = """
for _name in set(globals()) - _at_start:
    if not _name.startswith('_'):
        del globals()[_name]
import time
from pathlib import Path
import torch
from torch import nn

def steps(model, optimizer, count=5):
    for _ in range(count):
        loss = (model(data) - data.sum(1, keepdim=True)).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()

torch.manual_seed(0)
data = torch.randn(32, 4)
model = nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
"""


@pytest.fixture(scope="session")
def ipython_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A profile with the configuration that a person would have."""
    folder = tmp_path_factory.mktemp("ipython")
    (folder / "profile_default").mkdir()
    (folder / "profile_default" / "ipython_kernel_config.py").write_text(CONFIG)
    return folder


@pytest.fixture(scope="session")
def session_kernel(tmp_path_factory: pytest.TempPathFactory, ipython_folder: Path, runtime: Path) -> Iterator[Kernel]:
    """The kernel, with mlnb loaded."""
    folder = tmp_path_factory.mktemp("notebook")
    with kernel(folder, folder / "runs", ipython=ipython_folder) as made:
        made.ok("%load_ext mlnb")
        made.ok("_at_start = set(globals())")
        yield made


class Gate:
    """A file for which a cell waits: so the test, not the clock, says when a run goes on."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def wait(self) -> str:
        """The cell's code."""
        return f"while not Path({str(self.path)!r}).exists(): time.sleep(0.01)"

    def open(self) -> None:
        """Let the run go on."""
        self.path.touch()


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A gate that is open at the end of the test, so that nothing goes on waiting for it."""
    made = Gate(tmp_path / "gate")
    yield made
    made.open()


@pytest.fixture
def nb(session_kernel: Kernel, gate: Gate, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    """The kernel with a small model, an optimizer and data made anew; ``mlnb.runs`` here are its runs."""
    monkeypatch.setenv("MLNB_RUNS", str(session_kernel.runs))
    session_kernel.ok(PRELUDE)
    yield session_kernel
    gate.open()
    for run in runs.observed(10):
        run.cancel()
    session_kernel.ok("import mlnb.notebook.waiting.pending as _pending\n_pending.current._pending.clear()")
