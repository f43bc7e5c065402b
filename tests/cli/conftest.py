"""The command as a person types it: a process, its output and its exit code."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlnb.api import runs
from mlnb.targets import warm
from mlnb.workspace import Workspace
from tests.waiting import until

COMMAND = str(Path(sys.executable).with_name("mlnb"))


@dataclass
class Ended:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


class Shell:
    """Runs ``mlnb`` in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def start(self, *words: str, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [COMMAND, *words],
            cwd=self.folder,
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def finish(self, process: subprocess.Popen[str]) -> Ended:
        out, err = process.communicate(timeout=100)
        assert "Traceback" not in err or 'File "' in err, err
        assert "site-packages/click" not in err, "no traceback of ours"
        assert "mlnb/cli" not in err, "no traceback of ours"
        return Ended(process.returncode, out, err)

    def __call__(self, *words: str, env: dict[str, str] | None = None) -> Ended:
        return self.finish(self.start(*words, env=env))


def interrupt(process: subprocess.Popen[str]) -> None:
    """Ctrl-C, which a terminal sends to all processes of the group."""
    os.killpg(process.pid, signal.SIGINT)


@pytest.fixture(scope="session", autouse=True)
def fork_server(runtime: Path) -> None:
    """Have torch imported once for all runs."""
    warm.start(Workspace.of_process())


@pytest.fixture
def mlnb(tmp_path: Path) -> Iterator[Shell]:
    """The command, in a folder of the test's own."""
    folder = tmp_path / "project"
    folder.mkdir()
    yield Shell(folder)
    for run in runs:
        run.cancel()


@pytest.fixture
def waiting(mlnb: Shell) -> str:
    """A script that goes on until there is a file ``gate`` beside it; the run's id."""
    mlnb.write(
        "wait.py",
        "import pathlib, time\nprint('started', flush=True)\n"
        "while not pathlib.Path(__file__).with_name('gate').exists(): time.sleep(0.01)\nprint('ended')\n",
    )
    ended = mlnb("run", "--detach", "--json", "--cpus", "1", "wait.py")
    assert ended.code == 0, ended.err
    run = runs[ended.json["id"]]
    until(lambda: run.logs() == "started\n")
    return run.id
