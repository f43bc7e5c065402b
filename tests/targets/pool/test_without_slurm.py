"""What becomes of pools where SLURM does not do what it should. It is played here."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mlnb.api import pools
from mlnb.errors import MlnbError, UsageError
from mlnb.node.process.identity import process_identity
from mlnb.rundir import write_json
from mlnb.targets.node_zip import node_zip
from mlnb.targets.pool import folder
from mlnb.targets.pool.folder import PoolDir, all_pools
from mlnb.targets.registry import names, target
from mlnb.task import Resources
from mlnb.workspace import Workspace
from tests.targets.batch.played import Played, played
from tests.waiting import until

LOST = "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1"


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Played]:
    with played(tmp_path / "slurm") as commands:
        yield commands


def test_a_pools_job_that_appears_when_its_daemon_has_given_up_is_taken_out_of_the_queue(slurm: Played):
    slurm.say("sbatch", LOST)
    slurm.say("scancel", f"echo >{slurm.folder}/listed")
    with pytest.raises(MlnbError, match="Socket timed out on send/recv operation; whether it took the job"):
        pools.start(["--on", "slurm", "--name", "warm"])
    (pool,) = all_pools(Workspace.of_process())
    slurm.queue(f"12345 PENDING {pool.id}")
    until(lambda: slurm.calls("scancel") == [": 12345"])
    until(lambda: not processes_of(pool.folder.path))


def processes_of(path: Path) -> list[int]:
    """The processes whose command names a pool's folder."""
    return [one.pid for one in psutil.process_iter(["cmdline"]) if str(path) in (one.info["cmdline"] or ())]


def left(name: str, state: str, *, age: float = 0.0, alive: bool = True) -> PoolDir:
    """A pool's folder, as a daemon has left it ``age`` seconds ago."""
    made = PoolDir(folder.pools_root(Workspace.of_process()) / f"{name}-{state}")
    made.path.mkdir(parents=True)
    since = time.time() - age
    resources = {"nodes": 1, "ranks": 1, "gpus": 0, "cpus": 1, "memory": None, "time": None}
    about = {"name": name, "on": "slurm", "resources": resources, "about": {}, "idle": 900, "since": since}
    write_json(made.request, {**about, "bundle": node_zip().digest})
    own = {"pid": os.getpid(), "identity": process_identity(os.getpid())}
    process = own if alive else {"pid": 2**22 + 1, "identity": "none"}
    daemon = {**process, "host": socket.gethostname(), "socket": ""}
    write_json(
        made.state, {"state": state, "reason": "so it is", "holder": daemon, "jobs": ["12345"], "written": since}
    )
    return made


def test_an_older_pool_that_is_closing_is_in_nobodys_way():
    left("old", "closing", age=60)
    with pytest.raises(UsageError, match=r"There is no pool \(old is closing: so it is\)"):
        target("pool").offer(Resources())
    left("new", "running")
    assert [name for name in names() if name.startswith("pool")] == ["pool", "pool:new"]
    assert any("pool new" in words for words in target("pool").offer(Resources()).summary_lines)
    assert folder.find_pool("old", Workspace.of_process()).name == "old"  # to stop, say


def test_what_a_dead_pool_left_is_cleared_away_when_slurm_has_forgotten_its_job(slurm: Played):
    for name, age in (("young", 60.0), ("day", 86400.0 * 0.9), ("old", 86400.0 * 2), ("older", 86400.0 * 40)):
        left(name, "running", age=age, alive=False)
    slurm.say("sbatch", "exit 1")
    for _ in range(2):
        with pytest.raises(MlnbError):
            pools.start(["--on", "slurm", "--name", "next"])
    assert sorted(pool.name for pool in all_pools(Workspace.of_process())) == ["day", "young"]
    assert len(slurm.calls("squeue")) <= 4  # of which one a submission that failed


def test_a_dead_pools_folder_stays_while_slurm_does_not_answer(slurm: Played):
    left("old", "running", age=86400.0 * 2, alive=False)
    slurm.queue(more="echo 'squeue: error: Connection refused' >&2; exit 1")
    slurm.say("sbatch", "exit 1")
    with pytest.raises(MlnbError):
        pools.start(["--on", "slurm", "--name", "next"])
    assert [pool.name for pool in all_pools(Workspace.of_process())] == ["old"]
