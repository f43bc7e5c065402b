"""Many runs submitted at once are one job array, and each is a run like any other, on a real SLURM."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from mlnb.api import Run, runs
from mlnb.api.submit.submit import Submission, submit_many
from mlnb.targets.base import Placement
from mlnb.targets.registry import target
from mlnb.task import Resources, Task
from tests.clusters.slurm.commands import Commands
from tests.clusters.slurm.conftest import Slurm, configured, job
from tests.clusters.slurm.test_slurm_waiting import taken
from tests.clusters.slurm.training import SCRIPT, Training
from tests.waiting import until

StartMany = Callable[..., list[Run]]


@pytest.fixture
def start_many(slurm: Slurm) -> Iterator[StartMany]:
    """Submit many scripts to SLURM at once: small ones. The test leaves nothing in the queue."""
    started: list[Run] = []

    def submitted(
        scripts: Sequence[str], *, envs: Sequence[Mapping[str, str]] = (), requeue: bool = False, **asked: object
    ) -> list[Run]:
        place = target("slurm")
        wanted = Resources(**{"cpus": 1, "memory": 2**29, "time": 300, **asked})  # type: ignore[arg-type]
        offer = place.offer(wanted, Placement("trial", {"requeue": requeue}))
        trials = [
            Submission(Task(script=script, seed=0), {}, f"trial-{number}", envs[number] if envs else {})
            for number, script in enumerate(scripts)
        ]
        found = [runs.add(Run(directory)) for directory in submit_many(trials, place, offer)]
        started.extend(found)
        return found

    yield submitted
    left = {job(run) for run in started if run.directory.handle.exists() and not run.done}
    slurm.cancel(*left)


def tasks(found: Sequence[Run]) -> str:
    """The id of the array that these runs are, in this order."""
    jobs = [job(run) for run in found]
    array = jobs[0].partition("_")[0]
    assert jobs == [f"{array}_{index}" for index in range(len(found))]
    return array


def reaches(run: Run, state: str) -> None:
    until(lambda: run.state == state or run.done)
    assert run.state == state, run.reason


def test_runs_that_wait_are_one_submission_and_each_is_cancelled_or_released_by_itself(
    slurm: Slurm, start_many: StartMany, commands: Commands
):
    envs = [{"OWN": str(number), "SHARED": "it's\nshared"} for number in range(3)]
    script = "import os; print(os.environ['OWN'], os.environ['SHARED'], [n for n in os.environ if 'MLNB_TASK' in n])"
    with configured(directives=["--hold"], poll="1s"):
        found = start_many([script] * 3, envs=envs)
        array = tasks(found)
        assert commands.calls().count("sbatch") == 1
        for index, run in enumerate(found):
            assert run.state == "pending"
            assert run.reason.endswith(f"scontrol release {array}_{index} releases it")
        found[0].cancel()
        assert (found[0].state, found[0].reason) == ("cancelled", "stopped by you; it had not started")
        assert [run.state for run in found[1:]] == ["pending", "pending"]
        slurm.command("scontrol", "release", f"{array}_2")
        assert found[2].wait(60).state == "succeeded", found[2].reason
        assert found[2].logs(stream="out") == "2 it's\nshared []\n"
        assert found[1].state == "pending"


def test_runs_whose_submission_was_not_answered_are_found_in_the_queue(
    slurm: Slurm, start_many: StartMany, commands: Commands
):
    real = (commands.folder / "sbatch").read_text().splitlines()[-1].removeprefix("exec ")
    lost = "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1"
    commands.say("sbatch", f"{real} >/dev/null; {lost}")
    with configured(directives=["--hold"], poll="1s"):
        found = start_many([""] * 3)
        jobs = [job(run) for run in found]
        tasks(found)
        for run in found:  # as if the session had died before it could write them
            run.directory.handle.unlink()
        found[1].cancel()
        assert [run.state for run in found] == ["pending", "cancelled", "pending"]
        assert [job(run) for run in found] == jobs


TRAINING = """
import mlnb, os, torch
model = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=float(os.environ["RATE"]))
for _ in range(3):
    loss = (model(torch.ones(1)) - 1).square().sum()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
