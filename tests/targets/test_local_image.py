"""``--image`` on the local target: which images are refused, what the plan says, and the command of each engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mlnb.errors import UsageError
from mlnb.node import container_start
from mlnb.node.process.local_queue import LocalQueue
from mlnb.rundir import RunDir, write_json
from mlnb.runinfo import NodeSettings, RunInfo
from mlnb.targets import local, local_container
from mlnb.targets.base import Placement
from mlnb.targets.containers.images import absolute
from mlnb.targets.local import Local
from mlnb.task import Resources, Task
from mlnb.workspace import Workspace
from tests.waiting import until

NAMES = {"apptainer": "apptainer", "charliecloud": "ch-run", "docker": "docker", "enroot": "enroot", "podman": "podman"}
PRINTS = r"""#!/bin/sh
case $1 in ps | rm) exit ;; esac
printf '%s\n' "$0" "$@" "CVD=$CUDA_VISIBLE_DEVICES" "KEY=$KEY" >"$PRINTED"
"""


@pytest.fixture
def engines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """All engines are installed, and write what they are called with into the file ``printed``."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for program in NAMES.values():
        (folder / program).write_text(PRINTS)
        (folder / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.setenv("PRINTED", str(tmp_path / "printed"))
    monkeypatch.setattr("mlnb.targets.containers.contained.inspect", lambda *_: None)
    return folder


@pytest.fixture
def images(tmp_path: Path) -> dict[str, str]:
    """An image for each engine."""
    (tmp_path / "torch.sif").touch()
    (tmp_path / "torch.sqsh").touch()
    (tmp_path / "root" / "tmp").mkdir(parents=True)
    found = {"apptainer": "torch.sif", "enroot": "torch.sqsh", "charliecloud": "root"}
    return {"podman": "torch:1", "docker": "torch:1"} | {k: str(tmp_path / v) for k, v in found.items()}


def refusal(settings: dict[str, object], image: str | None = None) -> str:
    with pytest.raises(UsageError) as caught:
        Local("local", settings, Workspace.of_process()).offer(Resources(), Placement(options={"image": image}))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_an_image_file_may_be_named_as_the_shell_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/me")
    assert absolute("torch.sif") == str(tmp_path / "torch.sif")
    assert absolute("./root") == str(tmp_path / "root")
    assert absolute("~/torch.sqsh") == "/home/me/torch.sqsh"
    for name in ("torch", "ml/torch:2.4", "docker://torch.sif", "/images/torch.sif"):
        assert absolute(name) == name


def test_what_this_machine_can_not_run_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr("shutil.which", lambda program: None)
    assert refusal({}, "/images/torch.sif") == "--image /images/torch.sif: apptainer is not installed on this machine"
    assert "needs podman or docker, and this machine has none of them" in refusal({}, "torch")
    pyxis = {"container": {"engine": "pyxis"}}
    assert refusal(pyxis, "torch") == "container.engine pyxis: it works with slurm, not with local"
    monkeypatch.setattr("shutil.which", lambda program: f"/bin/{program}")
    assert refusal({"image": "/no/torch.sif"}) == "--image /no/torch.sif: there is no such file or folder"
    never = {"container": {"engine": "docker", "command": "false"}}
    assert refusal(never, "torch") == "--image torch: docker has no such image here. Run: false pull torch"
    assert "this target allows torch:2*" in refusal({"container": {"images": ["torch:2*"]}}, "other")


@pytest.mark.parametrize("engine", NAMES)
def test_the_plan_and_the_run_name_the_image(engine: str, engines: Path, images: dict[str, str]):
    target = Local("local", {"container": {"engine": engine, "pull": "missing"}}, Workspace.of_process())
    offer = target.offer(Resources(), Placement(options={"image": images[engine]}))
    assert f"in the image {images[engine]} ({engine})" in offer.summary_lines
    assert "no warm start: the run imports torch in the image" in offer.summary_lines
    assert offer.placement["image"] == images[engine]
    assert offer.node.queued_outside  # else it is what the node program would wait for
    assert offer.node.queue["cpus"] >= 1
    cold = Local("local", {"warm": False, "container": {"engine": engine, "pull": "missing"}}, Workspace.of_process())
    assert not [
        line
        for line in cold.offer(Resources(), Placement(options={"image": images[engine]})).summary_lines
        if "warm" in line
    ]


def submitted(tmp_path: Path, image: str, *, gpus: int = 0) -> RunDir:
    """A run directory as submission writes it, on a machine with the GPUs 4 and 5."""
    run = RunDir(tmp_path / "runs" / "a-run")
    run.attempt(1).path.mkdir(parents=True)
    slots = {"folder": str(tmp_path), "cpus": 1, "gpus": gpus, "cpus_total": 1, "gpus_total": ["4", "5"]}
    node = NodeSettings(queue=slots, queued_outside=True)
    RunInfo("a-run", "gan", cwd=str(tmp_path), node=node, placement={"image": image}).write(run)
    write_json(run.task, Task(script="", resources=Resources(1, 1, gpus, 1, 2**30)).to_json())
    return run


@pytest.mark.parametrize("engine", NAMES)
def test_each_engine_starts_the_node_program_with_the_gpus_that_the_queue_grants(
    engine: str, engines: Path, images: dict[str, str], tmp_path: Path
):
    run = submitted(tmp_path, images[engine], gpus=1)
    settings = {"container": {"engine": engine, "pull": "missing"}}
    container = local_container.container_for(images[engine], settings, Workspace.of_process())
    assert container is not None
    command = local_container.command_for(run, container, 2, {"KEY": "secret"})
    assert command[:3] == [sys.executable, "-m", "mlnb.node.container_start"]
    assert "secret" not in " ".join(command)
    env = {**os.environ, **local_container.environment_for(container, {"KEY": "secret"})}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    got = (tmp_path / "printed").read_text().splitlines()
    assert got[0] == str(engines / NAMES[engine])
    assert images[engine] in got
    assert got[-7:-2] == ["-m", "mlnb.node", str(run.path), "--attempt", "2"]
    # podman and docker show the container that GPU alone, which is the first there; the others show all
    passed = {"podman": "--device=nvidia.com/gpu=4", "docker": '--gpus="device=4"'}.get(engine)
    assert passed is None or passed in got
    assert got[-2:] == [f"CVD={4 if passed is None else 0}", "KEY=secret"]


def test_a_run_waits_on_the_host_and_keeps_its_place_as_the_engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = submitted(tmp_path, "torch")
    monkeypatch.setenv("MARK", str(tmp_path / "began"))
    queue = LocalQueue(tmp_path, 1, ("4", "5"))
    queue.take_over("other", 1, 0)
    assert queue.acquire("other") == ()
    engine = ["sh", "-c", 'touch "$MARK"; sleep 60']
    starter = [sys.executable, "-m", "mlnb.node.container_start", str(run.path), "--attempt", "1", "--"]
    process = subprocess.Popen([*starter, *engine])
    try:
        until(run.attempt(1).heartbeat(0).exists)
        assert not (tmp_path / "began").exists()
        assert queue.waiting_for("a-run") == (0, ["other"])
        queue.release("other")
        until((tmp_path / "began").exists)
        rows = json.loads((tmp_path / "slots.json").read_text())
        assert [(row["run"], row["pid"], row["granted"]) for row in rows] == [("a-run", process.pid, True)]
    finally:
        process.kill()
        process.wait()
    assert LocalQueue(tmp_path, 1).available()[0] == 1


def test_a_run_that_is_cancelled_while_it_waits_never_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = submitted(tmp_path, "torch")
    write_json(run.cancel, {"by": "me"})
    monkeypatch.setattr("sys.argv", ["container_start", str(run.path), "--attempt", "1", "--", "false"])
    assert container_start.main() == 1
    assert LocalQueue(tmp_path, 1).waiting_for("a-run") is None


def test_a_run_that_waits_says_for_what_and_how_it_could_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    run = submitted(tmp_path, "torch")
    monkeypatch.setattr(LocalQueue, "available", lambda self: (1, ["4"]))
    slots = {"folder": str(tmp_path), "cpus": 4, "gpus": 0, "cpus_total": 4, "gpus_total": ["4"]}
    reason = local._waiting_reason(run, slots, 0, ["a-run"])
    assert reason == "Waiting for CPU cores; gan is using them. It could start now with --cpus 1"
    assert local._waiting_reason(run, {**slots, "gpus": 2}, 0, []) == "Waiting for CPU cores and GPUs"
    assert local._waiting_reason(run, slots, 2, ["a-run"]) == "Waiting for its turn: 2 runs ahead; gan is running"
