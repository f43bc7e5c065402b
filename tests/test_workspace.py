"""Workspaces: one process serves several, each with its own runs, runtime folder and configuration."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask.config
import pytest

from mlnb.api import Run, Runs, runs
from mlnb.api.submit.submit import submit
from mlnb.errors import UsageError
from mlnb.rundir import RunDir
from mlnb.server.manager import Manager
from mlnb.targets import warm
from mlnb.targets.base import Placement
from mlnb.targets.batch.jobqueue import adapter as jobqueue_adapter
from mlnb.targets.registry import default_name, names, target
from mlnb.task import Resources, Task
from mlnb.workspace import Workspace
from tests.conftest import short_folder
from tests.waiting import until

FOREVER = "import time\nprint('on', flush=True)\nwhile True: time.sleep(0.05)"
BATCH = {"kind": "pbs", "cpus": 2, "memory": "1GB"}


def made(folder: Path, runtime: Path, name: str, queue: str) -> Workspace:
    settings = {"target": name, "targets": {name: {"kind": "local", "grace": 5}, f"{name}-batch": BATCH}}
    config = {"mlnb": settings, "jobqueue": {"pbs": {"queue": queue, "job_extra_directives": [f"-A {queue}"]}}}
    return Workspace(folder / name / "runs", runtime / name, config)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[tuple[Workspace, Workspace]]:
    """Two users' workspaces; neither is this process's."""
    with short_folder() as runtime:
        pair = made(tmp_path, runtime, "ann", "short"), made(tmp_path, runtime, "bob", "long")
        yield pair
        for workspace in pair:
            for run in Runs(workspace):
                run.cancel()
            warm.stop(workspace)


def start(workspace: Workspace, script: str, name: str = "test") -> Run:
    destination = target(None, workspace)
    made = submit(Task(script=script, seed=0), {}, destination, destination.offer(Resources(cpus=1)), name=name, env={})
    return Run(made, workspace)


def at_once(call: Callable[[Workspace], Any], pair: tuple[Workspace, Workspace]) -> list[Any]:
    """What ``call`` returns for each workspace, called in two threads."""
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(call, pair))


def test_runs_of_one_are_not_seen_in_the_other(two: tuple[Workspace, Workspace]):
    mine, yours = (start(workspace, "import mlnb\nmlnb.log(x=1)", "same") for workspace in two)
    for workspace, run in zip(two, (mine, yours), strict=True):
        assert [listed.id for listed in Runs(workspace)] == [run.id]
        assert run.dir.parent == workspace.root
        assert Runs(workspace)["same"].wait(60).state == "succeeded"
    assert len(runs) == 0
    with pytest.raises(UsageError, match="No run named"):
        Runs(two[0])[yours.id]


def test_target_names_are_those_of_each_configuration(two: tuple[Workspace, Workspace]):
    ann, bob = two
    assert (default_name(ann), default_name(bob), target().name) == ("ann", "bob", "local")
    assert {"ann", "ann-batch"} <= set(names(ann))
    assert not {"ann", "ann-batch"} & {*names(bob), *names()}
    with pytest.raises(UsageError, match="Unknown target ann"):
        target("ann", bob)
    assert target("ann", ann).workspace is ann


def test_two_threads_submit_observe_list_and_cancel_side_by_side(two: tuple[Workspace, Workspace]):
    def live(workspace: Workspace) -> list[str]:
        run = start(workspace, FOREVER)
        until(lambda: run.logs() == "on\n")
        (listed,) = Runs(workspace).observed()
        before = listed.state
        assert Runs(workspace)[run.id].cancel().state == "cancelled"
        return [before, run.state, run.id]

    (first, ended, mine), (second, also_ended, yours) = at_once(live, two)
    assert (first, ended, second, also_ended) == ("running", "cancelled", "running", "cancelled")
    assert mine != yours


def test_the_runs_of_two_workspaces_are_observed_together(two: tuple[Workspace, Workspace]):
    from mlnb.api.read.state import observe

    started = [start(workspace, "x = 1") for workspace in two]
    for run in started:
        run.wait(60)
    again = [Run(run.directory, run.workspace) for run in started]
    assert [observed.state for observed in observe([run.observable for run in again])] == ["succeeded", "succeeded"]


@pytest.mark.slow
def test_a_program_in_a_run_finds_the_workspace_of_the_run(two: tuple[Workspace, Workspace]):
    script = "import json, os\nprint(json.dumps([os.environ['MLNB_RUNS'], os.environ['MLNB_RUNTIME']]))"
    for workspace in two:
        run = start(workspace, script).wait(60)
        assert json.loads(run.logs()) == [str(workspace.root), str(workspace.runtime)]


def test_the_server_s_managers_serve_their_own(two: tuple[Workspace, Workspace]):
    started = [start(workspace, "x = 1").wait(60) for workspace in two]
    managers = [Manager(workspace) for workspace in two]
    for manager, mine, yours in zip(managers, started, reversed(started), strict=True):
        assert [(listed["id"], listed["state"]) for listed in manager.list_runs()] == [(mine.id, "succeeded")]
        assert manager.summary_of(mine.id)["state"] == "succeeded"
        assert manager.list_runs([yours.id]) == []
        with pytest.raises(UsageError, match="No run with id"):
            manager.cancel(yours.id)


def test_jobs_have_the_jobqueue_section_of_their_own_workspace(two: tuple[Workspace, Workspace]):
    def previews(workspace: Workspace) -> list[str]:
        destination = target(f"{default_name(workspace)}-batch", workspace)
        offer = destination.offer(Resources(time=600), Placement("x"))
        return [destination.preview(RunDir(Path("/RUN")), offer) for _ in range(20)]

    jobqueue_adapter.load_class("pbs:PBSJob")  # brings its own defaults into the configuration
    with dask.config.set({"jobqueue.pbs.queue": "nowhere", "jobqueue.pbs.job-extra-directives": ["-A nobody"]}):
        shorts, longs = at_once(previews, two)
        assert dask.config.get("jobqueue.pbs.queue") == "nowhere"
    for texts, queue in ((shorts, "short"), (longs, "long")):
        for text in texts:
            assert f"#PBS -q {queue}\n" in text
            assert f"#PBS -A {queue}\n" in text
            assert "nobody" not in text
    assert not [name for name in dask.config.get("jobqueue") if name.startswith("mlnb")]


def test_the_workspace_of_the_process_is_what_its_environment_and_configuration_say_now(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    before = Workspace.of_process()
    with dask.config.set({"mlnb": {"target": "other"}}):
        assert default_name(before) == default_name(Workspace.of_process()) == "other"
    assert default_name(before) == "local"
    assert Workspace.of_process() == before
    assert hash(Workspace.of_process()) == hash(before)
    monkeypatch.setenv("MLNB_RUNS", str(tmp_path / "elsewhere"))
    assert Workspace.of_process().root == tmp_path / "elsewhere" == runs.index.root
    assert before.root != Workspace.of_process().root


def test_it_can_be_sent_to_another_process(two: tuple[Workspace, Workspace]):
    for workspace in two:
        assert Workspace.from_json(json.loads(json.dumps(workspace.to_json()))) == workspace
    with dask.config.set({"mlnb": {"target": "other"}}):
        sent = Workspace.from_json(json.loads(json.dumps(Workspace.of_process().to_json())))
    assert default_name(sent) == "other"
    assert set(sent.config) <= {"mlnb", "jobqueue"}


def test_a_configuration_may_hold_secrets_and_is_not_shown(two: tuple[Workspace, Workspace]):
    assert "short" not in repr(two[0])


@pytest.mark.parametrize("config", [{"mlnb": 7}, {"mlnb": {"targets": 7}}, {"mlnb": {"targets": {"a": 7}}}])
def test_what_is_no_mapping_is_refused_in_one_line(config: dict[str, Any], tmp_path: Path):
    with pytest.raises(UsageError, match="must be a mapping"):
        names(Workspace(tmp_path, tmp_path, config))


def test_only_the_outermost_calls_mean_this_process():
    """All other functions get the workspace as an argument."""
    import mlnb

    root = Path(mlnb.__file__).parent
    users = {str(path.relative_to(root)) for path in root.rglob("*.py") if "of_process()" in path.read_text()}
    commands = {"cli/__init__.py", "cli/pool.py", "notebook/__init__.py", "server/__init__.py"}
    assert users == {"api/__init__.py", "api/run.py", "api/pools.py", "targets/registry.py", *commands}
    read = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        if any(text in path.read_text() for text in ('"MLNB_RUNS"', '"MLNB_RUNTIME"', "dask.config.get"))
    }
    assert read <= {
        "workspace.py",
        "errors.py",
        "rundir.py",
        "targets/batch/submission/job.py",
        "node/process/local_queue.py",
    }
