"""A run's GPUs are sampled, whoever has given them to it. NVML is a stand-in here: see ``pynvml_standin``."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from mlnb.api import Run
from mlnb.api.submit.submit import submit
from mlnb.node.machine import gpus
from mlnb.node.machine.telemetry import Telemetry
from mlnb.rundir import read_json, read_lines
from mlnb.runinfo import NodeSettings
from mlnb.targets.base import Offer
from mlnb.targets.environment import run_environment
from mlnb.targets.warm import with_node_zip
from mlnb.task import Resources, Task
from mlnb.workspace import Workspace
from tests.node.allocation import ByHand

STAND_IN = Path(__file__).with_name("pynvml_standin.py")


def ran(
    tmp_path: Path,
    visible: str | None,
    requested: int = 1,
    script: str = "",
    queue: dict[str, Any] | None = None,
    code: int = 0,
) -> Run:
    """A run as a batch system starts it: no queue, and the variable as the system sets it, or leaves it."""
    (tmp_path / "nvml").mkdir()
    (tmp_path / "nvml" / "pynvml.py").write_bytes(STAND_IN.read_bytes())
    offer = Offer(Resources(gpus=requested, cpus=1), node=NodeSettings(threads=1, queue=queue))
    run = Run(submit(Task(script=script), {}, ByHand("local", {}, Workspace.of_process()), offer, name="job", env={}))
    env = with_node_zip(run_environment({}, Workspace.of_process()), run.directory.node_zip)
    env["PYTHONPATH"] = f"{tmp_path / 'nvml'}:{env['PYTHONPATH']}"
    env.pop("CUDA_VISIBLE_DEVICES", None)
    env |= {} if visible is None else {"CUDA_VISIBLE_DEVICES": visible}
    done = subprocess.run([sys.executable, "-m", "mlnb.node", str(run.dir)], env=env, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return run


def sampled(run: Run) -> list[str]:
    """The GPUs of the run's first sample, and the same ones in what it says of its machine."""
    attempt = run.directory.attempt(1)
    sample = next(event for event in read_lines(attempt.events(0)) if event["event"] == "sample")
    names = [gpu["gpu"] for gpu in sample["gpus"]]
    assert [gpu["gpu"] for gpu in (read_json(attempt.machine(0)) or {})["gpus"]] == names
    return names


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    from tests.node import pynvml_standin

    monkeypatch.setitem(sys.modules, "pynvml", pynvml_standin)
    return pynvml_standin


def seen(requested: int) -> list[str]:
    """The GPUs in a sample of a job's node program, and the same ones in what it says of its machine."""
    telemetry = Telemetry(gpus.job_gpus(requested))
    names = [gpu["gpu"] for gpu in telemetry.sample(set())["gpus"]]
    assert [gpu["gpu"] for gpu in telemetry.devices()] == names
    return names


NOT_ALL_THERE = "7, GPU-nowhere, größe, 0"  # what there is not keeps nothing else from being sampled


