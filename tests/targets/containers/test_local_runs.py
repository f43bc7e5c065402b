"""Runs of the local target in real images: what comes back, and that nothing is left of those that end otherwise."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import dask.config
import pytest

from mlnb.api import Run
from mlnb.errors import UsageError
from mlnb.node.process.identity import is_alive
from mlnb.rundir import read_json
from mlnb.targets import local
from mlnb.targets.base import Placement
from mlnb.targets.registry import target
from mlnb.task import Resources
from tests.conftest import Start
from tests.targets.containers.test_runs import command_lines, containers_of
from tests.testbeds import image as testbed
from tests.waiting import until

pytestmark = pytest.mark.cluster

FOREVER = "import time\nprint('on', flush=True)\ntime.sleep(300)"


@pytest.fixture(params=["charliecloud", "podman"])
def engine(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[str]:
    """Every run of the local target is in the image of one engine."""
    if (reason := testbed.why_not()) is not None:
        pytest.skip(reason)
    if not testbed.built():
        pytest.skip("no images of this Python and torch: make container-image")
    for name, value in testbed.podman_environment().items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "the cell's"
    folder.mkdir()
    monkeypatch.chdir(folder)
    settings = {"image": image(request.param), "container": {"engine": request.param}, "grace": 3}
    with dask.config.set({"mlnb.targets.local": settings}):
        yield request.param


def image(engine: str, torch: bool = True) -> str:
    if engine == "podman":
        return testbed.TORCH if torch else testbed.BARE
    return str(testbed.folder(torch))


def left(engine: str, run: Run) -> list[str]:
    """Processes that name the run, and its containers."""
    found = [line for line in command_lines() if run.directory.path.name in line]
    return found + (containers_of(run.directory) if engine == "podman" else [])


def running(start: Start, **more: object) -> Run:
    run = start(FOREVER, **more)
    until(lambda: run.state not in ("pending", "starting") and run.logs(0, "out"), 30)
    assert run.state == "running", (run.reason, run.logs())
    return run


def test_a_run_in_an_image_comes_back(engine: str, start: Start):
    script = """
import os, sys, torch, mlnb
mlnb.log(value=7)
open("written", "w").write("here")
answer = torch.tensor([1.0, 2.0])
print(sys.executable, os.environ["CUDA_VISIBLE_DEVICES"] == "", os.environ["MLNB_IMAGE"])
"""
    run = start(script, outputs=("answer",)).wait(60)
    assert run.state == "succeeded", (run.reason, run.logs())
    assert run.logs(0, "out").splitlines() == [f"/usr/bin/python3 True {image(engine)}"]
    assert list(run.series()["value"].value) == [7.0]
    assert any(run.directory.outputs.iterdir())
    assert Path("written").read_text() == "here"
    assert (read_json(run.directory.handle) or {})["start"] == "container"
    until(lambda: not left(engine, run))


def test_a_cancelled_run_leaves_nothing(engine: str, start: Start):
    run = running(start)
    run.cancel()
    assert (run.state, run.reason) == ("cancelled", "stopped by you")
    assert run.result is not None, "it was the node program that ended it"
    until(lambda: not left(engine, run))


def test_a_run_whose_engine_is_killed_leaves_nothing(engine: str, start: Start):
    run = running(start)
    handle = read_json(run.directory.handle) or {}
    os.kill(handle["pid"], signal.SIGKILL)
    until(lambda: run.state == "lost", 10)
    until(lambda: not left(engine, run))


def test_runs_in_images_wait_for_each_other(engine: str, start: Start):
    first = running(start, name="first", cpus=local.cores())
    second = start("print('never')", name="second", cpus=local.cores())
    third = start("print('then')", cpus=local.cores())
    until(lambda: second.reason == "Waiting for CPU cores; first is using them", 10)
    assert second.state == "pending"
    waiting = read_json(second.directory.handle) or {}
    second.cancel()
    assert second.state == "cancelled"
    assert not is_alive(waiting["pid"], waiting["identity"])
    assert third.state == "pending"
    first.cancel()
    assert third.wait(60).state == "succeeded", third.reason
    assert third.logs(0, "out") == "then\n"
    assert second.logs(0, "out") == ""


def test_a_place_in_the_queue_outlives_the_queues_file(engine: str, start: Start, runtime: Path):
    first = running(start, name="first", cpus=local.cores())
    (runtime / "slots.json").unlink()
    until((runtime / "slots.json").exists)
    second = start("", cpus=local.cores())
    until(lambda: "first is using them" in second.reason, 10)
    first.cancel()
    assert second.wait(60).state == "succeeded"


def test_an_image_without_torch_is_refused_before_submission(engine: str):
    with pytest.raises(UsageError, match=r"has no torch; choose an image with PyTorch"):
        target("local").offer(Resources(), Placement(options={"image": image(engine, torch=False)}))
    missing = "nothing/there:1" if engine == "podman" else "/nothing/there"
    words = "podman has no such image here. Run: podman pull" if engine == "podman" else "there is no such file or"
    with pytest.raises(UsageError, match=f"--image {missing}: {words}"):
        target("local").offer(Resources(), Placement(options={"image": missing}))


def test_the_plan_says_that_it_is_in_an_image(engine: str):
    lines = target("local").offer(Resources()).summary_lines
    assert f"in the image {image(engine)} ({engine})" in lines
    assert "no warm start: the run imports torch in the image" in lines
