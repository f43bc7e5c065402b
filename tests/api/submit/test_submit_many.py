"""Many runs at once: all of them are started, or none is left."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from mlnb.api import Run, runs
from mlnb.api.submit.submit import Submission, submit_many
from mlnb.errors import MlnbError, StorageError
from mlnb.rundir import RunDir
from mlnb.targets.base import SubmissionUnknown
from mlnb.targets.local import Local
from mlnb.task import Resources, Task
from mlnb.workspace import Workspace


def trials(count: int) -> list[Submission]:
    script = "import mlnb, os\nmlnb.log(x=float(os.environ['X']))"
    return [
        Submission(Task(script=script, params={"x": number}, sweep="s1"), {}, f"trial-{number}", {"X": str(number)})
        for number in range(count)
    ]


class Arrays(Local):
    """A target with a request for many jobs; what it is asked is kept in ``requests``."""

    requests: list[int]

    def submit(self, run: RunDir, env: Mapping[str, str]) -> dict[str, Any]:
        raise AssertionError("many runs are one request")

    def submit_many(self, runs: Sequence[RunDir], envs: Sequence[Mapping[str, str]]) -> list[dict[str, Any]]:
        self.requests = [*getattr(self, "requests", ()), len(runs)]
        return [Local.submit(self, run, env) for run, env in zip(runs, envs, strict=True)]


@pytest.mark.parametrize("kind", [Local, Arrays])
def test_each_run_has_its_own_parameters_and_name(kind: type[Local]):
    target = kind("local", {}, Workspace.of_process())
    submitted = [Run(one) for one in submit_many(trials(3), target, target.offer(Resources(cpus=1)))]
    for number, run in enumerate(submitted):
        assert run.wait(60).state == "succeeded", run.logs()
        assert run.name == f"trial-{number}"
        assert list(run.series()["x"].value) == [number]
        assert run.task.params == {"x": number}
        assert run.task.sweep == "s1"
    assert getattr(target, "requests", [3]) == [3]


class Refusing(Local):
    """Takes two jobs, and no third."""

    taken = 0

    def submit(self, run: RunDir, env: Mapping[str, str]) -> dict[str, Any]:
        if self.taken == 2:
            raise self.error
        self.taken += 1
        return super().submit(run, env)

    error: BaseException = MlnbError("no third")


@pytest.mark.parametrize("error", [MlnbError("no third"), KeyboardInterrupt()])
def test_if_one_is_refused_none_runs_and_nothing_is_left(
    runs_root: Path, error: BaseException, monkeypatch: pytest.MonkeyPatch
):
    ended: list[str] = []
    cancel = Local.cancel

    def noted(self: Local, run: RunDir) -> bool:
        ended.append(run.path.name)
        return cancel(self, run)

    monkeypatch.setattr(Local, "cancel", noted)
    target = Refusing("local", {}, Workspace.of_process())
    target.error = error
    with pytest.raises(type(error)):
        submit_many(trials(3), target, target.offer(Resources(cpus=1)))
    assert len(ended) == (2 if isinstance(error, MlnbError) else 3)  # one that was interrupted may have begun
    assert [path.name for path in runs_root.iterdir() if path.name[0] != "."] == []
    assert len(runs) == 0


def test_a_job_without_an_answer_holds_up_no_other():
    target = Refusing("local", {}, Workspace.of_process())
    target.error = SubmissionUnknown("no answer")
    found = submit_many(trials(3), target, target.offer(Resources(cpus=1)))
    assert [run.handle.exists() for run in found] == [True, True, False]
    for run in found[:2]:
        assert Run(run).wait(60).state == "succeeded"


def test_a_run_that_can_not_be_written_takes_the_others_along(runs_root: Path, monkeypatch: pytest.MonkeyPatch):
    write = RunDir.script.fget
    assert write is not None
    made: list[Path] = []

    def full(self: RunDir) -> Path:
        made.append(self.path)
        if len(made) == 2:
            raise OSError(28, "No space left on device")
        return Path(write(self))

    monkeypatch.setattr(RunDir, "script", property(full))
    target = Local("local", {}, Workspace.of_process())
    with pytest.raises(StorageError):
        submit_many(trials(3), target, target.offer(Resources(cpus=1)))
    assert [path for path in runs_root.iterdir() if path.name not in (".store", ".index")] == []


def test_a_task_of_no_sweep_has_the_identity_that_it_had_before_there_were_sweeps():
    task = Task(script="1")
    assert "params" not in task.to_json()
    assert "sweep" not in task.to_json()
    assert Task(script="1", params={"lr": 0.1}).digest != task.digest
    assert Task.from_json(Task(script="1", params={"lr": 0.1}, sweep="s").to_json()).params == {"lr": 0.1}
