"""Warm pools on SLURM: runs start at once and share what there is; whoever dies, nothing is left in the queue."""

from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import dask
import psutil
import pytest

from mlnb.api import Run, pools, runs
from mlnb.api.submit.submit import submit
from mlnb.errors import MlnbError, UsageError
from mlnb.node.process.identity import process_identity
from mlnb.rundir import read_json
from mlnb.targets.base import Placement
from mlnb.targets.pool.folder import PoolInfo
from mlnb.targets.registry import names, target
from mlnb.task import Resources, Task
from tests.clusters.slurm.conftest import Slurm
from tests.waiting import until

pytestmark = pytest.mark.cluster

SITE = {"interface": "lo", "poll": "1s", "memory": "1GB", "cpus": 1, "time": "5m", "grace": 5}
TARGETS = {
    "slurm": SITE,
    "held": {**SITE, "kind": "slurm", "directives": ["--hold"]},
}
MLNB = "from mlnb.cli import main; main()"
SAYS = """
import os
print(os.environ["SLURM_JOB_ID"], os.environ["CUDA_VISIBLE_DEVICES"], os.environ.get("ASKED"), os.environ.get("TOKEN"))
import mlnb
mlnb.log(loss=1.0)
"""
WAITS = """
import os, subprocess, time
from pathlib import Path
import mlnb
child = subprocess.Popen(["sleep", "600"])
print(os.getpid(), child.pid, flush=True)
mlnb.log(loss=1.0)
while not Path({gate!r}).exists():
    time.sleep(0.01)
child.kill()
"""
EPOCHS = """
import time
from pathlib import Path
import torch
import mlnb
model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in mlnb.epochs(4, model=model, optimizer=optimizer):
    model(torch.ones(1, 1)).sum().backward()
    optimizer.step()
    mlnb.log(epoch=epoch)
    while epoch == 2 and not Path({gate!r}).exists():
        time.sleep(0.01)
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, slurm: Slurm) -> Iterator[Path]:
    """The runs' root that the pools of this file are beside of, on a site that says which network is to be used."""
    site = tmp_path_factory.mktemp("site")
    (site / "mlnb.yaml").write_text(json.dumps({"mlnb": {"targets": TARGETS}}))
    with pytest.MonkeyPatch.context() as patch, dask.config.set({"mlnb.targets": TARGETS}):
        patch.setenv("DASK_CONFIG", str(site))
        yield tmp_path_factory.mktemp("pools") / "runs"


@pytest.fixture(autouse=True)
def here(root: Path, runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLNB_RUNS", str(root))


class Kept:
    """The pools of these tests."""

    def __init__(self, slurm: Slurm, root: Path) -> None:
        self.slurm, self.root = slurm, root

    def start(self, name: str, *words: str, on: str = "slurm") -> PoolInfo:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLNB_RUNS", str(self.root))
            pool, _ = pools.start(["--on", on, "--name", name, *words])
        self.slurm.submitted.extend(pool.written.jobs)
        return pool

    def running(self, pool: PoolInfo) -> PoolInfo:
        return until(lambda: now if (now := PoolInfo(pool.folder)).state == "running" else None)

    def ended(self, pool: PoolInfo) -> PoolInfo:
        """The pool when it has ended, and its job and its processes with it."""
        now = until(lambda: now if not (now := PoolInfo(pool.folder)).live else None)
        until(lambda: self.slurm.squeue(pool.written.jobs[0]) is None)
        until(lambda: not now.daemon_alive)
        return now


@pytest.fixture(scope="module")
def kept(slurm: Slurm, root: Path) -> Iterator[Kept]:
    yield Kept(slurm, root)
    left = slurm.command("squeue", "-h", "-o", "%k")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLNB_RUNS", str(root))
        live = [pool for pool in pools.listed() if pool.live]
        for pool in live:
            pools.stop(pool.name)
    ids = [line.removeprefix("mlnb:") for line in left.splitlines() if line.startswith("mlnb:")]
    assert [one for one in ids if (root / ".pools" / one).exists()] == []
    assert live == []


@pytest.fixture(scope="module")
def short(kept: Kept) -> PoolInfo:
    """A pool that has a minute."""
    return kept.start("short", "--gpus", "0", "--time", "1m")


@pytest.fixture(scope="module")
def shared(kept: Kept, short: PoolInfo) -> PoolInfo:
    """A pool with one GPU that most tests here use, none of them alone."""
    return kept.running(kept.start("shared", "--gpus", "1", "--cpus", "2"))


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Path]:
    """A file that runs wait for; there at the end of the test, so that nothing goes on waiting."""
    made = tmp_path / "gate"
    yield made
    made.touch()


