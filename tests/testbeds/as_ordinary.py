"""Run tests on SLURM as an ordinary user: ``python -m tests.testbeds.as_ordinary PYTEST'S ARGUMENTS``, as root.

The user is made for it and removed afterwards; see ``ordinary.py``. What only root may do to the testbed is done for
its session by this process; see ``slurm_operator.py``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.testbeds import slurm_operator
from tests.testbeds.ordinary import OrdinaryUser, ordinary
from tests.testbeds.sessions import own, slurms


def main(arguments: list[str]) -> int:
    """Pytest's exit code; 0 where it can't be done here, and why is said."""
    try:
        with (
            ordinary() as user,
            own("slurm", slurms()) as state,
            tempfile.TemporaryDirectory(prefix="mlnb-", dir="/tmp") as folder,
        ):
            os.environ["SLURM_CONF"] = str(state / "slurm.conf")
            Path(folder).chmod(0o755)
            with slurm_operator.for_user(state, Path(folder) / "operator", user.uid) as asks:
                return run(user, arguments, {"MLNB_SLURM": str(state), **asks})
    except pytest.skip.Exception as reason:
        print(f"not run as an ordinary user: {reason}", file=sys.stderr)
        return 0


def run(user: OrdinaryUser, arguments: list[str], variables: dict[str, str]) -> int:
    """Run pytest as ``user``, who can't write into the working tree."""
    own = ["-p", "no:cacheprovider", f"--basetemp={user.home}/t"]
    unwritten = {"PYTHONDONTWRITEBYTECODE": "1", "HYPOTHESIS_STORAGE_DIRECTORY": f"{user.home}/.hypothesis"}
    env = {**user.environment(), **variables, **unwritten}
    return subprocess.run(
        [*user.login, str(user.python), "-m", "pytest", *own, *arguments], cwd=user.tree, env=env, check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
