"""``run.json``: what is written is read again, and so is what older versions wrote."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.rundir import RunDir, read_json, write_json
from mlnb.runinfo import SCHEMA, NodeSettings, RunInfo

INFO = RunInfo(
    id="20260101-000000-abcdef",
    name="resnet",
    target="hpc",
    task="d" * 64,
    submitted=1.5,
    user="ada",
    host="login1",
    pid=7,
    cwd="/home/ada",
    asked={"time": 60},
    cell=4,
    node=NodeSettings(grace=5.0, threads=2, requeue=True, chosen=("memory",), queue={"cpus": 2, "gpus": 0}),
    placement={"partition": "gpu"},
)

BATCH_1 = {
    "id": "20260101-000000-abcdef",
    "name": "resnet",
    "target": "hpc",
    "submitted": 1.5,
    "cwd": "/home/ada",
    "threads": 2,
    "grace": 20.0,
    "gather": 60,
    "requeue": False,
    "partition": "gpu",
    "account": None,
    "gpu_directives": ["--gres=gpu:1"],
    "chosen": ["memory"],
    "placed": ["account", "chosen", "gpu_directives", "grace", "partition", "requeue", "threads"],
    "cell": 4,
    "git": {"commit": "c"},
    "resume": "/runs/other/checkpoints",
}
"""As version 1 wrote it for a batch system."""

LOCAL_1 = {
    "id": "x",
    "name": "a",
    "target": "local",
    "slots": {"folder": "/tmp/f", "cpus": 2, "gpus": 1, "cpus_total": 8, "gpus_total": ["0", "1"]},
    "threads": 2,
    "grace": 10.0,
    "placed": ["grace", "slots", "threads"],
}
"""As version 1 wrote it for the local target."""


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    run = RunDir(tmp_path / INFO.id)
    run.path.mkdir()
    return run


def test_what_is_written_is_read_again(run: RunDir):
    INFO.write(run)
    assert RunInfo.read(run) == INFO
    assert (read_json(run.run) or {})["schema"] == SCHEMA


def test_version_1_of_a_run_on_a_batch_system_can_be_read(run: RunDir):
    write_json(run.run, BATCH_1)
    info = RunInfo.read(run)
    assert (info.name, info.target, info.cwd, info.cell, info.git) == ("resnet", "hpc", "/home/ada", 4, {"commit": "c"})
    assert info.node == NodeSettings(20.0, 2, 60, False, ("memory",))
    assert info.placement == {"partition": "gpu", "account": None, "gpu_directives": ["--gres=gpu:1"], "requeue": False}
    assert info.asked is None
    assert info.resume == "/runs/other/checkpoints"


def test_version_1_of_a_run_on_the_local_target_can_be_read(run: RunDir):
    write_json(run.run, LOCAL_1)
    info = RunInfo.read(run)
    assert info.node.queue == LOCAL_1["slots"]
    assert not info.node.queued_outside
    assert info.placement == {}
    in_image = {**LOCAL_1, "container_slots": LOCAL_1["slots"], "image": "torch.sif"}
    del in_image["slots"]
    write_json(run.run, in_image)
    info = RunInfo.read(run)
    assert info.node.queue == LOCAL_1["slots"]
    assert info.node.queued_outside
    assert info.placement == {"image": "torch.sif"}


def test_a_resumed_run_of_version_1_is_written_as_this_version_writes_it(run: RunDir):
    write_json(run.run, BATCH_1)
    replace(RunInfo.read(run), name="again").write(run)
    assert RunInfo.read(run) == replace(RunInfo.from_json(BATCH_1, INFO.id), name="again")


def test_keys_of_a_newer_version_are_ignored(run: RunDir):
    more = {**INFO.to_json(), "schema": SCHEMA + 1, "colour": "red"}
    more["node"] = {**more["node"], "speed": 3}
    write_json(run.run, more)
    assert RunInfo.read(run) == INFO


@pytest.mark.parametrize("content", ["", "{", "[]", "null", '{"submitted": null}', '{"submitted": "x"}'])
def test_of_an_invalid_file_only_the_id_is_known(run: RunDir, content: str):
    run.run.write_text(content)
    assert RunInfo.read(run) == RunInfo(INFO.id, INFO.id)


@given(
    st.dictionaries(
        st.sampled_from(["schema", "name", "target", "slots", "grace", "placed", "chosen", "x"]),
        st.none() | st.integers(0, 5) | st.text(max_size=3) | st.lists(st.text(max_size=2), max_size=2),
    ).filter(lambda values: isinstance(values.get("schema", 1), int) and not isinstance(values.get("chosen"), int))
)
def test_any_content_of_version_1_can_be_read(values: dict[str, object]):
    info = RunInfo.from_json({**values, "schema": 1}, "id")
    assert info.id == "id"
