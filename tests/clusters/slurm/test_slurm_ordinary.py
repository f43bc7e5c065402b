"""All of it as somebody who is not root."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.clusters.slurm.conftest import Slurm
from tests.testbeds.ordinary import OrdinaryUser
from tests.waiting import until

pytestmark = pytest.mark.cluster

SNIPPET = """
import json, time
from mlnb.api import Run
from mlnb.api.submit.submit import submit
from mlnb.targets.base import Placement
from mlnb.targets.registry import target
from mlnb.task import Resources, Task

def start(script, name, **asked):
    place = target("slurm")
    offer = place.offer(Resources(cpus=1, memory=2**30, time=300, **asked), Placement(name))
    return Run(submit(Task(script=script, seed=0), {}, place, offer, name=name, env={}))

through = start("import mlnb, os; mlnb.log(x=1); print(os.environ['CUDA_VISIBLE_DEVICES'], os.getuid())", "a", gpus=1)
long = start("import mlnb, time; mlnb.log(x=1); time.sleep(300)", "b")
through.wait(60)
while not long.series():
    assert not long.done, long
    time.sleep(0.05)
long.cancel()
shown = lambda run: [run.state, run.reason, run.logs(0, "out"), str(run.dir)]
print(json.dumps([shown(through), shown(long)]))
"""


def test_an_ordinary_user_submits_follows_and_cancels(slurm: Slurm, ordinary_user: OrdinaryUser):
    through, cancelled = json.loads(ordinary_user.snippet(SNIPPET, timeout=120))
    assert through[:3] == ["succeeded", "", f"0 {ordinary_user.uid}\n"]
    assert cancelled[0] == "cancelled"
    assert cancelled[1] == "stopped by you"
    assert slurm.command("squeue", "-h", "-u", ordinary_user.name) == ""
    for folder in map(Path, (through[3], cancelled[3])):
        for path in (folder, *(one for one in folder.rglob("*") if one.is_dir())):
            info = path.stat()
            assert (info.st_uid, stat.S_IMODE(info.st_mode)) == (ordinary_user.uid, 0o700), path


HIDDEN = """
from mlnb.api import Run
from mlnb.api.submit.submit import submit
from mlnb.errors import UsageError
from mlnb.targets.base import Placement
from mlnb.targets.registry import target
from mlnb.task import Resources, Task

def start(partition):
    place = target("slurm")
    offer = place.offer(Resources(cpus=1, memory=2**30, time=60), Placement("hidden", {"partition": partition}))
    return Run(submit(Task(script="import time; time.sleep(1)"), {}, place, offer, name="hidden", env={}))

try:
    start("mlnbhidd")
except UsageError as error:
    print(error)
run = start("mlnbhidden")
print(run.state in ("pending", "starting", "running"), run.wait(60).state)
"""


def test_a_hidden_partition_is_used_by_who_knows_its_name_and_shown_to_nobody(
    slurm: Slurm, ordinary_user: OrdinaryUser
):
    slurm.command("scontrol", "create", "PartitionName=mlnbhidden", "Nodes=node1", "Hidden=YES", "MaxTime=5")
    try:
        refusal, told = ordinary_user.snippet(HIDDEN, timeout=120).splitlines()
    finally:
        until(lambda: slurm.command("squeue", "-h", "--all", "-p", "mlnbhidden") == "")  # the job has left it
        slurm.command("scontrol", "delete", "PartitionName=mlnbhidden")
    assert "Unknown partition mlnbhidd." in refusal
    assert "mlnbhidden" not in refusal
    assert told == "True succeeded"
