"""The kernel may die: the run goes on, and a new kernel finds it and takes its results."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from mlnb.api import runs
from mlnb.rundir import FINAL
from tests.notebook.conftest import PRELUDE, Gate
from tests.notebook.kernels import Kernel, kernel
from tests.waiting import until

NET = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(4, 1)
    def forward(self, x):
        return self.inner(x)
"""

FORGET = """
for _name in set(globals()) - _at_start:
    if not _name.startswith('_'):
        del globals()[_name]
"""

NEW_SESSION = "%load_ext mlnb\nimport torch\nfrom torch import nn\n"


class Survivors:
    """A new kernel; the one before was killed while its runs stood half-way: ``survivor`` and ``another``."""

    cells: ClassVar[dict[str, tuple[str, str]]] = {
        "another": ("other = 1", "other = 2"),
        "survivor": (
            "final = steps(net, optimizer)",
            "final = steps(net, optimizer)\nweight = net.inner.weight.detach().clone()",
        ),
    }

    def __init__(self, folder: Path) -> None:
        self.runs = folder / "runs"
        self.gates = {name: Gate(folder / name) for name in self.cells}
        self.kernel: Kernel | None = None

    def begin(self, first: Kernel) -> None:
        """Start the runs; end their kernel once they stand half-way."""
        first.ok("%load_ext mlnb")
        first.ok("_at_start = set(globals())\n" + PRELUDE)
        first.ok(NET)
        first.ok("net = Net()\noptimizer = torch.optim.SGD(net.parameters(), lr=0.1)")
        for name, (before, after) in self.cells.items():
            first.ok(f"%%train --name {name}\n{before}\nprint('half-way')\n{self.gates[name].wait}\n{after}\n")
            until(lambda name=name: "half-way" in runs[name].logs())  # type: ignore[misc]
        first.kill()
        until(lambda: first.manager.provisioner.process.poll() is not None)  # type: ignore[union-attr]


@pytest.fixture(scope="module")
def survivors(tmp_path_factory: pytest.TempPathFactory, ipython_folder: Path, runtime: Path) -> Iterator[Survivors]:
    """The runs that outlived their kernel, and one new kernel for all tests of them."""
    folder = tmp_path_factory.mktemp("survivors")
    made = Survivors(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLNB_RUNS", str(made.runs))
        with kernel(folder, made.runs, ipython_folder) as first:
            made.begin(first)
        assert {runs[name].state for name in made.cells} == {"running"}
        with kernel(folder, made.runs, ipython_folder) as made.kernel:
            made.kernel.ok("%load_ext mlnb\n_at_start = set(globals())")
            yield made
        for name, gate in made.gates.items():
            gate.open()
            runs[name].cancel()


@pytest.fixture
def killed(survivors: Survivors, monkeypatch: pytest.MonkeyPatch) -> Kernel:
    """The new kernel, with nothing in its session."""
    monkeypatch.setenv("MLNB_RUNS", str(survivors.runs))
    assert survivors.kernel is not None
    survivors.kernel.ok(FORGET)
    return survivors.kernel


def test_the_run_outlives_its_kernel_and_another_takes_its_results(killed: Kernel, survivors: Survivors) -> None:
    killed.ok(NEW_SESSION)
    assert killed.ok("mlnb.runs['survivor'].state").result == "'running'"
    assert killed.ok("print(mlnb.runs['survivor'].logs())").out.strip() == "half-way"
    assert "survivor" in killed.ok("%runs").text
    view = killed.ok("%runs survivor")
    assert view.run["state"] == "running"
    waiting = killed.send("run = mlnb.runs['survivor'].wait()")
    killed.until(lambda: len(runs["survivor"].series().get("loss", ())) == 5)
    survivors.gates["survivor"].open()
    assert killed.finish(waiting).status == "ok", waiting.text
    killed.until(lambda: view.run["state"] == "succeeded")
    assert (
        killed.ok("frame = run.metrics()\nlist(frame.columns)").result == "['name', 'step', 'time', 'value', 'attempt']"
    )
    assert killed.ok("frame[frame.name == 'loss'].step.tolist()").result == str(list(range(1, 11)))
    killed.ok(NET)
    killed.ok("run.pull()")
    assert killed.ok("isinstance(net, Net), torch.equal(net.inner.weight, weight)").result == "(True, True)"
    assert killed.ok("optimizer.param_groups[0]['params'][0] is net.inner.weight").result == "True"
    assert killed.ok("final == float(frame[frame.name == 'loss'].value.iloc[-1])").result == "True"


def test_pulling_without_the_class_takes_it_from_the_run_and_says_so(killed: Kernel, survivors: Survivors) -> None:
    survivors.gates["survivor"].open()
    killed.ok(NEW_SESSION)
    cell = killed.ok("pulled = mlnb.runs['survivor'].wait().pull()\nprint(*pulled.notes, sep='\\n')")
    assert "Net" in cell.out
    assert "defined here as in the run" in cell.out
    assert killed.ok("net(torch.zeros(1, 4)).shape").result == "torch.Size([1, 1])"


def test_a_new_kernel_can_cancel(killed: Kernel) -> None:
    killed.ok(NEW_SESSION)
    killed.ok("mlnb.runs['another'].cancel()")
    assert runs["another"].state == "cancelled"
    assert killed.run("mlnb.runs['another'].pull()").message == "mlnb: Run another was cancelled: stopped by you."
    assert killed.ok("'other' in globals()").result == "False"


def test_a_run_that_is_not_there_is_one_line(killed: Kernel, survivors: Survivors) -> None:
    killed.ok(NEW_SESSION)
    assert killed.run("mlnb.runs['survivr']").message == (
        f"mlnb: No run named 'survivr' in {survivors.runs}. Did you mean survivor?"
    )
    assert killed.run("mlnb.runs[7]").message.startswith("mlnb: Run number 7: ")


def test_a_restart_leaves_the_run(nb: Kernel, gate: Gate, tmp_path: Path, ipython_folder: Path) -> None:
    with kernel(tmp_path, nb.runs, ipython_folder) as other:
        other.ok("%load_ext mlnb\nimport time\nfrom pathlib import Path")
        other.ok(f"%%train --name restarted\n{gate.wait}\nanswer = 42\n")
        other.restart()
        assert runs["restarted"].state not in FINAL
        other.ok("%load_ext mlnb")
        assert other.run("answer").status == "error", "a new session owes nothing to the old one"
        gate.open()
        other.ok("mlnb.runs['restarted'].wait().pull()")
        assert other.ok("answer").result == "42"


def test_resume_names_what_it_can_not_resume(nb: Kernel, gate: Gate) -> None:
    nb.ok("%%train --name plain --wait\npass\n")
    assert nb.run("%%train --resume plain\npass\n").message == (
        "mlnb: --resume plain: that run has no checkpoint; mlnb.epochs(...) makes them"
    )
    nb.ok(f"%%train --name busy\n{gate.wait}\n")
    assert nb.run("%%train --resume busy\npass\n").message.startswith("mlnb: --resume busy: that run is ")
