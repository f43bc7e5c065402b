"""The wheel, installed as a user would: into a new environment, without Node.js, used outside of any checkout.

``make test-wheel`` builds it and names it in ``MLNB_WHEEL``. torch and the other dependencies are those of the
environment that runs the tests, so that nothing is downloaded; mlnb itself comes from the wheel alone.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

pytestmark = [pytest.mark.wheel, pytest.mark.timeout(300)]

TRAINING = """
import mlnb, torch
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in mlnb.epochs(3, model=model, optimizer=optimizer):
    optimizer.zero_grad()
    model(torch.ones(8, 4)).square().mean().backward()
    optimizer.step()
print("epochs", epoch + 1)
"""

NOTEBOOK = """
import sys
import nbformat
from nbclient import NotebookClient
book = nbformat.v4.new_notebook()
book.cells = [nbformat.v4.new_code_cell(cell) for cell in (
    "%load_ext mlnb\\nimport torch\\nmodel = torch.nn.Linear(4, 1)\\nbefore = model.weight.detach().clone()\\n"
    "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)",
    "%%train --name cell --cpus 1\\n"
    "for step in range(5):\\n"
    "    optimizer.zero_grad()\\n"
    "    model(torch.ones(8, 4)).square().mean().backward()\\n"
    "    optimizer.step()",
    "print('trained', not torch.equal(before, model.weight))",
    "import mlnb\\nprint(mlnb.runs['cell'].state, mlnb.__file__)",
)]
NotebookClient(book, timeout=120, kernel_name="python3").execute()
print("".join(output.get("text", "") for cell in book.cells for output in cell.outputs))
"""


class Environment:
    """A virtual environment with the wheel in it, and a folder to work in."""

    def __init__(self, folder: Path, runtime: Path) -> None:
        self.prefix, self.work = folder / "environment", folder / "work"
        self.work.mkdir()
        venv.create(self.prefix, with_pip=True)
        self.site = next(self.prefix.glob("lib/python3*/site-packages"))
        empty = folder / "no-node"
        empty.mkdir()
        self.env = {
            "HOME": str(folder),
            "MLNB_RUNS": str(folder / "runs"),
            "MLNB_RUNTIME": str(runtime),
            "IPYTHONDIR": str(folder / "ipython"),
            "PATH": os.pathsep.join([str(self.prefix / "bin"), str(empty)]),
        }

    def share_dependencies(self) -> None:
        """Find the dependencies where the tests find them, after what the environment has itself.

        The folders are named one by one: ``.pth`` files in them, as that of an editable mlnb, count for nothing.
        """
        others = [path for path in sys.path if Path(path).name in ("site-packages", "dist-packages")]
        (self.site / "dependencies.pth").write_text("\n".join(others) + "\n")

    def run(self, *command: str) -> str:
        done = subprocess.run(
            [str(self.prefix / "bin" / command[0]), *command[1:]],
            cwd=self.work,
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def wheel() -> Path:
    path = os.environ.get("MLNB_WHEEL")
    if path is None:
        pytest.skip("no MLNB_WHEEL: run make test-wheel")
    return Path(path).absolute()


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory, runtime: Path) -> Environment:
    environment = Environment(tmp_path_factory.mktemp("wheel"), runtime)
    environment.run("python", "-m", "pip", "install", "-q", "--no-index", "--no-deps", str(wheel))
    environment.run("python", "-m", "pip", "uninstall", "-q", "-y", "setuptools")  # the old one of venv hides ours
    environment.share_dependencies()
    return environment


def test_the_dependencies_that_it_declares_are_all_it_needs_to_install(installed: Environment, wheel: Path):
    output = installed.run("python", "-m", "pip", "install", "--no-index", "--dry-run", str(wheel))
    assert "Would install" not in output


def test_it_contains_the_built_javascript(installed: Environment):
    extension = installed.prefix / "share/jupyter/labextensions/mlnb-labextension"
    entry = json.loads((extension / "package.json").read_text())["jupyterlab"]["_build"]["load"]
    assert (extension / entry).is_file()
    assert (installed.site / "mlnb/static/widget.js").is_file()
    config = json.loads((installed.prefix / "etc/jupyter/jupyter_server_config.d/mlnb.json").read_text())
    assert config["ServerApp"]["jpserver_extensions"] == {"mlnb": True}


def test_the_server_finds_its_extension(installed: Environment):
    code = "import mlnb; print(mlnb._jupyter_server_extension_points()); import mlnb.server; print(mlnb.__file__)"
    output = installed.run("python", "-c", code)
    assert "mlnb.server" in output
    assert str(installed.site) in output


def test_a_script_runs(installed: Environment):
    (installed.work / "train.py").write_text(TRAINING)
    output = installed.run("mlnb", "run", "--cpus", "1", "--name", "script", "train.py")
    assert "epochs 3" in output
    shown = json.loads(installed.run("mlnb", "show", "script", "--json"))
    assert shown["state"] == "succeeded"


def test_a_cell_of_a_notebook_trains(installed: Environment):
    output = installed.run("python", "-c", NOTEBOOK)
    assert "trained True" in output
    assert f"succeeded {installed.site}" in output
