"""The local target: what it offers, refuses and hands on to a run."""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import dask.config
import pytest

from mlnb import rundir
from mlnb.errors import StorageError, UsageError
from mlnb.node.process.identity import is_alive, process_identity, send_signal, wait_for_exit
from mlnb.rundir import read_json, read_lines
from mlnb.targets import local, registry, warm
from mlnb.targets.environment import run_environment
from mlnb.targets.local import Local, cores
from mlnb.targets.node_zip import node_zip
from mlnb.targets.registry import names, target
from mlnb.task import Resources
from mlnb.workspace import Workspace
from tests.waiting import until


@pytest.fixture(params=["local", "mirrored-local"], autouse=True)
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The target itself, and one that shares no file system with the session."""
    if request.param == "mirrored-local":
        monkeypatch.setitem(registry.KINDS._built_in, "local", "tests.targets.mirrored_local:MirroredLocal")
    return str(request.param)


@pytest.fixture
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "gpus", lambda: ("0", "1"))
    monkeypatch.setattr(local, "cores", lambda: 8)


def refusal(asked: Resources) -> str:
    with pytest.raises(UsageError) as caught:
        Local("local", {}, Workspace.of_process()).offer(asked)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_was_left_open_is_chosen_and_said(two_gpus: None):
    offer = Local("local", {}, Workspace.of_process()).offer(Resources(ranks=2, gpus=2))
    assert offer.resources == Resources(1, 2, 2, 4)
    assert offer.summary_lines == ("2 ranks × 4 cores of this machine's 8", "2 of 2 GPUs", "no time limit")
    assert offer.node.queue["cpus"] == 8


def test_ranks_may_share_cores_and_are_told_so(two_gpus: None):
    offer = Local("local", {}, Workspace.of_process()).offer(Resources(ranks=20))
    assert offer.resources.cpus == 1
    assert "20 ranks share 8 cores" in offer.summary_lines
    assert offer.node.queue["cpus"] == 8


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (Resources(gpus=3), ["--gpus 3", "this machine has 2 GPUs (0, 1)", "--gpus 2"]),
        (Resources(nodes=2), ["--nodes 2", "--nodes 1"]),
        (Resources(ranks=2, cpus=5), ["--cpus 5", "this machine has 8", "--cpus 4 is the most"]),
        (Resources(cpus=9), ["--cpus 9", "--cpus 8 is the most"]),
    ],
)
def test_what_there_is_not_is_refused_with_the_nearest(two_gpus: None, asked: Resources, words: list[str]):
    text = refusal(asked)
    assert all(word in text for word in words)


@pytest.mark.parametrize(
    ("others", "available", "advice"),
    [
        ([("slurm", 6)], ("0", "1"), "2 GPUs (0, 1). Use --on slurm (6 GPUs), or --gpus 2."),
        ([("slurm", 6), ("lab", 1)], (), "no GPU. Use --on slurm (6 GPUs) or --on lab (1 GPU), or drop --gpus."),
        ([], ("0",), "1 GPU (0). Use --gpus 1, or configure a target that has more (docs: site setup)."),
        ([("local", 3)], (), "no GPU. Drop --gpus, or configure a target that has GPUs (docs: site setup)."),
    ],
)
def test_too_many_gpus_are_refused_with_the_targets_that_have_them(
    monkeypatch: pytest.MonkeyPatch, others: list[tuple[str, int]], available: tuple[str, ...], advice: str
):
    monkeypatch.setattr(local, "gpus", lambda: available)
    monkeypatch.setattr(local, "_targets_with_gpus", lambda *_: others)
    assert refusal(Resources(gpus=3)) == f"--gpus 3: this machine has {advice}"


@pytest.mark.parametrize(
    ("requested", "text"),
    [
        (Resources(gpu_type="a100"), "--gpu-type a100"),
        (Resources(gpu_memory=80 * 10**9), "--gpu-memory 80GB"),
        (Resources(gpu_capability="8.0"), "--gpu-capability 8.0"),
    ],
)
def test_a_kind_of_gpu_can_not_be_chosen(requested: Resources, text: str):
    assert refusal(requested).startswith(f"{text}: not possible on this machine")


def test_gpus_are_those_that_may_be_seen(monkeypatch: pytest.MonkeyPatch):
    local.gpus.cache_clear()
    for visible, there in (("", ()), ("-1", ()), ("2,3", ("2", "3")), ("GPU-ab, GPU-cd", ("GPU-ab", "GPU-cd"))):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
        assert local.gpus() == there
        local.gpus.cache_clear()


def test_a_gpu_that_is_named_twice_is_one(monkeypatch: pytest.MonkeyPatch):
    from tests.node import pynvml_standin

    monkeypatch.setitem(sys.modules, "pynvml", pynvml_standin)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0, 0, GPU-1, 1, MIG-33333333-cccc")
    for cached in (local.gpus, local._gpu_ids):
        cached.cache_clear()
    try:
        assert local.gpus() == ("0", "1")
        queue = local.Local("local", {}, Workspace.of_process()).offer(Resources(gpus=2)).node.queue
        assert queue["gpu_ids"]["0"] == ("GPU-11111111-aaaa",)
    finally:
        for cached in (local.gpus, local._gpu_ids):
            cached.cache_clear()


def test_the_node_program_of_a_run_of_days_is_found_at_the_beginning_of_its_events(start, monkeypatch):
    run = start("import time; time.sleep(600)")
    until(lambda: run.state == "running")
    with run.directory.attempt(1).events(0).open("a") as file:
        file.writelines('{"t": 1, "event": "sample", "cpu": 1.0, "memory": 1, "gpus": []}\n' for _ in range(50_000))
    parsed: list[object] = []
    loads = rundir.json.loads
    monkeypatch.setattr(rundir.json, "loads", lambda data: (parsed.append(data), loads(data))[1])
    here = target()
    assert [status.state for status in here.poll([run.directory])] == ["starting"]
    assert here.cancel(run.directory)
    assert len(parsed) < 2000


# configuration


def test_a_target_that_there_is_not_is_named_with_the_nearest():
    with pytest.raises(UsageError, match=r"^Unknown target locla\. Did you mean local\? Available: .*local"):
        target("locla")


def test_targets_are_those_of_the_configuration(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PATH", "")  # a machine that submits to a batch system has it as a target, too
    with dask.config.set({"mlnb": {"target": "mine", "targets": {"mine": {"kind": "local", "grace": 3}}}}):
        assert names() == ["local", "mine"]
        assert target().name == "mine"
        assert target().offer(Resources()).node.grace == 3.0


@pytest.mark.parametrize("kind", [None, "slrum"])
def test_a_kind_that_there_is_not_is_refused(kind: str | None):
    wrong = {"mlnb": {"targets": {"mine": {"kind": kind}}}}
    with dask.config.set(wrong), pytest.raises(UsageError, match=r"^targets: mine: unknown kind .* Kinds: .*local"):
        target("mine")


def test_a_configuration_that_is_none_is_refused():
    with dask.config.set({"mlnb": "yes"}), pytest.raises(UsageError, match="must be a mapping"):
        names()


def test_where_runs_go(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MLNB_RUNS", str(tmp_path / "{user}"))
    assert Workspace.of_process().root.parent == tmp_path
    assert "{" not in str(Workspace.of_process().root)
    monkeypatch.setenv("MLNB_RUNS", str(tmp_path / "{x} {}"))  # braces of somebody's own
    assert Workspace.of_process().root == tmp_path / "{x} {}"
    monkeypatch.delenv("MLNB_RUNS")
    with dask.config.set({"mlnb.runs": "~/there"}):
        assert Workspace.of_process().root == Path.home() / "there"
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert Workspace.of_process().root == tmp_path / "mlnb" / "runs"


@pytest.mark.parametrize("mode", [0o755, 0o770, 0o701])
def test_a_runtime_folder_that_others_can_enter_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: int):
    monkeypatch.setenv("MLNB_RUNTIME", str(tmp_path / "run"))
    assert Workspace.of_process().runtime_dir().stat().st_mode & 0o777 == 0o700
    (tmp_path / "run").chmod(mode)
    with pytest.raises(UsageError, match=rf"^Others can read {tmp_path}/run\. Run: chmod 700 {tmp_path}/run"):
        Workspace.of_process().runtime_dir()


def test_the_runtime_folder_outlives_the_login_and_is_the_same_for_all_sessions(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.delenv("MLNB_RUNTIME")
    for session in ("one", "other"):
        monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / session))
        monkeypatch.setenv("TMPDIR", str(tmp_path / session))
        assert Workspace.of_process().runtime_dir() == Path(f"/tmp/mlnb-{os.getuid()}")
    assert not (tmp_path / "one").exists()


def test_a_runtime_folder_that_cannot_be_made_is_one_line_that_names_its_variable(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "file").touch()
    monkeypatch.setenv("MLNB_RUNTIME", str(tmp_path / "file" / "run"))
    with pytest.raises(StorageError, match=r"part of the path is not a directory\. .* set MLNB_RUNTIME"):
        Workspace.of_process().runtime_dir()
    monkeypatch.setenv("MLNB_RUNTIME", str(tmp_path / "file"))
    with pytest.raises(UsageError, match="set MLNB_RUNTIME"):
        Workspace.of_process().runtime_dir()


def test_a_runtime_folder_whose_sockets_would_have_too_long_a_path_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("MLNB_RUNTIME", str(tmp_path / ("x" * 100)))
    with pytest.raises(
        UsageError, match=r"MLNB_RUNTIME=.*x: a socket's path would have 1.. characters and may have 99"
    ):
        warm.start(Workspace.of_process())


def test_a_runs_gpus_and_cores_are_its_own_though_the_runtime_folder_is_cleared(
    start, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    monkeypatch.setenv("MLNB_RUNTIME", str(tmp_path / "rt"))
    with dask.config.set({"mlnb.targets.local.warm": False}):
        script = "import time\nwhile True: time.sleep(0.05)"
        first = start(script, cpus=local.cores())
        until(lambda: first.state == "running")
        shutil.rmtree(tmp_path / "rt")
        until((tmp_path / "rt" / "slots.json").exists)
        second = start(script, cpus=local.cores())
        until(lambda: "test is using them" in second.reason)
        first.cancel()
        until(lambda: second.state == "running")


def test_a_runtime_folder_that_is_a_link_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "run").symlink_to(tmp_path / "elsewhere")
    monkeypatch.setenv("MLNB_RUNTIME", str(tmp_path / "run"))
    with pytest.raises(UsageError, match="MLNB_RUNTIME"):
        Workspace.of_process().runtime_dir()


# environment


def test_what_a_program_needs_is_passed_and_nothing_else():
    session = {
        "PATH": "/bin",
        "HOME": "/home/me",
        "LC_ALL": "C",
        "CUDA_HOME": "/cuda",
        "HF_HOME": "/cache",
        "HF_TOKEN": "secret",
        "HUGGING_FACE_HUB_TOKEN": "secret",
        "WANDB_API_KEY": "secret",
        "AWS_ACCESS_KEY_ID": "secret",
        "GITHUB_TOKEN": "secret",
        "JUPYTERHUB_API_TOKEN": "secret",
        "MY_PASSWORD": "secret",
        "RANK": "3",
        "WORLD_SIZE": "8",
        "MASTER_ADDR": "elsewhere",
    }
    got = run_environment({"MY_PASSWORD": "asked"}, Workspace(Path("/runs"), Path("/rt")), session)
    assert got == {
        "PATH": "/bin",
        "HOME": "/home/me",
        "LC_ALL": "C",
        "CUDA_HOME": "/cuda",
        "HF_HOME": "/cache",
        "MY_PASSWORD": "asked",
        "PYTHONHASHSEED": "0",
        "MLNB_RUNS": "/runs",
        "MLNB_RUNTIME": "/rt",
    }


# the node zip


def test_the_node_program_runs_from_its_zip_alone(tmp_path: Path):
    archive = tmp_path / "mlnb.zip"
    archive.write_bytes(node_zip().data)
    code = "import mlnb.node.program, mlnb.node.rank_program, sys; print(mlnb.node.program.__file__)"
    env = {**os.environ, "PYTHONPATH": str(archive)}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(archive))


def test_the_node_program_comes_compiled_for_this_python_and_another_takes_its_sources(tmp_path: Path):
    here, elsewhere = tmp_path / "here.zip", tmp_path / "elsewhere.zip"
    here.write_bytes(node_zip().data)
    with zipfile.ZipFile(here) as ours, zipfile.ZipFile(elsewhere, "w") as theirs:
        for name in ours.namelist():
            data = ours.read(name)
            theirs.writestr(name, b"\0\0\r\n" + data[4:] if name.endswith(".pyc") else data)
    code = "import mlnb.node.program as program; print(program.__file__, program.NodeProgram.main.__code__.co_filename)"
    for archive, ending in ((here, ".pyc"), (elsewhere, ".py")):
        env = {**os.environ, "PYTHONPATH": str(archive)}
        command = [sys.executable, "-c", code]
        done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, check=True)
        file, compiled_as = done.stdout.split()
        assert file == f"{archive}/mlnb/node/program{ending}"
        assert compiled_as.endswith("mlnb/node/program.py")
        assert not (tmp_path / compiled_as).exists(), "a path of this machine travelled"


def test_the_zip_holds_the_lower_floors_only_and_is_the_same_every_time():
    found = {name.removesuffix("c") for name in zipfile.ZipFile(io.BytesIO(node_zip().data)).namelist()}
    assert {name for name in found if not name.startswith("mlnb/node/")} <= {
        "mlnb/__init__.py",
        "mlnb/units.py",
        "mlnb/errors.py",
        "mlnb/files.py",
        "mlnb/task.py",
        "mlnb/rundir.py",
        "mlnb/manifest.py",
        "mlnb/runinfo.py",
        "mlnb/version.py",
        "pynvml.py",
    }
    assert node_zip.__wrapped__() == node_zip.__wrapped__()


# how it starts


def test_a_run_starts_without_a_fork_server_too(start):
    with dask.config.set({"mlnb.targets.local.warm": False}):
        run = start("import torch, mlnb\nmlnb.log(x=1)\nprint(torch.ones(1).item())").wait(90)
    assert run.state == "succeeded", run.logs()
    assert run.logs(0, "out") == "1.0\n"
    assert (read_json(run.directory.handle) or {})["start"] == "cold"
    assert list(run.series()["x"].value) == [1.0]


def test_runs_of_a_fork_server_are_as_fresh_as_new_interpreters(start):
    script = (
        "import os, sys, threading, torch\n"
        "print(threading.active_count() <= 2, hasattr(torch, 'mark'), os.getpid() == os.getpgid(0))\n"
        "torch.mark = 1\n"
    )
    for _ in range(2):
        run = start(script).wait(60)
        assert (read_json(run.directory.handle) or {})["start"] == "warm"
        assert run.logs(0, "out") == "True False True\n"


def test_a_run_belongs_to_a_session_of_its_own(start):
    run = start("import os\nprint(os.getsid(0))").wait(60)
    node = next(event for event in read_lines(run.directory.attempt(1).events(0)) if event["event"] == "started")
    assert int(run.logs(0, "out")) == node["pid"] != os.getsid(0)


def test_a_fork_server_that_was_stopped_is_started_again(start):
    assert start("").wait(60).state == "succeeded"
    path = warm.socket_path(Workspace.of_process())
    assert warm.stop(Workspace.of_process())
    assert not path.exists()
    assert not warm.stop(Workspace.of_process())
    assert start("").wait(60).state == "succeeded"


def test_cancelling_a_run_that_has_not_begun_leaves_the_fork_server_alone(start):
    warm.stop(Workspace.of_process())
    first = start("print('never')")  # the fork server still imports torch
    second = start("print('through')")
    first.cancel()
    assert first.state == "cancelled"
    assert second.wait(60).state == "succeeded"
    assert first.logs(0, "out") == ""


def test_strangers_words_do_no_harm_to_a_fork_server(start):
    import socket

    assert start("").wait(60).state == "succeeded"
    for words in (b"", b"\n", b"{torn\n", b"[1]\n", b'{"run": 1}\n', b"\xff\n"):
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(warm.socket_path(Workspace.of_process())))
            client.sendall(words)
    assert start("").wait(60).state == "succeeded"


# processes


def test_a_process_is_known_by_more_than_its_number():
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        known = process_identity(child.pid)
        assert known
        assert is_alive(child.pid, known)
        assert not is_alive(child.pid, known + "0")
        assert not send_signal(child.pid, "another", 15)  # type: ignore[arg-type]
        assert child.poll() is None
    finally:
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process_identity(child.pid) is None  # a zombie is dead
    child.communicate()
    assert wait_for_exit(child.pid, known, 0)


def test_sizes_of_this_machine():
    there = Local("local", {}, Workspace.of_process()).resources()
    assert there["cpus"] == cores() >= 1
    assert all(re.fullmatch(r"\S+", gpu) for gpu in there["gpus"])
