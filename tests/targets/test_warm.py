"""Runs that the fork server starts: none that has ended holds up another, however slow the client is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlnb.node.process.local_queue import LocalQueue
from mlnb.rundir import RunDir, read_json
from mlnb.runinfo import RunInfo
from mlnb.targets import warm
from mlnb.workspace import Workspace
from tests.conftest import Start
from tests.waiting import until


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that does not wait for the answer, as on a busy machine; it knows the fork server's pid alone."""
    monkeypatch.setattr(warm, "ANSWER_TIMEOUT", 1e-6)


def test_a_run_that_ends_before_its_client_goes_on(start: Start, monkeypatch: pytest.MonkeyPatch):
    submit = warm.submit

    def slow(run: RunDir, *more: Any) -> int | None:
        pid = submit(run, *more)
        queue = LocalQueue.from_settings(RunInfo.read(run).node.queue_request())
        until(lambda: run.result.exists() and queue.available()[0] == queue.cpus)
        return pid

    with monkeypatch.context() as patch:
        patch.setattr(warm, "submit", slow)
        assert start("x = 1").wait(60).state == "succeeded"
    assert start("x = 1").wait(60).state == "succeeded"


def test_a_run_that_is_removed_before_the_fork_server_turns_to_it(start: Start):
    first = start("x = 1").wait(60)
    server = psutil.Process((read_json(first.directory.handle) or {})["pid"])
    assert str(warm.socket_path(Workspace.of_process())) in server.cmdline()
    server.suspend()
    try:
        shutil.rmtree(start("x = 1").dir)
    finally:
        server.resume()
    assert start("x = 1").wait(60).state == "succeeded"


def test_runs_are_served_in_the_order_of_their_submission(start: Start, monkeypatch: pytest.MonkeyPatch):
    """Nothing but the fork server knows of them while it is busy."""
    first = start("x = 1").wait(60)
    server = psutil.Process((read_json(first.directory.handle) or {})["pid"])
    server.suspend()
    try:
        submitted = [start("import time; print(time.time())", cpus=len(os.sched_getaffinity(0))) for _ in range(5)]
    finally:
        server.resume()
    times = [float(run.wait(60).logs(0, "out")) for run in submitted]
    assert times == sorted(times)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of the import path, from which the fork server imports ``mlnb_installed``, version 1."""
    (tmp_path / "sitecustomize.py").write_text("import mlnb_installed\n")
    (tmp_path / "mlnb_installed.py").write_text("version = 1\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    yield tmp_path
    warm.stop(Workspace.of_process())


def test_a_run_has_the_package_that_was_installed_before_it(start: Start, installed: Path):
    script = "import mlnb_installed; print(mlnb_installed.version)"
    first = start(script).wait(60)
    (installed / "new").write_text("version = 2\n")
    (installed / "new").replace(installed / "mlnb_installed.py")
    second = start(script).wait(60)
    third = start(script).wait(60)
    assert [run.logs(0, "out") for run in (first, second, third)] == ["1\n", "2\n", "2\n"]
    starts = [(read_json(run.directory.handle) or {})["start"] for run in (first, second, third)]
    assert starts == ["warm", "warm", "warm"]


def test_sets_of_strings_have_one_order_on_all_ranks_and_in_all_runs(start: Start):
    script = "print(list(set('the quick brown fox jumps over the lazy dog')))"
    warm_run, cold = start(script, ranks=2).wait(60), start(script, env={"PYTHONHASHSEED": "random"}).wait(60)
    orders = {warm_run.logs(0, "out"), warm_run.logs(1, "out"), cold.logs(0, "out")}
    assert len(orders) == 1


def test_a_run_can_have_another_hash_seed_than_the_fork_server(start: Start):
    script = "import sys; print(hash('a'), sys.flags.hash_randomization)"
    runs = [start(script, env={"PYTHONHASHSEED": seed}).wait(60) for seed in ("0", "5", "5")]
    texts = [run.logs(0, "out") for run in runs]
    assert texts[0] != texts[1] == texts[2]
    expected = subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, "PYTHONHASHSEED": "5"}, capture_output=True, text=True
    )
    assert texts[1] == expected.stdout


def test_runs_of_one_fork_server_draw_other_numbers(start: Start):
    script = "import random, numpy, torch; print(random.random(), numpy.random.rand(), torch.rand(()).item())"
    first, second = (start(script, seed=None).wait(60) for _ in range(2))
    assert not set(first.logs(0, "out").split()) & set(second.logs(0, "out").split())
    assert first.info.seed != second.info.seed
