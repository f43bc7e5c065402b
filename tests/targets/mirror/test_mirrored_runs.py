"""Runs whose directory is elsewhere: all that is read of them is brought here, and nothing unsigned is loaded."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import pytest

from mlnb.api import Run, runs
from mlnb.api.results.session import SessionLink
from mlnb.api.submit.submit import resume, submit
from mlnb.capture import Session, capture
from mlnb.errors import MlnbError, NotTrusted
from mlnb.rundir import read_json
from mlnb.targets.registry import target
from mlnb.task import Resources, Task
from tests.conftest import Start
from tests.targets import mirrored_local
from tests.waiting import until

EPOCHS = """
import mlnb, torch, time, pathlib
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in mlnb.epochs(3, model=model, optimizer=optimizer):
    model(torch.ones(4, 2)).mean().backward()
    optimizer.step()
    if epoch == 1 and GATE:
        while not pathlib.Path(GATE).exists():
            time.sleep(0.02)
"""


def test_what_a_hidden_job_writes_is_read_here(hidden: Path, start: Start, runs_root: Path):
    script = f"import mlnb, os\nmlnb.log(x=3.0)\nprint(os.path.exists({str(runs_root / '.store')!r}))\n1 / 0"
    run = start(script).wait(60)
    assert run.state == "failed"
    assert run.logs(0, "out") == "False\n"
    assert "ZeroDivisionError" in run.logs(0, "err")
    assert list(run.series()["x"].value) == [3.0]
    assert "ZeroDivisionError" in run.reason
    assert (hidden / run.id / "result.json").exists()


def test_it_is_read_while_it_is_written(hidden: Path, start: Start):
    run = start("import mlnb, time\nfor i in range(2000): mlnb.log(x=i); print(i, flush=True); time.sleep(0.05)")
    until(lambda: "x" in run.series() and len(run.series()["x"].value) > 3)
    assert run.state == "running"
    seen = len(run.logs())
    until(lambda: run.observe() is not None and len(run.logs()) > seen)


def test_a_cancel_reaches_a_job_that_does_not_see_the_sessions_disk(hidden: Path, start: Start):
    run = start("import time\ntry:\n    time.sleep(600)\nfinally:\n    print('ended', flush=True)")
    until(lambda: run.state == "running")
    run.cancel()
    assert run.state == "cancelled"
    assert read_json(hidden / run.id / "cancel.json")


def session_run(cell: str, namespace: dict[str, object]) -> Run:
    captured = capture(cell, Session(namespace, {}, ["", cell], Path.cwd()))
    place = target()
    offer = place.offer(Resources())
    task = Task(
        script=captured.script,
        segments=captured.segments,
        outputs=captured.outputs,
        deletes=captured.deletes,
        inputs=captured.inputs,
        interactive=True,
    )
    run = runs.add(Run(submit(task, captured.hashed_contents(), place, offer, name="session", env={})))
    run.attach(SessionLink(captured.labels, captured.bindings))
    return run


def test_a_sessions_data_go_there_and_results_come_back_in_place(hidden: Path):
    import torch

    model = torch.nn.Linear(3, 1)
    weight = model.weight
    namespace: dict[str, object] = {"torch": torch, "model": model, "__name__": "__main__"}
    run = session_run(
        "with torch.no_grad():\n    model.weight.fill_(7)\nanswer = {'sum': model.weight.sum().item()}", namespace
    )
    assert run.wait(60).state == "succeeded", run.logs()
    run.deliver(namespace)
    assert namespace["answer"] == {"sum": 21.0}
    assert weight is model.weight
    assert weight.sum() == 21.0


def test_inputs_that_were_changed_on_the_way_are_not_loaded(hidden: Path, monkeypatch: pytest.MonkeyPatch):
    def tampered(run: object, env: object) -> object:
        for path in (hidden / run.path.name / "inputs").glob("*.pickle"):  # type: ignore[attr-defined]
            path.write_bytes(path.read_bytes() + b" ")
        return original(place, run, env)

    original = mirrored_local.MirroredLocal.submit
    place = target()
    monkeypatch.setattr(mirrored_local.MirroredLocal, "submit", lambda self, run, env: tampered(run, env))
    run = session_run("y = x + [1]", {"x": [object, 1, [2] * 3], "__name__": "__main__"})
    assert run.wait(60).state == "failed"
    assert "NotTrusted" in run.logs()


@pytest.mark.parametrize("what", ["content", "list", "unlisted", "unsigned"])
def test_results_that_another_has_written_are_not_loaded(elsewhere: Path, start: Start, what: str):
    run = start("weights = [1, 2]", outputs=("weights",)).wait(60)
    folder = elsewhere / run.id / "outputs"
    listed = json.loads((folder / "manifest.json").read_text())
    if what == "content":
        (folder / "session.pickle").write_bytes(b"cos\nsystem\n(S'touch /tmp/owned'\ntR.")
    elif what == "list":
        listed["files"]["session.pickle"]["sha256"] = "0" * 64
        (folder / "manifest.json").write_text(json.dumps(listed))
    elif what == "unlisted":
        del listed["files"]["session.pickle"]
        (folder / "manifest.json").write_text(json.dumps(listed))
    else:
        (folder / "manifest.json").unlink()
    with pytest.raises(NotTrusted) as caught:
        run.pull(bind=False)
    assert "\n" not in str(caught.value)
    assert not (run.directory.outputs / "session.pickle").exists()


def test_results_that_were_brought_need_the_other_end_no_more(elsewhere: Path, start: Start):
    run = start("weights = [1, 2]", outputs=("weights",)).wait(60)
    assert run.pull(bind=False)["weights"] == [1, 2]
    shutil.rmtree(elsewhere)
    again = Run(run.directory)
    assert again.state == "succeeded"
    assert again.pull(bind=False)["weights"] == [1, 2]


def test_checkpoints_come_while_it_runs_and_a_resumed_run_goes_on_from_them(
    elsewhere: Path, start: Start, tmp_path: Path
):
    gate = tmp_path / "gate"
    run = start(f"GATE = {str(gate)!r}\n{EPOCHS}")
    until(lambda: [path.name for path in run.checkpoints()] == ["epoch-000001.pt"])
    run.cancel()
    assert run.state == "cancelled"
    gate.touch()
    resume(run.directory, target(), {})
    assert run.wait(60).state == "succeeded", run.logs()
    assert run.attempts == 2
    assert [path.name for path in run.checkpoints()] == ["epoch-000002.pt", "epoch-000003.pt"]
    assert list(run.series()["loss"].step) == [1, 2, 3]


def test_a_run_goes_on_from_another_runs_checkpoint(hidden: Path, start: Start, tmp_path: Path):
    (tmp_path / "gate").touch()
    first = start(f"GATE = {str(tmp_path / 'gate')!r}\n{EPOCHS}").wait(60)
    assert first.checkpoints()
    place = target()
    task = Task(script=f"GATE = ''\n{EPOCHS.replace('epochs(3', 'epochs(5')}", seed=0)
    about = {"resume": str(first.directory.checkpoints)}
    run = Run(submit(task, {}, place, place.offer(Resources()), name="more", env={}, info_fields=about))
    assert run.wait(60).state == "succeeded", run.logs()
    assert len(run.series()["loss"].step) == 2


def test_several_ranks_sign_what_each_has_written(elsewhere: Path, start: Start, tmp_path: Path):
    (tmp_path / "gate").touch()
    run = start(f"GATE = {str(tmp_path / 'gate')!r}\n{EPOCHS}", ranks=2, parallel="none").wait(90)
    assert run.state == "succeeded", run.logs()
    names = {path.name for path in run.checkpoints()}
    assert {f"{name.removesuffix('.pt')}.rank-1.pt" for name in names} <= {
        path.name for path in run.directory.checkpoints.iterdir()
    }


def test_pictures_come_when_they_are_asked_for(elsewhere: Path, start: Start):
    run = start("import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()").wait(60)
    assert [path.suffix for path in run.figures()] == [".png"]


def test_what_can_not_be_sent_is_not_submitted(
    elsewhere: Path, start: Start, monkeypatch: pytest.MonkeyPatch, runs_root: Path
):
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("mlnb.targets.mirror.folder.FolderTransport.write", full)
    with pytest.raises(MlnbError, match="can't be sent to its target: No space left on device"):
        start("1")
    assert [path for path in runs_root.iterdir() if path.name != ".store"] == []
    assert not elsewhere.exists() or list(elsewhere.iterdir()) == []


def test_a_target_that_does_not_answer_makes_no_run_lost(
    elsewhere: Path, start: Start, monkeypatch: pytest.MonkeyPatch
):
    run = start("import time\ntime.sleep(600)")
    until(lambda: run.state == "running")

    def silent(*_: object) -> None:
        raise TimeoutError(110, "Connection timed out")

    with monkeypatch.context() as patched:
        patched.setattr("mlnb.targets.mirror.folder.FolderTransport.listing", silent)
        time.sleep(0.1)
        assert run.state in ("running", "pending", "starting")
        assert "does not answer" in run.observe().reason or run.state == "running"
    run.cancel()


def test_a_removed_run_is_removed_there_too(elsewhere: Path, start: Start):
    run = start("1").wait(60)
    assert (elsewhere / run.id).exists()
    run.remove()
    assert not (elsewhere / run.id).exists()


def test_the_key_stays_here_and_stands_in_no_file_there(elsewhere: Path, start: Start):
    run = start("1").wait(60)
    key = run.directory.read_key()
    assert len(key) == 64
    assert run.directory.key.stat().st_mode & 0o777 == 0o600
    found = [path for path in (elsewhere / run.id).rglob("*") if path.is_file() and key.encode() in path.read_bytes()]
    assert found == []


def test_relative_paths_are_in_the_run_directory_where_the_sessions_folder_is_not(
    hidden: Path, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("mlnb.api.submit.submit.Path.cwd", lambda: tmp_path / "never")
    run = start("import os\nopen('here.txt', 'w').close()\nprint(os.getcwd())").wait(60)
    assert (hidden / run.id / "here.txt").exists()
    assert run.result is not None
    assert any("never isn't on the run's machine" in note for note in run.result["notes"])