def on(pool: PoolInfo, script: str, *, name: str = "test", env: dict[str, str] | None = None, **asked: int) -> Run:
    place = target(f"pool:{pool.name}")
    offer = place.offer(Resources(**asked), Placement(name))
    return runs.add(Run(submit(Task(script=script, seed=0), {}, place, offer, name=name, env=env or {})))


def pids(run: Run) -> list[int]:
    """The pids that a run of ``WAITS`` has printed."""
    return until(lambda: [int(word) for word in run.logs(0, "out").split()])


def answer(context: ssl.SSLContext, plain: socket.socket) -> bytes:
    """What is answered over TLS; a ``ConnectionError`` if the connection is closed instead."""
    with context.wrap_socket(plain) as connection:
        connection.sendall(b"\0" * 64)
        said = connection.recv(1)
    if not said:
        raise ConnectionResetError
    return said


def test_a_run_has_processes_of_its_own_in_the_pools_job(
    shared: PoolInfo, short: PoolInfo, monkeypatch: pytest.MonkeyPatch, root: Path
):
    monkeypatch.setenv("TOKEN", "of-the-session")
    run = on(shared, SAYS, gpus=1, env={"ASKED": "a-value-of-env"}).wait(30)
    assert (run.state, run.reason) == ("succeeded", "")
    assert run.logs(0, "out") == f"{shared.written.jobs[0]} 0 a-value-of-env None\n"
    assert list(run.series()["loss"].value) == [1.0]
    assert run.progress.host.startswith("node")
    written = [path for path in root.rglob("*") if path.is_file() and path.name != "rank-0.out"]
    assert not [path for path in written if b"a-value-of-env" in path.read_bytes()]
    on(short, WAITS.format(gate="never"), name="overlong")  # for the last test


def test_two_runs_on_one_gpu_queue_up(shared: PoolInfo, gate: Path):
    first = on(shared, WAITS.format(gate=str(gate)), name="first", gpus=1, cpus=1)
    pids(first)
    second = on(shared, SAYS, name="second", gpus=1, cpus=1)
    until(
        lambda: (
            second.state == "pending" and second.reason == "Waiting for cores or GPUs of the pool; first is using them"
        )
    )
    gate.touch()
    assert second.wait(30).state == first.wait(30).state == "succeeded"
    assert second.logs(0, "out").split()[1] == "0"


def test_a_crash_hurts_nothing_else(shared: PoolInfo, gate: Path):
    other = on(shared, WAITS.format(gate=str(gate)), name="other", cpus=1)
    pids(other)
    crashed = on(shared, "import os; os.kill(os.getpid(), 11)", cpus=1).wait(30)
    assert (crashed.state, crashed.exit_code) == ("failed", 139)
    gate.touch()
    assert other.wait(30).state == "succeeded"


def test_a_cancelled_run_leaves_no_process_and_a_warm_pool(shared: PoolInfo, gate: Path):
    run = on(shared, WAITS.format(gate=str(gate)), gpus=1)
    there = pids(run)
    waiting = on(shared, SAYS, gpus=1)
    waiting.cancel()
    assert waiting.state == "cancelled"
    run.cancel()
    assert run.state == "cancelled"
    until(lambda: not any(process_identity(pid) for pid in there))
    after = on(shared, SAYS, gpus=1).wait(30)
    assert after.logs(0, "out").split()[0] == shared.written.jobs[0]


