"""Runs in real images that have torch and not mlnb, by the engines that this machine can have."""

from __future__ import annotations

import ast
import hashlib
import os
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlnb.api import Run
from mlnb.api.submit.submit import submit
from mlnb.node import requirements
from mlnb.node.process.identity import signal_group
from mlnb.rundir import RunDir, read_json
from mlnb.runinfo import NodeSettings
from mlnb.targets import containers
from mlnb.targets.base import Offer
from mlnb.targets.containers import Wrapped
from mlnb.task import Resources, Task
from mlnb.workspace import Workspace
from tests.testbeds import image as testbed
from tests.waiting import until

pytestmark = pytest.mark.cluster

ODD = 'it\'s "odd" $(touch gone) `x` ;& *'
SECRET = "s3cr3t $(echo no) 'quoted' \"twice\" \\ $HOME é"


@pytest.fixture(scope="session")
def images() -> None:
    if (reason := testbed.why_not()) is not None:
        pytest.skip(reason)
    if not testbed.built():
        pytest.skip("no images of this Python and torch: make container-image")


class Place:
    """A target that leaves the start to the test."""

    name = "here"
    mirror = None

    @property
    def workspace(self) -> Workspace:
        return Workspace.of_process()

    def submit(self, run: RunDir, env: dict[str, str]) -> dict[str, Any]:
        return {"target": self.name}

    def cancel(self, run: RunDir) -> bool:
        return True


