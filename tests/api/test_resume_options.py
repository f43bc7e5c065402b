"""What ``--resume`` asks for again: of the same target, of another one, and of runs that older versions wrote."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from mlnb.api import Run, resume
from mlnb.api.submit.option_reader import OptionTable
from mlnb.api.submit.options import Options
from mlnb.runinfo import SCHEMA, RunInfo
from mlnb.targets.base import Offer
from mlnb.targets.registry import target
from mlnb.task import Resources, Task
from mlnb.workspace import Workspace
from tests.option_line import parse


def earlier(asked: dict[str, Any] | None, on: str = "slurm", **about: Any) -> Run:
    """A run that ended, with what ``run.json`` has of it."""
    info = RunInfo.from_json({**about, "name": "old", "target": on, "asked": asked}, "old")
    run = SimpleNamespace(
        info=info,
        target=on,
        workspace=Workspace.of_process(),
        name="old",
        task=Task(script="", resources=Resources(1, 2, 2, 4, 2**30, 600)),
    )
    run.checkpoints = lambda: [Path("epoch-000001")]
    return cast(Run, run)


def completed(run: Run, line: str = "") -> Options:
    given = OptionTable(resume.value_of(line.split(), "--on") or run.target, Workspace.of_process()).read(line.split())
    return resume.complete_options(run, given, Options(memory=1, time=1))


OLD = {"gpus": 2, "time": 60, "partition": "gpu", "image": "x.sif", "no_requeue": True, "account": "phys"}
"""As it was written with one key for each of ``--requeue`` and ``--no-requeue``."""


def test_all_that_was_asked_for_is_asked_for_again():
    options = completed(earlier(OLD))
    assert (options.on, options.gpus, options.time, options.memory) == ("slurm", 2, 60, None)
    assert options.target_options == {"partition": "gpu", "image": "x.sif", "requeue": False, "account": "phys"}


def test_what_the_line_says_comes_first():
    options = completed(earlier(OLD), "--partition cpu --requeue --gpus 1")
    assert options.target_options == {"partition": "cpu", "image": "x.sif", "requeue": True, "account": "phys"}
    assert (options.gpus, options.ranks) == (1, None)


@pytest.mark.parametrize(
    ("on", "kept", "lost"),
    [
        ("lsf", {"image": "x.sif", "requeue": False}, "--partition gpu, --account phys"),
        ("local", {"image": "x.sif"}, "--partition gpu, --account phys, --no-requeue"),
        ("pool", {"requeue": False}, "--partition gpu, --image x.sif, --account phys"),
    ],
)
def test_another_target_gets_what_means_something_there_and_the_plan_says_what_not(on: str, kept: dict, lost: str):
    run = earlier(OLD)
    options = completed(run, f"--on {on}")
    assert (options.on, options.target_options) == (on, kept)
    words = resume.add_plan_line(run, options, Offer(run.task.resources)).summary_lines[-1]
    assert words == f"continues from epoch-000001 of old, without {lost}, as that was for target slurm"


def test_on_the_same_target_nothing_is_lost():
    run = earlier(OLD)
    assert "without" not in resume.add_plan_line(run, completed(run), Offer(run.task.resources)).summary_lines[-1]


def test_an_older_run_has_what_it_was_given():
    run = earlier(None, partition="gpu", requeue=False, image="x.sif")
    options = completed(run)
    assert (options.ranks, options.gpus, options.cpus, options.memory, options.time) == (2, 2, 4, 2**30, 600)
    assert options.target_options == {"partition": "gpu", "image": "x.sif", "requeue": False}
    elsewhere = completed(run, "--on local")
    assert (elsewhere.ranks, elsewhere.cpus, elsewhere.memory) == (2, None, None)
    assert elsewhere.target_options == {"image": "x.sif"}


@pytest.mark.parametrize(
    ("on", "requeue", "kept"),
    [("slurm", False, {"requeue": False}), ("slurm", True, {}), ("local", False, {}), ("nowhere", False, {})],
)
def test_a_run_that_no_line_submitted_is_requeued_as_little_as_before(on: str, requeue: bool, kept: dict):
    run = earlier(None, on, schema=SCHEMA, node={"requeue": requeue})
    assert completed(run, "--on slurm").target_options == kept


def test_what_is_written_is_read_again():
    options = parse("--on slurm --gpus 1 --partition gpu --no-requeue --qos high --name x --seed 3")
    written = json.loads(json.dumps(resume.requested_options(options, target("slurm"))))
    assert written == {"gpus": 1, "partition": "gpu", "requeue": False, "qos": "high"}
    again = completed(earlier(written))
    assert (again.gpus, again.target_options) == (1, dict(options.target_options))
