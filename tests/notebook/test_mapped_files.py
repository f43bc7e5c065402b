"""A mapped file is the same file in a run: nothing of it is copied, and what the cell writes is in it."""

from __future__ import annotations

from pathlib import Path

from mlnb.api import runs
from tests.notebook.kernels import Kernel


def test_what_a_cell_writes_into_a_mapped_file_is_in_the_file(nb: Kernel, tmp_path: Path) -> None:
    nb.ok(
        f"import numpy as np\nmm = np.memmap({str(tmp_path / 'x.dat')!r}, 'float32', 'w+', shape=(100_000, 10))\n"
        "mm[:] = 1\nview = mm[5:]\nbefore = id(mm), id(view)"
    )
    cell = "mm[5] = 7\nmm.flush()\ntotal = float(view[0].sum())\nassert type(mm) is np.memmap"
    shown = nb.ok(f"%%train --wait\n{cell}\n")
    assert "left in x.dat" in shown.text
    assert nb.ok("total, float(view[0, 0]), float(mm[5, 9]), (id(mm), id(view)) == before").result == (
        "(70.0, 7.0, 7.0, True)"
    )
    assert nb.ok("float(np.fromfile(mm.filename, 'float32')[50])").result == "7.0"
    run = runs.observed(1)[0].directory
    assert sum(path.stat().st_size for path in (*run.inputs.iterdir(), *run.outputs.iterdir())) < 100_000
    nb.ok("mm[6] = 8; mm.flush()")
    assert nb.ok("float(np.fromfile(mm.filename, 'float32')[60])").result == "8.0"


def test_a_file_that_the_cell_maps_is_mapped_here(nb: Kernel, tmp_path: Path) -> None:
    nb.ok(f"import numpy as np\npath = {str(tmp_path / 'y.dat')!r}")
    nb.ok("%%train --wait\nmade = np.memmap(path, 'int64', 'w+', shape=(50,))\nmade[:] = 3\n")
    assert nb.ok("type(made).__name__, int(made.sum())").result == "('memmap', 150)"
    nb.ok("made[0] = 10\nmade.flush()")
    assert nb.ok("int(np.fromfile(path, 'int64')[0])").result == "10"


def test_a_file_that_is_gone_is_a_copy_and_the_plan_says_so(nb: Kernel, tmp_path: Path) -> None:
    nb.ok(f"import numpy as np, os\nmm = np.memmap({str(tmp_path / 'x.dat')!r}, 'float32', 'w+', shape=(3000,))")
    nb.ok("mm[:] = 2\nos.remove(mm.filename)")
    shown = nb.ok("%%train --wait\nmm[0] = 5\ntotal = float(mm.sum())\n")
    assert f"mm maps {tmp_path / 'x.dat'}, which is not there any more: its content is sent as a copy" in shown.text
    assert nb.ok("total, float(mm[0])").result == "(6003.0, 5.0)"


def test_what_each_of_two_ranks_writes_is_in_the_file(nb: Kernel, tmp_path: Path) -> None:
    nb.ok(
        f"import numpy as np\nout = np.memmap({str(tmp_path / 'out.dat')!r}, 'float32', 'w+', shape=(64,))\n"
        "out[:] = -1\nfrom torch.utils.data import DataLoader, TensorDataset\n"
        "loader = DataLoader(TensorDataset(torch.randn(64, 4), torch.arange(64)), batch_size=8)"
    )
    nb.ok(
        "%%train --wait --ranks 2\nfor x, index in loader:\n    loss = model(x).square().mean()\n"
        "    optimizer.zero_grad(); loss.backward(); optimizer.step()\n    out[index.numpy()] = index.numpy()\n"
    )
    assert nb.ok("bool((out == np.arange(64)).all())").result == "True"