@pytest.mark.parametrize(
    ("asked", "where", "words"),
    [
        ({"gpus": 2}, {}, "--gpus 2: pool shared has 1 GPU; use --on slurm"),
        ({"ranks": 2, "cpus": 2}, {}, "--cpus 4: pool shared has 2 cores"),
        ({"nodes": 2}, {}, "--nodes 2: pool shared has 1 node"),
        ({"memory": 2 * 10**9}, {}, "--memory 2.0 GB: pool shared has 1.0 GB"),
        ({"time": 3600}, {}, "--time 1 h: pool shared has"),
        ({}, {"image": "x.sif"}, "--image x.sif: target pool:shared has no such option"),
        ({}, {"partition": "high"}, "--partition high: target pool:shared has no such option"),
    ],
)
def test_more_than_the_pool_has_is_refused(shared: PoolInfo, asked: dict, where: dict, words: str):
    with pytest.raises(UsageError) as refused:
        target("pool:shared").offer(Resources(**asked), Placement(options=where))
    assert words in str(refused.value)


def test_a_pool_is_named_where_there_are_several(shared: PoolInfo, short: PoolInfo):
    assert {"pool:shared", "pool:short"} <= set(names())
    with pytest.raises(UsageError, match=r"There are several pools: .*\. Name one, as in pool:"):
        target("pool").offer(Resources())
    with pytest.raises(UsageError, match="Did you mean shared"):
        target("pool:shred").offer(Resources())
    with pytest.raises(UsageError, match="a pool of that name exists"):
        pools.start(["--on", "slurm", "--name", "shared"])


