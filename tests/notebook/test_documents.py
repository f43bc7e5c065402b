"""Run All, nbconvert and papermill just work, and the saved notebook tells what happened."""

from __future__ import annotations

import base64
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import papermill
import pytest
from nbformat.v4 import new_code_cell, new_notebook

from mlnb.api import runs
from tests.notebook.kernels import MIME

CELLS = [
    "%load_ext mlnb",
    "import torch\nfrom torch import nn\ntorch.manual_seed(0)\n"
    "x = torch.randn(64, 4)\ny = x.sum(1, keepdim=True)\n"
    "model = nn.Linear(4, 1)\nbefore = (model(x) - y).pow(2).mean().item()",
    "%%train --name saved\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nfor epoch in range(20):\n"
    "    loss = (model(x) - y).pow(2).mean()\n    optimizer.zero_grad()\n"
    "    loss.backward()\n    optimizer.step()\n"
    "print('epochs:', epoch + 1)",
    "'not waiting'",
    "after = (model(x) - y).pow(2).mean().item()\nassert after < before / 10\nprint(f'{after < before}')",
]


def notebook(cells: list[str]) -> nbformat.NotebookNode:
    """A notebook as a person would save it."""
    made = new_notebook(cells=[new_code_cell(text) for text in cells])
    made.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return made


def by_nbclient(path: Path) -> nbformat.NotebookNode:
    """Run All."""
    document = nbformat.read(path, 4)
    nbclient.NotebookClient(document, timeout=100, resources={"metadata": {"path": path.parent}}).execute()
    return document


def by_nbconvert(path: Path) -> nbformat.NotebookNode:
    """On the command line."""
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--inplace", str(path)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return nbformat.read(path, 4)


def by_papermill(path: Path) -> nbformat.NotebookNode:
    """In a pipeline."""
    return papermill.execute_notebook(str(path), str(path), kernel_name="python3", progress_bar=False)


def bundle_of(cell: nbformat.NotebookNode) -> dict[str, Any]:
    """The run's view among a cell's outputs."""
    return next(output["data"] for output in cell["outputs"] if MIME in output.get("data", {}))


@pytest.mark.parametrize("execute", [by_nbclient, by_nbconvert, by_papermill])
def test_a_notebook_runs_from_top_to_bottom(
    tmp_path: Path, execute: Callable[[Path], nbformat.NotebookNode], runtime: Path
) -> None:
    path = tmp_path / "small.ipynb"
    nbformat.write(notebook(CELLS), path)
    cells = execute(path).cells[-len(CELLS) :]
    assert cells[4]["outputs"][-1]["text"] == "True\n"
    assert cells[3]["outputs"][0]["data"]["text/plain"] == "'not waiting'"

    bundle = bundle_of(cells[2])
    assert {MIME, "text/plain", "text/html", "image/png"} <= set(bundle)
    told = bundle[MIME]
    run = runs["saved"]
    assert (told["id"], told["name"], told["state"]) == (run.id, "saved", "succeeded")
    assert told["metrics"]["loss"]["step"] == list(range(1, 21))
    assert told["metrics"]["loss"]["value"] == run.metrics().query("name == 'loss'").value.tolist()
    assert re.match(r"saved: succeeded · step 20 · loss \d\S* · .*took \d", bundle["text/plain"])
    assert "epochs: 20" in bundle["text/plain"]
    assert base64.b64decode(bundle["image/png"]).startswith(b"\x89PNG")
    assert "succeeded" in bundle["text/html"]
    assert "<script" not in bundle["text/html"], "GitHub and nbviewer show no scripts"
    assert "Waiting for" not in json.dumps(cells)


@pytest.mark.slow
def test_a_failed_run_stops_run_all_at_the_cell_that_reads_it(tmp_path: Path, runtime: Path) -> None:
    document = notebook(
        [
            CELLS[0],
            "limit = 0",
            "%%train --name failing\nfor k in range(3):\n    if k > limit:\n"
            "        raise ValueError('beyond <limit>')\nend = k",
            "'still runs'",
            "print(end)",
            "'never reached'",
        ]
    )
    with pytest.raises(nbclient.exceptions.CellExecutionError) as caught:
        nbclient.NotebookClient(document, timeout=100, resources={"metadata": {"path": tmp_path}}).execute()
    told = "rank 0 in cell [3], line 4: ValueError: beyond <limit>"
    failure = "Run failing failed in cell [3], line 4: ValueError: beyond <limit>. Your session is unchanged."
    assert failure in str(caught.value)
    assert [bool(cell["outputs"]) for cell in document.cells[3:]] == [True, True, False]
    error = document.cells[4]["outputs"][-1]
    assert error["output_type"] == "error"
    assert len(error["traceback"]) == 1
    assert failure in error["traceback"][0]
    bundle = bundle_of(document.cells[2])
    assert bundle[MIME]["state"] == "failed"
    assert bundle[MIME]["reason"] == told
    assert "raise ValueError('beyond <limit>')" in bundle["text/plain"]
    assert "beyond &lt;limit&gt;" in bundle["text/html"]


def test_a_run_that_no_cell_reads_goes_on_when_the_notebook_ends(tmp_path: Path, runtime: Path) -> None:
    gate = tmp_path / "gate"
    document = notebook(
        [
            CELLS[0],
            "import time\nfrom pathlib import Path",
            f"%%train --name last\nwhile not Path({str(gate)!r}).exists(): time.sleep(0.01)\nprint('done')",
        ]
    )
    nbclient.NotebookClient(document, timeout=100, resources={"metadata": {"path": tmp_path}}).execute()
    run = runs["last"]
    assert run.state in ("pending", "starting", "running")
    assert bundle_of(document.cells[2])[MIME]["state"] in ("pending", "starting", "running")
    gate.touch()
    assert run.wait().logs() == "done\n"
    assert run.state == "succeeded"
