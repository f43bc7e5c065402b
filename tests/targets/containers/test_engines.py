"""Container engines: which one, which images, and the words that each gets. Those that run: test_containers_run.py."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.errors import UsageError
from mlnb.rundir import RunDir, write_json
from mlnb.targets import containers
from mlnb.targets.containers import Bind, charliecloud, differences, load_engine
from mlnb.targets.containers.images import check
from mlnb.task import Resources
from mlnb.workspace import Workspace

SIF, SQSH, NAME = "/images/torch.sif", "/images/torch.sqsh", "registry.example/ml/torch:2.4"
IMAGES = {"apptainer": SIF, "singularity": SIF, "enroot": SQSH, "pyxis": SQSH, "podman": NAME, "docker": NAME}
IMAGES["charliecloud"] = "/images/torch"
CASES = sorted(IMAGES.items())


@pytest.fixture
def not_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.getuid", lambda: 1234)
    monkeypatch.setattr("os.getgid", lambda: 5678)


def words(name: str, image: str | None = None, **more: object) -> list[str]:
    settings = more.pop("settings", {})
    command = more.pop("command", ["prog", "arg"])
    return containers.engine(name, image or IMAGES[name], settings).wrap(command, **more).command  # type: ignore


def follows(line: list[str], *expected: str) -> bool:
    """Whether ``expected`` stand in ``line`` one behind the other."""
    return any(tuple(line[i : i + len(expected)]) == expected for i in range(len(line)))


def refusal(call, *args: object, **more: object) -> str:
    with pytest.raises(UsageError) as caught:
        call(*args, **more)
    assert "\n" not in str(caught.value)
    return str(caught.value)


# which engine, which image


@pytest.mark.parametrize(
    ("image", "here", "chosen"),
    [
        (SIF, {}, "apptainer"),
        (SIF, {"singularity"}, "singularity"),
        (SIF, {"singularity", "apptainer"}, "apptainer"),
        (SQSH, {}, "enroot"),
        ("/images/torch.sqfs", {}, "charliecloud"),
        ("/usr", {"apptainer"}, "apptainer"),
        ("/usr", {"apptainer", "ch-run"}, "charliecloud"),
        ("docker://torch", {"podman"}, "apptainer"),
        ("torch", {"docker"}, "docker"),
        ("torch", {"docker", "podman"}, "podman"),
    ],
)
def test_the_image_and_the_machine_say_which_engine(
    monkeypatch: pytest.MonkeyPatch, image: str, here: set[str], chosen: str
):
    monkeypatch.setattr("shutil.which", lambda program: program if program in here else None)
    assert containers.engine(None, image).name == chosen
    assert containers.engine(None, image, {"engine": "docker"}).name == "docker"
    assert containers.engine("enroot", image, {"engine": "docker"}).name == "enroot"


def test_where_nothing_says_which_engine_the_setting_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.which", lambda program: None)
    assert "container.engine" in refusal(containers.engine, None, "torch")


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"engine": "podmann"}, ["container.engine 'podmann'", "Did you mean podman?"]),
        ({"image": ["x"]}, ["container.image", "images"]),
        ({"pull": "always"}, ["container.pull 'always'", "never, missing"]),
        ({"gpu": "tpu"}, ["container.gpu 'tpu'", "nvidia, amd, none"]),
        ({"options": "--x"}, ["container.options '--x'", "list"]),
        ({"python": 3}, ["container.python 3"]),
    ],
)
def test_settings_that_are_none_are_refused(settings: dict[str, object], said: list[str]):
    text = refusal(containers.engine, None, SIF, settings)
    assert all(word in text for word in said)
    assert "mapping" in refusal(containers.for_target, SIF, {"container": "podman"}, Workspace.of_process())


def test_images_are_those_that_the_site_allows():
    allowed = ["/images/*.sif", "registry.example/ml/*"]
    assert check("/images/torch.sif", allowed) == "/images/torch.sif"
    assert check(NAME, allowed) == NAME
    text = refusal(check, "/images/torch.img", allowed)
    assert "--image /images/torch.img" in text
    assert "/images/*.sif, registry.example/ml/*" in text
    assert "the nearest is /images/*.sif" in text
    assert "not the name of an image" in refusal(check, "/images/../home/me/own.sif", allowed)


@pytest.mark.parametrize(
    "image",
    [
        *("/home/me/.images/a+b@1=2.sif", "docker://host:5000/a/b.c:tag", "nvcr.io#nvidia/pytorch:24.01-py3", "torch"),
        *("$oauthtoken@nvcr.io#nvidia/pytorch:24.01", f"a/b@sha256:{'0' * 64}", "mlnb-test/torch:latest"),
    ],
)
def test_images_have_the_names_that_images_have(image: str):
    assert check(image) == image


@pytest.mark.parametrize(
    "image",
    [
        *("", "-v/:/host", "--privileged", "a b", "a;b", "$(id)", "`id`", "a'b", 'a"b', "a\nb", "/a/", "/a//b", "/./a"),
        *("/a/../b", "/a/..", "a:b:c:d", "x" * 600, "/-x", "a\\b", "/a$b", "-x@host/a", "docker://-a", "/a\n"),
    ],
)
def test_what_is_no_images_name_goes_nowhere(image: str):
    assert refusal(check, image).startswith("--image ")


@given(st.text(max_size=20))
def test_no_image_needs_quoting_but_for_a_dollar_in_front(text: str):
    try:
        check(text)
    except UsageError:
        return
    assert shlex.quote(text.removeprefix("$")) in (text.removeprefix("$"), f"'{text.removeprefix('$')}'")
    assert not set(text) & set(" \t\n'\"`;&|<>()*?[]{}\\")
    assert not text.startswith("-")


# the words


def test_apptainer_as_its_manual_has_it():
    # apptainer-exec(1): --nv, --bind src:dest:opts, --pwd
    binds = [Bind("/runs/a b", writable=True), Bind("/data", "/mnt/data")]
    line = words("apptainer", binds=binds, gpus=1, workdir="/runs/a b", settings={"options": ["--no-home"]})
    assert line[:3] == ["apptainer", "exec", "--nv"]
    assert follows(line, "--bind", "/runs/a b:/runs/a b:rw", "--bind", "/data:/mnt/data:ro", "--pwd", "/runs/a b")
    assert follows(line, "--no-home", SIF, "env")
    assert line[-2:] == ["prog", "arg"]
    assert "--rocm" in words("singularity", gpus=1, settings={"gpu": "amd"})
    assert not {"--nv", "--rocm"} & {*words("apptainer"), *words("apptainer", gpus=1, settings={"gpu": "none"})}


def test_podman_and_docker_as_their_manuals_have_it(not_root: None):
    more = {"binds": [Bind("/runs/a,b", writable=True)], "pass_env": ["KEY"], "workdir": "/w", "memory": 5}
    podman, docker = words("podman", **more), words("docker", **more)
    both = ["--rm", "--init", "--network=host", "--ipc=host", "--volume=/runs/a,b:/runs/a,b:rw", "--workdir=/w"]
    for line in (podman, docker):
        assert {*both, "--pull=never", "--env=KEY", "--entrypoint=sh"} <= set(line)
        assert follows(line, "--entrypoint=sh", NAME)
        assert line[-2:] == ["prog", "arg"]
    assert "--userns=keep-id" in podman
    assert "--memory=5b" not in podman  # without root it stays in the job's cgroup
    assert {"--user=1234:5678", "--memory=5b"} <= set(docker)
    assert "--pull=missing" in words("podman", settings={"pull": "missing"})
    assert {"--device=/dev/kfd", "--device=/dev/dri"} <= set(words("podman", gpus=1, settings={"gpu": "amd"}))


def test_enroot_and_pyxis_as_their_manuals_have_it():
    more = {"binds": [Bind("/runs", writable=True), Bind("/d")], "pass_env": ["KEY"], "gpus": 2, "workdir": "/runs"}
    line = words("enroot", **more)
    assert follows(line, "--mount", "/runs:/runs:none:x-create=dir,rbind,rw")
    assert follows(line, "--env", "NVIDIA_VISIBLE_DEVICES=all")
    assert "enroot import" in refusal(words, "enroot", NAME)
    engine = containers.engine("pyxis", f"docker://{NAME}")
    wrapped = engine.wrap(["prog"], **more)  # type: ignore[arg-type]
    assert wrapped.launcher[0] == f"--container-image={NAME}"
    assert "--container-mounts=/runs:/runs:rw,/d:/d:ro" in wrapped.launcher
    assert "--container-env=KEY,NVIDIA_VISIBLE_DEVICES,NVIDIA_DRIVER_CAPABILITIES" in wrapped.launcher
    assert wrapped.command[0] == "env"
    assert "export NVIDIA_VISIBLE_DEVICES=all" in wrapped.before
    contained = containers.Contained(engine, Workspace.of_process())
    contained.check_kind("slurm")
    assert "not with pbs" in refusal(contained.check_kind, "pbs")


def test_charliecloud_makes_what_an_image_lacks_or_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    image = tmp_path / "image"
    (image / "runs").mkdir(parents=True)
    monkeypatch.setattr(charliecloud, "_write_fake", lambda command: False)
    bind = [Bind("/runs", writable=True), Bind("/tmp/x")]
    line = words("charliecloud", str(image), binds=bind, workdir="/runs")
    assert line[:4] == ["env", "-u", "TMPDIR", "ch-run"]
    assert {"--bind=/runs:/runs", "--cd=/runs"} <= set(line)
    assert not [word for word in line if word.startswith(("--write", "--set-env"))]
    (image / "ch").mkdir()
    (image / "ch" / "environment").touch()
    line = words("charliecloud", str(image), binds=[Bind("/scratch")])
    assert {"--write", "--set-env"} <= set(line)
    monkeypatch.setattr("os.access", lambda *_: False)
    text = refusal(words, "charliecloud", str(image), binds=[Bind("/scratch")])
    assert "no folder /scratch" in text
    monkeypatch.setattr(charliecloud, "_write_fake", lambda command: True)
    assert "--write-fake" in words("charliecloud", str(image), binds=[Bind("/scratch")])


paths = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp", "Zs", "Cf", "Co", "Cn")), max_size=12)
values = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=20)


@pytest.mark.parametrize(("name", "image"), CASES)
@given(path=paths, value=values, argument=values)
def test_whatever_paths_and_values_hold_is_one_word(name: str, image: str, path: str, value: str, argument: str):
    engine = load_engine(name)(image, containers.Settings())
    folder = f"/runs/{path}"
    try:
        wrapped = engine.wrap(
            ["prog", argument], binds=[Bind(folder)], env={"VALUE": value}, pass_env=["KEY"], workdir=folder
        )
    except UsageError:
        assert set(path) & set(engine.forbidden) or not path.isprintable()
        return
    everything = [*wrapped.launcher, *wrapped.command]
    assert shlex.split(shlex.join(everything)) == everything
    assert f"VALUE={value}" in wrapped.command
    assert wrapped.command[-1] == argument
    assert sum(folder in word for word in everything) >= 2
    assert not [line for line in (*wrapped.before, *wrapped.after) if folder in line or (value and value == line)]


@pytest.mark.parametrize(("name", "image"), CASES)
def test_what_no_engine_can_take_is_refused(name: str, image: str):
    for path in ("/a:b", "/a\nb", "relative"):
        assert refusal(words, name, binds=[Bind(path)]).startswith(repr(path))
        assert refusal(words, name, workdir=path).startswith(repr(path))
    for variable in ("A-B", "1A", "A=B", "", "A;id"):
        assert "--env" in refusal(words, name, pass_env=[variable])
        assert "--env" in refusal(words, name, env={variable: "x"})
    assert "zero byte" in refusal(words, name, env={"A": "\0"})


def test_the_hosts_python_stays_outside():
    line = words("apptainer", env={"PYTHONPATH": "/runs/mlnb.zip"})
    assert follows(line, "-u", "PYTHONHOME")
    assert not follows(line, "-u", "PYTHONPATH")
    assert {"PYTHONPATH=/runs/mlnb.zip", "PYTHONNOUSERSITE=1"} <= set(line)


# what scripts do on the node, with an engine that prints what it was given


@pytest.fixture
def printing(tmp_path: Path) -> Path:
    program = tmp_path / "an engine"
    program.write_text('#!/bin/sh\n[ "$1" = rm ] && exit 0\nprintf "%s\\n" "$@" "CVD=$CUDA_VISIBLE_DEVICES"\nexit 7\n')
    program.chmod(0o755)
    return program


def printed(name: str, program: Path, env: dict[str, str], **more: object) -> list[str]:
    line = words(name, settings={"command": str(program)}, **more)
    done = subprocess.run(line, env={"PATH": "/usr/bin:/bin", **env}, capture_output=True, text=True, timeout=20)
    assert done.returncode == 7, done.stderr
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("env", "devices", "visible"),
    [
        ({"SLURM_STEP_GPUS": "2,3", "SLURM_JOB_GPUS": "1,2,3", "CUDA_VISIBLE_DEVICES": "0,1"}, ["2", "3"], "0,1"),
        ({"SLURM_JOB_GPUS": "5", "CUDA_VISIBLE_DEVICES": "0"}, ["5"], "0"),
        ({"CUDA_VISIBLE_DEVICES": "GPU-ab,GPU-cd"}, ["GPU-ab", "GPU-cd"], "0,1"),
        ({}, ["all"], ""),
    ],
)
def test_gpus_are_those_of_the_job(printing: Path, env: dict[str, str], devices: list[str], visible: str):
    got = printed("podman", printing, env, gpus=2)
    assert sorted(word for word in got if "nvidia.com" in word) == [f"--device=nvidia.com/gpu={id_}" for id_ in devices]
    assert f"CVD={visible}" in got
    asked = f'"device={",".join(devices)}"' if devices != ["all"] else "all"
    assert f"--gpus={asked}" in printed("docker", printing, env, gpus=2)
    assert not [word for word in printed("podman", printing, env) if "nvidia.com" in word]


@pytest.mark.parametrize("name", ["podman", "docker", "enroot"])
def test_the_schedulers_variables_go_along_by_name(printing: Path, name: str):
    odd = "a b;$(exit 3)\nSLURM_FORGED=x"
    got = printed(name, printing, {"SLURM_JOB_ID": odd, "MLNB_NODE": "1", "OTHER": "2", "KEY": odd}, pass_env=["KEY"])
    named = {word.removeprefix("--env=") for word in got}
    assert {"SLURM_JOB_ID", "MLNB_NODE", "KEY"} <= named
    assert "OTHER" not in named
    assert not [word for word in got if "exit 3" in word]


# a run in an image


def test_a_run_sees_its_folder_and_the_cells(tmp_path: Path):
    run = RunDir(tmp_path / "runs" / "1")
    run.path.mkdir(parents=True)
    write_json(run.run, {"cwd": str(tmp_path)})
    settings = {"container": {"binds": ["/data:ro", "/scratch:/fast:rw", "/plain"], "python": "/opt/bin/python"}}
    contained = containers.for_target(SIF, settings, Workspace.of_process())
    wrapped = contained.wrap(["-m", "x"], run, Resources(gpus=1), {"KEY": "hidden"})
    binds = [wrapped.command[i + 1] for i, word in enumerate(wrapped.command) if word == "--bind"]
    assert binds == [
        *("/data:/data:ro", "/scratch:/fast:rw", "/plain:/plain:rw"),
        *(f"{path}:{path}:rw" for path in (tmp_path, run.path)),
    ]
    assert {f"PYTHONPATH={run.node_zip}", f"MLNB_IMAGE={SIF}"} <= set(wrapped.command)
    assert wrapped.command[-3:] == ["/opt/bin/python", "-m", "x"]
    assert "hidden" not in " ".join(wrapped.command)
    write_json(run.run, {"cwd": "/usr/share"})  # which is the image's
    again = contained.wrap(["-m", "x"], run, Resources(), {})
    assert "/usr/share:/usr/share:rw" not in again.command
    wrong = containers.for_target(SIF, {"container": {"binds": ["relative:ro"]}}, Workspace.of_process())
    assert "container.binds" in refusal(wrong.wrap, ["x"], run, Resources(), {})


def test_an_image_that_differs_is_told_of_and_one_that_can_not_work_refused():
    session = {"python": "3.11.7", "torch": "2.13.0+cpu"}
    assert differences("i", session, {"python": "3.11.2", "torch": "2.13.1+cu128", "cuda": "12.8"}) == []
    lines = differences("i", session, {"python": "3.12.2", "torch": "2.4.0a0+git", "cuda": None})
    assert [line.split(" in the image, ")[0] for line in lines] == ["Python 3.12.2", "torch 2.4.0a0+git"]
    assert "not checked" in differences("i", session, None)[0]
    assert "has no torch" in refusal(differences, "i", session, {"python": "3.11.2", "torch": None})
    assert "3.8.10" in refusal(differences, "i", session, {"python": "3.8.10", "torch": "1.9"})
