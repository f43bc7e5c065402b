"""The tests are the same for everyone: no configuration of Dask or mlnb that is here already steers them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

HOSTILE = """
mlnb:
  target: nowhere
  runs: /nonexistent
  targets: 7
jobqueue:
  slurm:
    queue: nowhere
    job-extra-directives: [--nonsense]
"""

TESTS = (
    "tests/targets/test_registry.py",
    "tests/targets/config/test_settings.py",
    "tests/targets/batch/systems/slurm/test_directives.py",
    "tests/targets/test_local.py::test_where_runs_go",
    "tests/api/test_runs.py",
    "tests/cli/test_cli_run.py::test_a_script_runs_with_its_own_arguments_and_modules",
    "tests/notebook/test_magics.py",
)


@pytest.mark.cluster
def test_a_hostile_configuration_changes_no_test(tmp_path: Path):
    folders = [tmp_path / "named", tmp_path / "home" / ".config" / "dask", tmp_path / "etc"]
    for folder in folders:
        folder.mkdir(parents=True)
        (folder / "hostile.yaml").write_text(HOSTILE)
    environment = {
        **os.environ,
        "DASK_CONFIG": str(folders[0]),
        "HOME": str(tmp_path / "home"),
        "DASK_ROOT_CONFIG": str(folders[2]),
        "DASK_MLNB__TARGET": "nowhere",
        "MLNB_RUNS": "/nonexistent",
        "MLNB_RUNTIME": "/nonexistent",
        "MLNB_IMAGE": "nothing",
    }
    own = ["-q", "-x", "-p", "no:cacheprovider", f"--basetemp={tmp_path / 't'}"]
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *own, *TESTS], cwd=root, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
