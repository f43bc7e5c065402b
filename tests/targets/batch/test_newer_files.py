"""What a newer mlnb of the same user has written, in another environment, still reads."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from mlnb.rundir import write_json
from mlnb.targets.batch import load_system
from mlnb.targets.batch.queue import listing as queue_listing
from mlnb.targets.batch.systems.slurm.queue import QUEUE_COMMAND
from mlnb.targets.pool import folder
from mlnb.targets.pool.folder import PoolDir
from mlnb.task import Resources
from mlnb.workspace import Workspace
from tests.scripts import write_command

MORE = {"from the future": 1}


def test_a_pool(tmp_path: Path):
    made = PoolDir(folder.pools_root(Workspace.of_process()) / "warm-1")
    made.path.mkdir(parents=True)
    asked: dict[str, Any] = {"name": "warm", "on": "slurm", "since": 1.0, "resources": {"gpus": 2, **MORE}}
    write_json(made.request, {**asked, **MORE})
    write_json(made.state, {"state": "ended", "reason": "was stopped", "jobs": ["7"], **MORE})
    (pool,) = folder.all_pools(Workspace.of_process())
    assert pool.resources == Resources(gpus=2)
    assert (pool.state, pool.reason, pool.written.jobs) == ("ended", "was stopped", ("7",))


def test_a_look_at_the_queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    commands = tmp_path / "bin"
    commands.mkdir()
    job = "|".join(["7", "PENDING", "Resources", "N/A", "0", "1:00", "1", "gpu", "0", "0", "", "mlnb:run"])
    write_command(commands, QUEUE_COMMAND[0], f"echo '{job}'")
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("MLNB_RUNTIME", str(tmp_path / "rt"))
    system = load_system("slurm")({}, Workspace.of_process())
    seen = queue_listing.list_queue(system, 60.0)
    assert list(seen.jobs) == ["7"]
    (kept,) = (tmp_path / "rt").glob("*.json")
    told = json.loads(kept.read_bytes())
    jobs = {number: {**one, **MORE} for number, one in told["jobs"].items()}
    kept.write_text(json.dumps({**told, "jobs": jobs, **MORE}))
    assert queue_listing.list_queue(system, 60.0) == seen
