"""Why a run waits, in words that a person can do something with, and SLURM's own guess of when it starts."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mlnb.errors import MlnbError
from tests.clusters.slurm.commands import Commands
from tests.clusters.slurm.conftest import Slurm, Start, configured, job
from tests.waiting import until

pytestmark = pytest.mark.cluster


@contextmanager
def taken(slurm: Slurm, gpus: int) -> Iterator[None]:
    """So many of the two GPUs of one kind, of one node, are another's for ten minutes, as SLURM knows."""
    holder = slurm.sbatch("sleep 600", "--time=10", f"--gres=gpu:v100:{gpus}", "--mem=100")
    slurm.wait_state(holder, "RUNNING", patience=90)  # other sessions' tests may hold them
    yield
    slurm.cancel(holder)
    until(lambda: slurm.squeue(holder) is None)


@pytest.fixture
def full(slurm: Slurm) -> Iterator[None]:
    with taken(slurm, 2):
        yield


@pytest.fixture
def half_full(slurm: Slurm) -> Iterator[None]:
    with taken(slurm, 1):
        yield


def test_a_run_that_waits_for_gpus_says_what_for_and_when_slurm_expects_it(full: None, start: Start):
    with configured(poll="1s"):
        run = start(gpus=2, gpu_type="v100")
        assert (run.state, run.reason) == ("pending", "Waiting for SLURM to consider it")
        expected = (
            r"Waiting for GPUs: all suitable ones are in use; --gpus 1 may start sooner; "
            r"SLURM expects it to start in (9|10) min( \d+ s)?"
        )
        until(lambda: re.fullmatch(expected, run.reason))  # as soon as the nodes are looked at anew
        assert run.state == "pending"
        behind = start(gpus=2, gpu_type="v100")
        until(lambda: behind.reason.startswith("Waiting for jobs of higher priority"))
        assert "a --time under 5 min may fit into a gap before them" in behind.reason


def test_a_run_that_waits_says_what_would_start_now_and_the_nodes_are_looked_at_seldom(
    half_full: None, start: Start, commands: Commands
):
    with configured(poll="1s"):
        run = start(gpus=2, gpu_type="v100")
        until(lambda: "; 1 GPU on one node is free now: try --gpus 1; SLURM expects" in run.reason)
        assert run.state == "pending"
    with configured(poll="1m"):
        asked = commands.calls()
        for _ in range(5):
            assert "is free now" in run.reason
        assert commands.calls() == asked


def test_a_held_run_says_how_it_is_let_go_and_goes_on(slurm: Slurm, start: Start):
    with configured(directives=["--hold"], poll="1s"):
        run = start("print('through')")
        assert run.state == "pending"
        assert run.reason == (f"Held by you or a coordinator of your account; scontrol release {job(run)} releases it")
        slurm.command("scontrol", "release", job(run))
        assert run.wait(60).state == "succeeded", run.reason


def test_the_plan_tells_what_the_run_before_it_waited(start: Start, tmp_path: Path):
    assert start().wait(60).state == "succeeded"
    script = tmp_path / "train.py"
    script.write_text("")
    command = [Path(sys.executable).with_name("mlnb"), "run", "--on", "slurm", "--dry-run", str(script)]
    shown = subprocess.run(command, capture_output=True, text=True, timeout=60).stdout
    assert re.search(r"your last run on gpu waited [\d.]+ s", shown)
    assert "#SBATCH -p gpu" in shown


DOWN = "echo 'error: Unable to contact slurm controller (connect failure)' >&2; exit 1"


def test_while_slurm_does_not_answer_what_is_known_stays_known(start: Start, commands: Commands):
    with configured(directives=["--hold"], poll="1s"):
        run = start()
        assert run.state == "pending"
        commands.say("squeue", DOWN)
        commands.say("scancel", DOWN)
        until(lambda: " ago: SLURM" in run.reason)
        assert run.state == "pending"
        assert re.fullmatch(r"Held .*; as of [\d.]+ s ago: SLURM says: .*connect failure.*", run.reason)
        with pytest.raises(MlnbError, match="Unable to contact slurm controller"):
            run.cancel()
        commands.restore()
        run.cancel()
        assert run.state == "cancelled"


def test_a_controller_that_is_away_holds_up_no_view(slurm: Slurm, start: Start, commands: Commands, tmp_path: Path):
    """The real ``squeue`` tries for some 9 s to reach one."""
    real = shutil.which("squeue", path=os.defpath)
    away = tmp_path / "slurm.conf"
    away.write_text(re.sub(r"^SlurmctldPort=.*", "SlurmctldPort=1", slurm.conf.read_text(), flags=re.M))
    with configured(directives=["--hold"], poll="1s"):
        run = start()
        assert run.reason.startswith("Held")
        commands.say("squeue", f'SLURM_CONF={away} exec {real} "$@"')
        said: set[str] = set()
        end = time.monotonic() + 60
        while time.monotonic() < end and not any("says:" in one for one in said):
            said.add(re.sub(r"[\d.]+ (m?s|min)", "T", run.reason))
            time.sleep(0.05)
        commands.restore()
        until(lambda: " ago: SLURM" not in run.reason)
    held = f"Held by you or a coordinator of your account; scontrol release {job(run)} releases it"
    away_for = f"{held}; as of T ago: SLURM "
    assert {held, f"{away_for}has not answered for T"} < said
    assert any(one.startswith(f"{away_for}says: ") and "Unable to contact slurm controller" in one for one in said)
    assert len(said) == 3