class Inside:
    """Starts runs in the images of one engine, by a script as a batch job's is."""

    def __init__(self, engine: str, folder: Path) -> None:
        self.name, self.folder = engine, folder
        self.jobs: list[subprocess.Popen[bytes]] = []
        self.afters: list[str] = []

    def image(self, torch: bool) -> str:
        if self.name == "podman":
            return testbed.TORCH if torch else testbed.BARE
        return str(testbed.folder(torch))

    def contained(self, torch: bool = True) -> containers.Contained:
        return containers.for_target(self.image(torch), {"container": {"engine": self.name}}, Workspace.of_process())

    def written(self, script: str, env: dict[str, str] | None = None, outputs: tuple[str, ...] = ()) -> RunDir:
        offer = Offer(Resources(), (), NodeSettings(threads=1, grace=5.0))
        task = Task(script=script, seed=0, outputs=outputs)
        return submit(task, {}, Place(), offer, name="test", env=env or {})  # type: ignore[arg-type]

    def start(self, run: RunDir, env: dict[str, str] | None = None, *, torch: bool = True) -> subprocess.Popen[bytes]:
        wrapped = self.wrapped(run, env or {}, torch)
        self.afters += wrapped.after
        lines = [
            *wrapped.before,
            f"{shlex.join(wrapped.command)} &",
            "node=$!; trap 'kill -TERM $node' TERM",
            "while wait $node; code=$?; kill -0 $node 2>/dev/null; do :; done",
            *wrapped.after,
            "exit $code",
        ]
        script = self.folder / "job.sh"
        script.write_text("\n".join(lines) + "\n")
        with (self.folder / "job.log").open("ab") as log:
            job = subprocess.Popen(
                ["/bin/sh", str(script)],
                env={**os.environ, "SLURM_JOB_ID": "77", **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self.jobs.append(job)
        return job

    def wrapped(self, run: RunDir, env: dict[str, str], torch: bool = True) -> Wrapped:
        return self.contained(torch).wrap(["-m", "mlnb.node", str(run.path)], run, Resources(memory=2**31), env)

    def log(self) -> str:
        return (self.folder / "job.log").read_text()

    def left(self, run: RunDir) -> list[str]:
        """What is left of a run: processes that name it, containers."""
        found = [line for line in command_lines() if run.path.name in line]
        return found + (containers_of(run) if self.name == "podman" else [])

    def close(self) -> None:
        for job in self.jobs:
            if job.poll() is None:
                signal_group(job.pid, signal.SIGKILL)
                job.wait()
        subprocess.run(["/bin/sh", "-c", "\n".join(self.afters)], check=True, timeout=60)


def containers_of(run: RunDir) -> list[str]:
    """The ids of a run's containers in podman's store."""
    command = ["podman", "ps", "-aq", "--filter", f"label=mlnb.run=mlnb-{run.path.name}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:  # it has ended
            continue


@pytest.fixture(params=["charliecloud", "podman"])
def engine(
    request: pytest.FixtureRequest, images: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Inside]:
    for name, value in testbed.podman_environment().items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / ODD.replace("/", "")
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("MLNB_RUNS", str(folder / "the runs"))
    started = Inside(request.param, folder)
    yield started
    started.close()


def test_a_run_comes_back_from_an_image_without_mlnb(engine: Inside):
    script = """
import hashlib, os, sys, torch, mlnb
model = torch.nn.Linear(2, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(3):
    optimizer.zero_grad()
    model(torch.ones(4, 2)).pow(2).mean().backward()
    optimizer.step()
mlnb.log(value=7)
open("written", "w").write("here")
answer = torch.tensor([1.0, 2.0])
print(hashlib.sha256(os.environ["MY_TOKEN"].encode()).hexdigest())
print(os.environ["SLURM_JOB_ID"], os.path.dirname(mlnb.__file__).endswith("mlnb.zip/mlnb"))
print(sys.executable, "VIRTUAL_ENV" in os.environ)
"""
    env = {"MY_TOKEN": SECRET}
    directory = engine.written(script, env, outputs=("answer",))
    job = engine.start(directory, env)
    seen: list[str] = []
    until(lambda: seen.extend(command_lines()) or job.poll() is not None)  # type: ignore[func-returns-value]
    run = Run(directory)
    assert run.state == "succeeded", (run.reason, engine.log(), run.logs())
    assert job.returncode == 0
    assert list(run.series()["value"].value) == [7.0]
    assert len(run.series()["loss"].value) == 3
    assert run.logs(0, "out").splitlines() == [
        hashlib.sha256(SECRET.encode()).hexdigest(),
        "77 True",
        "/usr/bin/python3 False",
    ]
    assert any(directory.outputs.iterdir())
    assert Path("written").read_text() == "here"  # in the folder of the cell
    assert not Path("gone").exists()
    # the value was nowhere but in the environment
    mark = SECRET.split()[0]
    assert not [line for line in seen if mark in line]
    files = [path for path in engine.folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert not [path for path in files if mark.encode() in path.read_bytes()]
    assert engine.left(directory) == []


def running(engine: Inside) -> tuple[RunDir, subprocess.Popen[bytes]]:
    directory = engine.written("import time\nprint('on', flush=True)\ntime.sleep(600)")
    job = engine.start(directory)
    out = directory.attempt(1).stdout(0)
    until(lambda: job.poll() is not None or (out.exists() and out.read_text()))
    assert job.poll() is None, engine.log()
    return directory, job


def test_told_to_end_it_ends_and_leaves_nothing(engine: Inside):
    directory, job = running(engine)
    job.send_signal(signal.SIGTERM)
    job.wait(60)
    result = read_json(directory.result)
    assert result is not None, engine.log()
    assert result["state"] == "failed"
    assert result["reason"] == "Stopped by the system, not through mlnb"
    assert any("SIGTERM was received" in note for note in result["notes"])
    until(lambda: not engine.left(directory))


def test_killed_it_is_taken_away(engine: Inside):
    directory, job = running(engine)
    signal_group(job.pid, signal.SIGKILL)  # the script, its shell and the engine, as at the end of KillWait
    job.wait(60)
    until(lambda: not engine.left(directory))


def test_it_is_taken_away_too_where_the_client_lives_on(engine: Inside):
    if engine.name != "podman":
        pytest.skip("there is no client: ch-run becomes the command")
    directory, job = running(engine)
    members = [psutil.Process(job.pid), *psutil.Process(job.pid).children(recursive=True)]
    shells = [one for one in members if one.name() == "sh"]
    assert len(shells) == 2
    for one in shells:
        one.kill()
    until(lambda: not engine.left(directory))


def test_a_client_that_dies_takes_its_container_along(engine: Inside):
    if engine.name != "podman":
        pytest.skip("there is no client: ch-run becomes the command")
    directory, job = running(engine)
    mine = [
        int(path.parent.name)
        for path in Path("/proc").glob("[0-9]*/cmdline")
        if path.read_bytes().startswith(b"podman\0run\0") and directory.path.name.encode() in path.read_bytes()
    ]
    assert len(mine) == 1
    os.kill(mine[0], signal.SIGKILL)
    assert job.wait(60) == 137
    until(lambda: not engine.left(directory))


def test_an_image_without_torch_says_so(engine: Inside):
    directory = engine.written("print('never')")
    job = engine.start(directory, torch=False)
    assert job.wait(60) == 1
    run = Run(directory)
    assert run.state == "failed", engine.log()
    assert run.reason.startswith(f"the image {engine.image(False)} has no torch")
    assert "has no torch" in engine.log()


def test_an_image_is_looked_into_once(engine: Inside, runtime: Path):
    for torch in (True, False):
        found = containers.inspect(engine.contained(torch).engine, Workspace.of_process())
        assert found is not None
        assert found["python"].startswith("3.")  # type: ignore[union-attr]
        assert (found["torch"] is not None) == torch
        before = {path: path.stat().st_mtime_ns for path in runtime.glob("image-*.json")}
        assert containers.inspect(engine.contained(torch).engine, Workspace.of_process()) == found
        assert {path: path.stat().st_mtime_ns for path in runtime.glob("image-*.json")} == before
    assert engine.contained().differences() == []


def test_an_image_that_there_is_not_is_not_looked_into(engine: Inside):
    missing = "nothing/there:1" if engine.name == "podman" else "/nothing/there"
    contained = containers.for_target(missing, {"container": {"engine": engine.name}}, Workspace.of_process())
    assert containers.inspect(contained.engine, Workspace.of_process()) is None
    assert "not checked" in contained.differences()[0]


# a Python that is too old


@pytest.mark.parametrize(
    "name", ["__init__.py", "version.py", "node/__init__.py", "node/__main__.py", "node/requirements.py"]
)
def test_an_old_python_can_read_what_tells_it_so(name: str):
    import mlnb

    text = (Path(mlnb.__file__).parent / name).read_text()
    tree = ast.parse(text, feature_version=(3, 6))
    assert "__future__" not in {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    top = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
    assert not [module for module in top if module.startswith("mlnb.") and module not in ("mlnb.node", "mlnb.version")]


def test_a_python_that_is_too_old_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    assert requirements.missing() is None
    monkeypatch.setenv("MLNB_IMAGE", "old/image")
    reason = requirements.missing((3, 6, 8))
    assert reason is not None
    assert "the image old/image has Python 3.6.8" in reason
    assert requirements.refuse(reason, tmp_path, 1, 2) == 1
    assert not (tmp_path / "result.json").exists()
    assert requirements.refuse(reason, tmp_path, 0, 2) == 1
    result = read_json(tmp_path / "result.json") or {}
    assert (result["state"], result["reason"], result["attempt"]) == ("failed", reason, 2)
