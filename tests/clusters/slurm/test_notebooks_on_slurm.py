"""The notebooks on a real SLURM: the first as it is but for ``--on slurm``, and SLURM's own."""

from __future__ import annotations

import pytest

from tests.clusters.slurm.conftest import Slurm
from tests.test_notebooks import NOTEBOOKS, demo

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]


def test_the_first_notebook_needs_only_the_target(slurm: Slurm) -> None:
    run_demo = demo()
    book = run_demo.run(NOTEBOOKS / "01-train-in-a-cell.ipynb", "--on", "slurm")
    assert float(run_demo.printed(book, r"accuracy after: ([0-9.]+)")) > 0.9
    assert float(run_demo.printed(book, r"on all digits: ([0-9.]+)")) > 0.9
    assert run_demo.printed(book, r"(attempts: .*)") == "attempts: 2, steps: 132 of 132"


def test_slurms_own_notebook(slurm: Slurm) -> None:
    run_demo = demo()
    book = run_demo.run(NOTEBOOKS / "02-slurm.ipynb")
    assert float(run_demo.printed(book, r"accuracy before: ([0-9.]+)")) < 0.3
    for where in ("a job", "two nodes", "the pool"):
        assert float(run_demo.printed(book, rf"accuracy after {where}: ([0-9.]+)")) > 0.9
    run_demo.printed(book, r"(#SBATCH --gres=gpu:1)")
    run_demo.printed(book, r"(pool pool has ended)")