def test_another_session_finds_the_pool(shared: PoolInfo, tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(SAYS)
    done = subprocess.run(
        [sys.executable, "-c", MLNB, "run", "--on", "pool:shared", "--gpus", "1", str(script)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[:2] == [shared.written.jobs[0], "0"]


def test_only_its_owner_reaches_a_pool(shared: PoolInfo):
    assert stat.S_IMODE(shared.folder.path.stat().st_mode) == 0o700
    for path in (*shared.folder.credentials(), shared.folder.state, Path(shared.written.daemon["socket"]).parent):
        assert not stat.S_IMODE(path.stat().st_mode) & 0o077, path
    daemon = psutil.Process(shared.written.daemon["pid"])
    assert {one.laddr.ip for one in daemon.net_connections("inet")} == {"127.0.0.1"}
    host, port = shared.written.scheduler.removeprefix("tls://").split(":")
    stranger = ssl.create_default_context()
    stranger.check_hostname, stranger.verify_mode = False, ssl.CERT_NONE
    with socket.create_connection((host, int(port))) as plain, pytest.raises((ssl.SSLError, ConnectionError)):
        answer(stranger, plain)
    assert "-----BEGIN" not in " ".join(daemon.cmdline())


def test_a_worker_that_is_killed_is_replaced(shared: PoolInfo, gate: Path):
    run = on(shared, WAITS.format(gate=str(gate)), cpus=1)
    pids(run)
    ours = [one for one in psutil.process_iter(["cmdline"]) if f"{shared.id}.0.0" in (one.info["cmdline"] or ())]
    assert len(ours) == 1
    ours[0].kill()
    assert on(shared, SAYS, cpus=1).wait(60).state == "succeeded"
    assert run.state == "running"
    gate.touch()
    assert run.wait(30).state == "succeeded"


def test_unused_it_ends(kept: Kept):
    pool = kept.start("again", "--gpus", "0", "--idle", "1s")
    over = kept.ended(pool)
    assert over.reason == "nothing ran on it for 1.0 s"
    assert not [path for path in pool.folder.credentials() if path.exists()]
    with pytest.raises(UsageError, match="No pool named again"):
        target("pool:again").offer(Resources())


@pytest.fixture(scope="module")
def again(kept: Kept) -> PoolInfo:
    """A pool that has the name of one that has ended a moment ago."""
    return kept.running(kept.start("again", "--gpus", "0"))


def test_a_pool_that_is_queued_again_goes_on_with_the_run_it_had(again: PoolInfo, slurm: Slurm, gate: Path):
    job = again.written.jobs[0]
    run = on(again, EPOCHS.format(gate=str(gate)))
    until(lambda: run.checkpoints() and run.series()["epoch"].value[-1] == 2)
    slurm.command("scontrol", "requeue", job)
    until(lambda: PoolInfo(again.folder).state == "pending")
    until(lambda: run.state == "pending")
    assert "when the pool is back" in run.reason
    slurm.start_now(job)
    until(lambda: run.attempts == 2)
    gate.touch()
    assert run.wait(30).state == "succeeded"
    assert list(run.series()["epoch"].value) == [0, 1, 2, 3]


def test_when_its_daemon_is_killed_a_run_goes_on_to_its_end(kept: Kept, again: PoolInfo, slurm: Slurm, gate: Path):
    run = on(again, WAITS.format(gate=str(gate)))
    pids(run)
    os.kill(again.written.daemon["pid"], signal.SIGKILL)
    until(lambda: not PoolInfo(again.folder).live)
    with pytest.raises(MlnbError, match="No pool named again"):
        on(again, SAYS)
    assert slurm.squeue(again.written.jobs[0]) == "RUNNING"
    assert run.state == "running"
    gate.touch()
    assert run.wait(30).state == "succeeded"
    kept.ended(again)


def test_runs_wait_with_a_pool_that_waits(kept: Kept, slurm: Slurm):
    pool = kept.start("waiting", on="held")
    run = on(pool, SAYS)
    until(lambda: PoolInfo(pool.folder).reason.startswith("Held"))
    assert run.state == "pending"
    assert "waits for pool waiting: Held" in run.reason
    other = on(pool, SAYS)
    other.cancel()
    assert other.state == "cancelled"
    _, said = pools.stop("waiting")
    assert said == "pool waiting has ended: was stopped"
    kept.ended(pool)
    assert run.state == "lost"
    assert "its pool was stopped before it was started" in run.reason


def test_a_daemon_that_is_killed_leaves_nothing_in_the_queue(kept: Kept, slurm: Slurm):
    pool = kept.start("orphan", on="held")
    os.kill(pool.written.daemon["pid"], signal.SIGKILL)
    kept.ended(pool)
    assert slurm.state(pool.written.jobs[0]) == "CANCELLED"


def test_when_its_daemon_is_told_to_end_as_at_a_logout_the_job_goes_with_it(kept: Kept, slurm: Slurm):
    pool = kept.start("logout", on="held")
    os.kill(pool.written.daemon["pid"], signal.SIGTERM)
    over = kept.ended(pool)
    assert over.reason == "its daemon got a signal to end, as at logout"
    assert slurm.state(pool.written.jobs[0]) == "CANCELLED"


def test_a_job_that_is_cancelled_behind_its_back_ends_pool_and_run(kept: Kept, shared: PoolInfo, gate: Path):
    run = on(shared, WAITS.format(gate=str(gate)))
    there = pids(run)
    kept.slurm.cancel(*shared.written.jobs)
    over = kept.ended(shared)
    assert over.reason == f"its job {shared.written.jobs[0]} was cancelled"
    assert run.wait(30).state in ("failed", "cancelled", "lost")
    assert "Stopped by the system" in run.reason or "was cancelled" in run.reason
    until(lambda: not any(process_identity(pid) for pid in there))


def test_when_its_time_is_over_it_is_gone(kept: Kept, short: PoolInfo):
    """The last, so that its minute has gone on meanwhile."""
    over = kept.ended(short)
    assert over.reason == "its time was over (1 min)"
    run = runs["overlong"]
    assert run.state == "failed"
    assert run.reason.startswith("Out of time")
    assert not read_json(short.folder.state)["left"]
