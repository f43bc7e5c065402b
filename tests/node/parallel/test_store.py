"""The key-value store of the ranks."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from mlnb.node.parallel import store
from mlnb.node.rendezvous.addresses import free_port

PATIENCE = timedelta(seconds=60)


@pytest.fixture(autouse=True)
def master(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variables in which ranks find rank 0."""
    monkeypatch.setenv("MLNB_MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MLNB_MASTER_PORT", str(free_port()))


def test_a_rank_that_comes_before_rank_0_waits_for_it():
    with ThreadPoolExecutor(1) as ranks:
        first = ranks.submit(store.connect, "keys", 1, PATIENCE)
        served = store.connect("keys", 0, PATIENCE)
        served.set("greeting", "hello")
        assert first.result().get("greeting") == b"hello"


def test_two_prefixes_share_a_server_and_no_key():
    files, ranks = store.connect("files", 0, PATIENCE), store.connect("ranks", 0, PATIENCE)
    files.set("asked", "1")
    assert not ranks.check(["asked"])
    assert store.connect("files", 1, PATIENCE).get("asked") == b"1"


def test_without_rank_0_there_is_an_error():
    with pytest.raises(dist.DistError):
        store.connect("keys", 1, timedelta(milliseconds=50))
