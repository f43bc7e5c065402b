"""Runs in a stock image on a real SLURM: there is no mlnb in it, and no path of the session's Python."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest

from mlnb.api import Run, runs
from mlnb.api.submit.submit import submit
from mlnb.errors import UsageError
from mlnb.targets.base import Placement
from mlnb.targets.registry import target
from mlnb.task import Resources, Task
from tests.clusters.slurm.conftest import Slurm, job
from tests.testbeds import image as testbed
from tests.waiting import until

pytestmark = pytest.mark.cluster

SCRIPT = """
import json, os, sys, time
import torch, mlnb
import importlib.util
print(json.dumps({
    "python": sys.executable, "installed": [p for p in sys.path if "site-packages" in p and "mlnb" in p],
    "gpus": os.environ.get("CUDA_VISIBLE_DEVICES"), "asked": os.environ.get("ASKED"), "secret": os.environ.get("TOKEN"),
}))
model = torch.nn.Linear(2, 1)
for step in range(5):
    loss = model(torch.ones(4, 2)).square().mean()
    loss.backward()
print(open("/etc/debian_version").read().strip())
WAIT
"""


@pytest.fixture(params=["charliecloud", "podman"])
def engine(request: pytest.FixtureRequest, slurm: Slurm, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The target ``slurm`` with this engine, and the image that it knows."""
    if (reason := testbed.why_not()) is not None:
        pytest.skip(reason)
    if not testbed.built():
        pytest.skip("no images of this Python and torch: make container-image")
    monkeypatch.setenv("TOKEN", "not to be seen")
    settings = {"container": {"engine": request.param, "gpu": "none"}}
    # podman's own settings say where the testbed's images are; a site's are where podman looks by itself
    setup = [f"export {name}='{value}'" for name, value in testbed.podman_environment().items()]
    for name, value in testbed.podman_environment().items():
        monkeypatch.setenv(name, value)
    with dask.config.set({"mlnb": {"targets": {"slurm": {**settings, "setup": setup}}}}):
        yield request.param


def named(engine: str, *, torch: bool = True) -> str:
    if engine == "charliecloud":
        return str(testbed.folder(torch))
    return testbed.TORCH if torch else testbed.BARE


def start(engine: str, script: str, *, torch: bool = True, **asked: int) -> Run:
    place = target("slurm")
    resources = Resources(**{"gpus": 1, "cpus": 1, "memory": 2**30, "time": 300, **asked})
    offer = place.offer(resources, Placement("inside", {"image": named(engine, torch=torch)}))
    task = Task(script=script, seed=0, environment={"image": named(engine)})
    return runs.add(Run(submit(task, {}, place, offer, name="inside", env={"ASKED": "a b$(c)"})))


def test_an_image_without_mlnb_runs_the_run(engine: str) -> None:
    run = start(engine, SCRIPT.replace("WAIT", "")).wait(100)
    assert run.state == "succeeded", (run.reason, (run.directory.attempt(1).path / "job.log").read_text())
    said, release = run.logs(stream="out").splitlines()[:2]
    told = json.loads(said)
    assert told["python"].startswith("/usr/bin/python3")
    assert told["asked"] == "a b$(c)"
    assert told["secret"] is None
    assert told["gpus"] in ("0", "0,1")
    assert release.startswith("12")
    assert len(run.series()["loss"]) == 5


def test_a_cancel_reaches_into_the_image(engine: str, slurm: Slurm) -> None:
    run = start(engine, SCRIPT.replace("WAIT", "print('ready', flush=True)\ntime.sleep(600)"))
    until(lambda: "ready" in run.logs() or run.done)
    assert run.cancel().state == "cancelled"
    until(lambda: not slurm.jobs_of(run))  # the run has ended, its job when the container is taken away


def test_two_nodes_meet_in_images(engine: str) -> None:
    script = (
        "import torch, torch.distributed as dist\ndist.init_process_group('gloo')\n"
        "one = torch.ones(1)\ndist.all_reduce(one)\nprint(int(one))\n"
    )
    run = start(engine, script, nodes=2).wait(100)
    assert run.state == "succeeded", (run.reason, (run.directory.attempt(1).path / "job.log").read_text())
    assert run.logs(stream="out").strip() == "2"


def left(run: Run) -> list[str]:
    """What there still is of a run, on whatever node: processes that name it, podman's containers."""
    listed = subprocess.run(
        ["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    words = ["podman", "ps", "--all", "--quiet", "--filter", f"label=mlnb.run=mlnb-{run.id}"]
    there = subprocess.run(words, capture_output=True, text=True, check=True).stdout.split()
    return [line for line in listed if run.id in line] + there


def test_a_job_that_is_killed_on_both_nodes_leaves_nothing_in_them(engine: str, slurm: Slurm) -> None:
    script = "import os, time\nprint('ready', os.environ.get('RANK', '0'), flush=True)\ntime.sleep(600)"
    run = start(engine, script, nodes=2, time=200)
    until(lambda: run.done or all(f"ready {rank}" in run.logs(rank) for rank in range(2)))
    assert left(run), run.reason
    slurm.command("scancel", "--full", "--signal=KILL", job(run))
    until(lambda: not left(run), 30)
    run.cancel()


def test_an_image_without_torch_is_refused_before_it_waits(engine: str, runs_root: Path) -> None:
    with pytest.raises(UsageError, match="has no torch"):
        start(engine, SCRIPT, torch=False)
    assert not list(runs_root.glob("2*"))