mlnb.log(rate=float(os.environ["RATE"]))
"""


@pytest.mark.cluster
def test_eight_runs_train_each_by_itself(start_many: StartMany, commands: Commands):
    found = start_many([TRAINING] * 8, envs=[{"RATE": str(number / 100)} for number in range(8)])
    assert commands.calls().count("sbatch") == 1
    tasks(found)
    losses = set()
    for number, run in enumerate(found):
        assert run.wait(90).state == "succeeded", (run.reason, run.logs())
        assert list(run.series()["rate"].value) == [number / 100]
        assert len(run.series()["loss"].value) == 3
        losses.add(run.series()["loss"].value[-1])
    assert len(losses) == 8


@pytest.mark.cluster
def test_one_is_cancelled_while_it_runs_and_one_fails_and_the_others_succeed(start_many: StartMany, tmp_path: Path):
    released = tmp_path / "released"
    wait = "import mlnb, os, time\nmlnb.log(begun=1)\nwhile not os.path.exists(os.environ['RELEASED']): time.sleep(0.1)"
    found = start_many([wait, "raise ValueError('no such data')", wait, ""], envs=[{"RELEASED": str(released)}] * 4)
    until(lambda: found[0].series().get("begun") is not None)
    found[0].cancel()
    assert (found[0].state, found[0].reason) == ("cancelled", "stopped by you")
    assert found[1].wait(60).state == "failed"
    assert "no such data" in found[1].reason
    assert found[3].wait(60).state == "succeeded", found[3].reason
    assert not found[2].done
    released.touch()
    assert found[2].wait(60).state == "succeeded", found[2].reason


@pytest.mark.cluster
def test_runs_that_wait_for_gpus_say_so_each(slurm: Slurm, start_many: StartMany):
    with taken(slurm, 2), configured(poll="1s"):
        found = start_many([""] * 3, gpus=2, gpu_type="v100")
        for run in found:
            until(lambda run=run: "all suitable ones are in use" in run.reason or "higher priority" in run.reason)
            assert run.state == "pending"
        until(lambda: "SLURM expects it to start in" in found[0].reason)
        states = [(run.cancel().state, run.reason) for run in found]
        assert states == [("cancelled", "stopped by you; it had not started")] * 3


@pytest.mark.cluster
def test_one_that_slurm_requeues_goes_on_in_its_next_attempt(slurm: Slurm, start_many: StartMany, tmp_path: Path):
    hurry = tmp_path / "hurry"
    found = start_many([SCRIPT] * 2, envs=[{"HURRY": str(hurry), "BATCH": "8"}] * 2, requeue=True)
    array = tasks(found)
    first, second = (Training(run, hurry) for run in found)
    first.under_way()
    second.under_way()
    slurm.command("scontrol", "requeue", f"{array}_1")
    until(lambda: int(slurm.show(f"{array}_1")["Restarts"]))
    slurm.wait_state(f"{array}_1", "PENDING")  # once its first attempt has ended
    hurry.touch()
    slurm.start_now(f"{array}_1")
    second.has_gone_on()
    assert found[0].wait(60).state == "succeeded", found[0].reason
    assert found[0].attempts == 1


PROGRAM = """#!/bin/sh
echo "$MLNB_RESTARTS $MLNB_DEADLINE" >>"$3/starts"
[ "$SLURM_JOB_ID" != "$SLURM_ARRAY_JOB_ID" ] || [ "$MLNB_RESTARTS" != 0 ] || exit 75
sleep 300
"""


def starts(run: Run) -> list[str]:
    """What :data:`PROGRAM` has written: its restart count and its deadline, for each start."""
    file = run.dir / "starts"
    return file.read_text().split() if file.exists() else []


@pytest.mark.cluster
def test_one_that_asks_to_be_queued_again_does_not_have_the_others_queued_again(
    slurm: Slurm, start_many: StartMany, tmp_path: Path
):
    """For SLURM's commands the id of the last task to start is that of the whole array, without its index."""
    program = tmp_path / "program.sh"
    program.write_text(PROGRAM)
    program.chmod(0o755)
    with configured(python=str(program), poll="1s"):
        found = start_many([""] * 3, requeue=True)
        array = tasks(found)
        until(lambda: all(len(starts(run)) >= 2 for run in found))
        until(lambda: int(slurm.show(f"{array}_2")["Restarts"]))
        slurm.start_now(f"{array}_2")
        until(lambda: len(starts(found[2])) == 4)
        assert [starts(run)[::2] for run in found] == [["0"], ["0"], ["0", "1"]]
        for run in found:
            assert all(abs(float(end) - time.time() - 300) < 60 for end in starts(run)[1::2])
        assert all(run.cancel().state == "cancelled" for run in found)


@pytest.mark.cluster
def test_each_may_have_several_nodes(start_many: StartMany):
    script = "import mlnb, torch.distributed as dist\ndist.init_process_group()\nmlnb.log(size=dist.get_world_size())"
    found = start_many([script] * 2, nodes=2)
    tasks(found)
    for run in found:
        assert run.wait(90).state == "succeeded", (run.reason, run.logs())
        assert set(run.series()["size"].value) == {2.0}
