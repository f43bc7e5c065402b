"""Nodes of one run with no file in common: each has a copy of the run directory; the target says where to meet."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

import pytest

from mlnb import manifest
from mlnb.errors import UsageError
from mlnb.node.rendezvous import endpoint
from mlnb.node.rendezvous.endpoint import endpoint_of
from mlnb.rundir import RunDir, read_json, write_json
from tests.node.allocation import FOREVER, Allocate, Allocation

KEY = "12" * 32


class Apart(Allocation):
    """Node programs each of which has a run directory of its own."""

    folder: Path
    env: Mapping[str, str]

    def start_apart(self, folder: Path, **env: str) -> None:
        """Start all nodes; node 0 in the run directory itself, the others in copies."""
        with socket.create_server(("127.0.0.1", 0)) as probe:
            port = probe.getsockname()[1]
        given = {manifest.VARIABLE: KEY, endpoint.VARIABLE: f"localhost:{port}", **env}
        own = self.run
        for node in range(own.task.resources.nodes):
            if node:
                shutil.copytree(own.dir, folder / f"node-{node}")
                self.run = type(own)(RunDir(folder / f"node-{node}"))
            self.start(node, **given)
            self.run = own


@pytest.fixture
def apart(allocate: Allocate, monkeypatch: pytest.MonkeyPatch) -> Allocate:
    monkeypatch.setattr("tests.node.conftest.Allocation", Apart)
    return allocate


def test_two_nodes_without_shared_files_train_together(apart: Allocate, tmp_path: Path):
    script = "import torch.distributed as dist, torch\ndist.init_process_group('gloo')\nx = torch.ones(1)\n"
    allocation = apart(f"{script}dist.all_reduce(x)\nprint(x.item())")
    allocation.start_apart(tmp_path)
    assert allocation.codes() == [0, 0], allocation.output()
    assert allocation.run.state == "succeeded"
    assert allocation.run.logs(0, "out") == "2.0\n"
    assert not (allocation.run.directory.attempt(1).path / "rank-1.out").exists()


def test_the_result_has_the_exits_of_ranks_whose_files_node_0_does_not_see(apart: Allocate, tmp_path: Path):
    allocation = apart("import os, time\nif os.environ['RANK'] == '1': 1 / 0\ntime.sleep(600)")
    allocation.start_apart(tmp_path)
    assert allocation.codes() == [1, 1], allocation.output()
    assert allocation.run.state == "failed"
    assert "rank 1 on node 1" in allocation.run.reason
    assert "ZeroDivisionError" in allocation.run.result["error"]["text"]


def test_a_cancel_that_one_node_sees_stops_all(apart: Allocate, tmp_path: Path):
    allocation = apart(FOREVER)
    allocation.start_apart(tmp_path)
    allocation.ranks(0)
    write_json(allocation.run.directory.cancel, {"by": "a test"})
    assert len(allocation.codes()) == 2
    assert (read_json(allocation.run.directory.result) or {})["state"] == "cancelled"


def test_a_node_with_another_key_is_refused(apart: Allocate, tmp_path: Path):
    allocation = apart(FOREVER, rendezvous_timeout=3.0)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    for node, key in ((0, KEY), (1, "34" * 32)):
        allocation.start(node, **{manifest.VARIABLE: key, endpoint.VARIABLE: f"127.0.0.1:{port}"})
    assert set(allocation.codes()) == {1}
    assert allocation.run.state == "failed"


@pytest.mark.parametrize("value", ["host", ":1", "host:", "host:x", "host:0", "host:70000"])
def test_an_invalid_endpoint_is_refused_in_one_line(tmp_path: Path, value: str):
    attempt = RunDir(tmp_path).attempt(1)
    with pytest.raises(UsageError, match="must be HOST:PORT"):
        endpoint_of(attempt, {endpoint.VARIABLE: value, manifest.VARIABLE: KEY})
    with pytest.raises(UsageError, match="needs MLNB_RUN_KEY"):
        endpoint_of(attempt, {endpoint.VARIABLE: "host:1"})


def test_each_attempt_has_a_token_of_its_own(tmp_path: Path):
    environ = {endpoint.VARIABLE: "[::1]:7", manifest.VARIABLE: KEY}
    first, second = (endpoint_of(RunDir(tmp_path).attempt(number), environ) for number in (1, 2))
    assert first is not None
    assert second is not None
    assert (first.host, first.port) == ("::1", 7)
    assert first.token != second.token
    assert first.token not in repr(first)
