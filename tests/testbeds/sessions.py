"""A test session's hold on a testbed: brought up if it can be, left as it was found."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent
#: see machine.py, which is no package's part, so that a testbed runs by itself
CANNOT, USERS = 3, "users"


def ask(name: str, command: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run one command of a testbed."""
    program = [sys.executable, str(FOLDER / f"{name}.py"), command, *options]
    return subprocess.run(program, stdin=subprocess.DEVNULL, capture_output=True, text=True)


@contextmanager
def held(name: str, state: Path) -> Iterator[None]:
    """Have the testbed up, or skip with the reason why it can't be.

    Sessions (xdist's workers, too) share one. Each holds a lock while it uses it; the last of them takes down what one
    of them started. One that a person started stays.
    """
    root = os.geteuid() == 0
    with ExitStack() as stack:
        if root:
            state.mkdir(parents=True, exist_ok=True)
            users = stack.enter_context((state / USERS).open("a"))
            fcntl.flock(users, fcntl.LOCK_SH)
            done = ask(name, "up", "--for-tests")
        else:
            done = ask(name, "status")
            if done.returncode:
                pytest.skip(f"no {name} is up here, and to start one takes root: make {name}")
        if done.returncode == CANNOT:
            pytest.skip(done.stderr.strip())
        assert done.returncode == 0, done.stderr
        yield
    if root:
        done = ask(name, "down", "--for-tests")
        assert done.returncode == 0, done.stderr
