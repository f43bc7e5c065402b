"""SLURM itself fails: a node, its daemon, the controller. Runs go on, and nothing that is said of them is untrue."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlnb.api import Run
from mlnb.targets.batch.queue import states as batch_states
from tests.clusters.slurm.conftest import Slurm, Start, configured, job
from tests.clusters.slurm.training import begin, plain
from tests.testbeds.slurm_operator import Operator
from tests.waiting import until

pytestmark = [pytest.mark.cluster]

UNTIL = """
import os, time, mlnb
from pathlib import Path
while not Path(os.environ["GO"]).exists():
    mlnb.log(on=1)
    time.sleep(0.05)
"""


def waits_for(start: Start, go: Path, **asked: object) -> Run:
    """A run that goes on until there is a file."""
    return start(UNTIL, env={"GO": str(go)}, **asked)


def running(run: Run) -> str:
    """Wait until the script has begun; its node."""
    until(lambda: run.series().get("on") is not None)
    return run.progress.host


def on_a_node(number: str) -> bool:
    """Whether anything of a job is left on a node, whatever the controller thinks."""
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            if path.read_bytes().startswith(f"slurmstepd: [{number}.".encode()):
                return True
    return False


@pytest.fixture
def daemons(operator: Operator) -> Iterator[Operator]:
    """SLURM's daemons; at the end all of them run."""
    yield operator
    operator.mend()


def test_without_its_node_s_daemon_a_run_goes_on(slurm: Slurm, start: Start, daemons: Operator, tmp_path: Path):
    run = waits_for(start, tmp_path / "go")
    daemons.kill_node(running(run))
    before = len(run.series()["on"])
    until(lambda: len(run.series()["on"]) > before + 20)
    assert (run.state, run.reason) == ("running", "")
    (tmp_path / "go").touch()
    assert run.wait(60).state == "succeeded"
    daemons.mend()
    until(lambda: slurm.squeue(job(run)) is None)
    assert (run.state, run.attempts) == ("succeeded", 1)


@pytest.mark.parametrize("requeue", [True, False])
def test_a_run_whose_node_fails(slurm: Slurm, start: Start, daemons: Operator, tmp_path: Path, requeue: bool):
    """It is queued again, and goes on; one that is not to be queued again ends with the node as the reason."""
    with configured(poll="1s"):
        training = begin(start, tmp_path, requeue=requeue).under_way()
        node = training.run.progress.host
        daemons.scontrol("update", f"nodename={node}", "state=down", "reason=test")
        if requeue:
            training.told("pending", "A node of the job failed. Queued again")
        else:
            assert training.run.wait(60).state == "failed"
            assert training.run.reason == "A node of the job failed. Continue with --resume training"
        until(lambda: not on_a_node(training.job))  # SLURM drains a node that still has what it is to start
        if requeue:
            daemons.mend()
            training.go_on(slurm)
            assert training.has_gone_on() == plain()


def test_while_the_controller_is_away_nothing_is_lost(slurm: Slurm, start: Start, daemons: Operator, tmp_path: Path):
    go = tmp_path / "go"
    with configured(poll="1s"):
        run, ends = waits_for(start, go), waits_for(start, tmp_path / "end", name="ends")
        with configured(poll="1s", directives=["--hold"]):
            waits = waits_for(start, go, name="waits")
        assert running(run)
        assert running(ends)
        assert waits.reason.startswith("Held by you")
        daemons.stop_control()
        (tmp_path / "end").touch()
        assert ends.wait(60).state == "succeeded", "it leaves its own account"
        until(lambda: " ago: SLURM" in waits.reason)
        assert waits.state == "pending"
        assert waits.reason.startswith("Held by you"), "what was known of it still is"
        until(lambda: "Unable to contact slurm controller" in waits.reason)  # so squeue says after a while
        assert waits.reason.startswith("Held by you")
        assert (run.state, run.reason) == ("running", ""), "its heartbeats say so"
        daemons.mend()
        until(lambda: " ago: SLURM" not in waits.reason)
        assert waits.state == "pending"
        go.touch()
        slurm.command("scontrol", "release", job(waits))
        for one in (run, waits):
            assert one.wait(60).state == "succeeded", one.reason
            assert one.attempts == 1


def test_a_suspended_run_says_so_and_goes_on(
    operator: Operator, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(batch_states, "HEARTBEAT_TIMEOUT", 4.0)
    with configured(poll="1s"):
        run = waits_for(start, tmp_path / "go")
        running(run)
        operator.scontrol("suspend", job(run))
        until(lambda: run.reason)
        assert (run.state, run.reason) == ("running", "is suspended: its cores run another job meanwhile")
        operator.scontrol("resume", job(run))
        until(lambda: not run.reason)
        assert run.state == "running"
        (tmp_path / "go").touch()
        assert run.wait(60).state == "succeeded"
