"""A test session's hold on a testbed: brought up if it can be, left as it was found."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TextIO

import pytest

FOLDER = Path(__file__).parent
#: see machine.py, which is no package's part, so that a testbed runs by itself
CANNOT, USERS = 3, "users"
#: where SLURM's testbeds are, by number, and where ``make slurm`` starts the first
SLURMS = (Path("/var/tmp/mlnb-slurm"), *(Path(f"/var/tmp/mlnb-slurm-{number}") for number in range(1, 10)))


def slurms() -> tuple[Path, ...]:
    """The folders of the SLURMs that a session may use, the preferred one first: ``MLNB_SLURM`` chooses one."""
    chosen = os.environ.get("MLNB_SLURM")
    if chosen:
        return (Path(chosen),)
    return SLURMS if os.geteuid() == 0 else SLURMS[:1]


def ask(name: str, command: str, *options: str, state: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run one command of a testbed, whose folder is ``state``, or the usual one."""
    program = [sys.executable, str(FOLDER / f"{name}.py"), command, *options]
    env = {**os.environ, **({f"MLNB_{name.upper()}": str(state)} if state else {})}
    return subprocess.run(program, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env)


@contextmanager
def held(name: str, state: Path) -> Iterator[None]:
    """Have the testbed up, or skip with the reason why it can't be.

    Sessions (xdist's workers, too) share one. Each holds a lock while it uses it; the last of them takes down what one
    of them started. One that a person started stays.
    """
    with own(name, [state], kind=fcntl.LOCK_SH):
        yield


@contextmanager
def own(name: str, states: Iterable[Path], *options: str, kind: int = fcntl.LOCK_EX) -> Iterator[Path]:
    """Have a testbed up that no other session uses, or skip with the reason why there can't be one.

    Parameters
    ----------
    states
        folders of testbeds; the first that is free is taken. Only root can take one and bring it up; the session of an
        ordinary user uses the first, which someone else holds for it.
    options
        of the testbed's command ``up``
    """
    root = os.geteuid() == 0
    with ExitStack() as stack:
        if root:
            state = stack.enter_context(_free(states, kind))
            done = ask(name, "up", "--for-tests", *options, state=state)
        else:
            state = next(iter(states))
            done = ask(name, "status", state=state)
            if done.returncode:
                pytest.skip(f"no {name} is up here, and to start one takes root: make {name}")
        if done.returncode == CANNOT:
            pytest.skip(done.stderr.strip())
        assert done.returncode == 0, done.stderr
        yield state
    if root:
        done = ask(name, "down", "--for-tests", state=state)
        assert done.returncode == 0, done.stderr


@contextmanager
def _free(states: Iterable[Path], kind: int) -> Iterator[Path]:
    """Hold the first testbed that can be held."""
    candidates = list(states)
    for state in candidates:
        state.mkdir(parents=True, exist_ok=True)
        with (state / USERS).open("a") as users:
            if _locked(users, kind):
                yield state
                return
    msg = f"other test sessions use all of {', '.join(map(str, candidates))}"
    raise RuntimeError(msg)


def _locked(file: TextIO, kind: int) -> bool:
    try:
        fcntl.flock(file, kind if kind == fcntl.LOCK_SH else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
