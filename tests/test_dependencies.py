"""What ``mlnb/`` imports is what ``pyproject.toml`` declares; matplotlib and pandas can be missing."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path
from typing import Any

import pytest

import mlnb
from mlnb.errors import MlnbError
from mlnb.render.output_bundle import bundle
from tests.conftest import Start

ROOT = Path(mlnb.__file__).parent
ONLY_FOR_MATPLOTLIB = "node/rank/mpl_backend.py"  # a backend, which nobody but matplotlib imports


@cache
def project() -> dict[str, Any]:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    return tomllib.loads((ROOT.parent / "pyproject.toml").read_text())["project"]


def names(requirements: list[str]) -> set[str]:
    """The distributions of requirements, as they are compared."""
    return {normal(re.split(r"[\s\[<>=!~;]", requirement)[0]) for requirement in requirements}


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def imported(path: Path) -> Iterator[tuple[str, str]]:
    """Each top-level package that a file imports, and when: ``import``, ``function`` or ``types``."""

    def walk(node: ast.AST, when: str) -> Iterator[tuple[str, str]]:
        if isinstance(node, ast.Import):
            yield from ((alias.name.split(".")[0], when) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.split(".")[0], when
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            when = "function"
        for child in ast.iter_child_nodes(node):
            for_types = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and child in node.body
            yield from walk(child, "types" if for_types else when)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), "import")


def third_party() -> Iterator[tuple[str, str, str]]:
    """File, package and when it is imported, for all that is neither ours nor the standard library's."""
    for path in sorted(ROOT.rglob("*.py")):
        for package, when in imported(path):
            if package != "mlnb" and package not in sys.stdlib_module_names:
                yield str(path.relative_to(ROOT)), package, when


def test_what_is_imported_is_declared():
    required = names(project()["dependencies"])
    extras = project()["optional-dependencies"]
    optional = names([*extras["picture"], *extras["pandas"]])
    providers = packages_distributions()
    undeclared = set()
    for path, package, when in third_party():
        distributions = {normal(name) for name in providers.get(package, [package])}
        may_be_optional = when != "import" or path == ONLY_FOR_MATPLOTLIB
        if not distributions & (required | (optional if may_be_optional else set())):
            undeclared.add((path, package, when))
    assert undeclared == set()


def test_all_kinds_of_imports_are_found():
    imports = {(package, when) for _, package, when in third_party()}
    assert {("numpy", "import"), ("matplotlib", "function"), ("pandas", "types"), ("pynvml", "function")} <= imports


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment without matplotlib and pandas."""
    for name in [*sys.modules]:
        if name.split(".")[0] in ("matplotlib", "pandas"):
            monkeypatch.delitem(sys.modules, name)
    for name in ("matplotlib", "pandas"):
        monkeypatch.setitem(sys.modules, name, None)


@pytest.mark.usefixtures("bare")
def test_without_matplotlib_the_view_has_no_picture(start: Start):
    run = start("import mlnb\nfor i in range(5): mlnb.log(loss=i)").wait(60)
    shown = bundle(run)
    assert "image/png" not in shown
    assert {"application/vnd.mlnb.run+json", "text/html", "text/plain"} <= set(shown)
    assert "<img" not in shown["text/html"]


@pytest.mark.usefixtures("bare")
def test_without_pandas_metrics_says_what_to_install(start: Start):
    run = start("import mlnb\nmlnb.log(loss=1)").wait(60)
    with pytest.raises(MlnbError, match="pip install pandas") as raised:
        run.metrics()
    assert "\n" not in str(raised.value)


SESSION = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
for cell in (
    "%load_ext mlnb",
    "import torch\\nmodel = torch.nn.Linear(2, 1)\\noptimizer = torch.optim.SGD(model.parameters(), lr=0.1)\\n"
    "before = model.weight.detach().clone()",
    "%%train --wait --name bare\\n"
    "for i in range(5):\\n"
    "    model(torch.ones(4, 2)).square().mean().backward()\\n"
    "    optimizer.step()",
    "%runs",
    "import mlnb; print(mlnb.runs['bare'].state, not torch.equal(before, model.weight))",
):
    shell.run_cell(cell, store_history=True).raise_error()
assert not {"matplotlib", "pandas"} & set(sys.modules)
"""


@pytest.mark.slow
def test_a_session_without_matplotlib_and_pandas_trains(tmp_path: Path):
    for name in ("matplotlib", "pandas"):
        (tmp_path / f"{name}.py").write_text(f'raise ModuleNotFoundError("no {name}", name="{name}")')
    path = os.pathsep.join([str(tmp_path), str(ROOT.parent)])
    env = {**os.environ, "PYTHONPATH": path, "IPYTHONDIR": str(tmp_path / "ipython")}
    done = subprocess.run([sys.executable, "-c", SESSION], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "succeeded True" in done.stdout