@pytest.mark.parametrize(
    ("visible", "expected"),
    [
        ("1", ["1"]),
        ("0,1", ["0", "1"]),
        ("GPU-22222222-bbbb", ["GPU-22222222-bbbb"]),
        ("GPU-2", ["GPU-2"]),  # CUDA takes the beginning of a UUID too
        ("MIG-33333333-cccc", ["MIG-33333333-cccc"]),
        (NOT_ALL_THERE, ["0"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_the_gpus_of_a_job_are_those_in_cuda_visible_devices(
    nvml, monkeypatch: pytest.MonkeyPatch, visible: str, expected: list[str]
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert seen(1) == expected


@pytest.mark.parametrize(("visible", "expected"), [(NOT_ALL_THERE, ["0"]), ("", [])])
def test_a_run_samples_the_gpus_of_its_job(tmp_path: Path, visible: str, expected: list[str]):
    assert sampled(ran(tmp_path, visible)) == expected


@pytest.mark.parametrize(("requested", "expected"), [(1, ["0", "1"]), (0, [])])
def test_without_the_variable_they_are_all_gpus_that_the_job_sees_if_it_requested_some(
    nvml, monkeypatch: pytest.MonkeyPatch, requested: int, expected: list[str]
):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert seen(requested) == expected


def test_a_run_whose_system_sets_no_variable_samples_what_it_sees(tmp_path: Path):
    assert sampled(ran(tmp_path, None)) == ["0", "1"]


def test_the_use_and_the_models_of_gpus_in_the_variable_are_recorded(tmp_path: Path):
    run = ran(tmp_path, "1,MIG-33333333-cccc")
    series = run.all_series()
    assert series["mlnb.gpu0.utilisation"].value[0] == 50
    assert series["mlnb.gpu1.memory"].value[0] == 1000
    assert "mlnb.gpu1.utilisation" not in series  # which NVML doesn't tell of a part of a GPU
    machine = read_json(run.directory.attempt(1).machine(0)) or {}
    assert [(gpu["name"], gpu["memory"]) for gpu in machine["gpus"]] == [("Stand-in GPU", 8000), ("Stand-in MIG", 8000)]


@pytest.mark.parametrize(("visible", "order"), [(None, "PCI_BUS_ID"), ("1,0", None)])
def test_granted_gpus_are_counted_as_they_were_when_they_were_listed(
    tmp_path: Path, visible: str | None, order: str | None
):
    """By NVML, along the PCI bus, where the variable was not set; as the session has it where it was."""
    queue = {"folder": str(tmp_path), "cpus": 1, "gpus": 1, "cpus_total": 1, "gpus_total": ["1", "0"]}
    script = "import os; print(os.environ['CUDA_VISIBLE_DEVICES'], os.environ.get('CUDA_DEVICE_ORDER'))"
    assert ran(tmp_path, visible, script=script, queue=queue).logs() == f"1 {order}\n"


def test_a_driver_that_can_not_count_its_gpus_has_none(monkeypatch: pytest.MonkeyPatch):
    """As after a fault of the hardware: a run that needs no GPU is not disturbed by it."""
    library = types.ModuleType("pynvml")

    class NVMLError(Exception):
        pass

    def fail() -> int:
        raise NVMLError("Unknown Error")

    vars(library).update(NVMLError=NVMLError, nvmlInit=lambda: None, nvmlDeviceGetCount=fail)
    monkeypatch.setitem(sys.modules, "pynvml", library)
    assert gpus.nvml_gpus() == ()


def test_all_names_of_a_gpu_have_an_id_in_common(nvml):
    first, second, mig = "GPU-11111111-aaaa", "GPU-22222222-bbbb", "MIG-33333333-cccc"
    assert gpus.physical_ids(["0", "1"], {}) == {"0": (first,), "1": (second, mig)}
    assert gpus.physical_ids([first, "GPU-2", mig, "nowhere"], {}) == {
        first: (first,),
        "GPU-2": (second, mig),
        mig: (mig,),
    }


def test_an_index_that_may_count_in_cudas_own_order_has_no_id(nvml, monkeypatch: pytest.MonkeyPatch):
    assert gpus.physical_ids(["1"], {"CUDA_VISIBLE_DEVICES": "1"})["1"]  # all are of one model
    monkeypatch.setattr(nvml, "nvmlDeviceGetName", lambda handle: handle)
    assert gpus.physical_ids(["1"], {"CUDA_VISIBLE_DEVICES": "1"}) == {}
    assert gpus.physical_ids(["1"], {"CUDA_VISIBLE_DEVICES": "1", "CUDA_DEVICE_ORDER": "PCI_BUS_ID"})["1"]


def test_what_follows_a_name_that_is_no_gpu_is_not_visible():
    assert gpus.visible_gpus({"CUDA_VISIBLE_DEVICES": "0, -1, 1"}) == ("0",)


def test_a_run_whose_queue_is_in_a_folder_of_others_fails_and_says_why(tmp_path: Path):
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    queue = {"folder": str(folder), "cpus": 1, "gpus": 1, "cpus_total": 1, "gpus_total": ["0"]}
    run = ran(tmp_path, None, queue=queue, code=1)
    assert (run.state, list(folder.iterdir())) == ("failed", [])
    assert "can't wait for cores and GPUs: Others can read" in run.reason
