"""Runs on a target that shares no file system with the session."""

from __future__ import annotations

from pathlib import Path

import dask.config
import pytest

from mlnb.targets import registry
from tests.targets import mirrored_local


@pytest.fixture
def elsewhere(runs_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the jobs' run directories are while ``local`` is the mirrored target."""
    monkeypatch.setitem(registry.KINDS._built_in, "local", "tests.targets.mirrored_local:MirroredLocal")
    return mirrored_local.remote_root()


@pytest.fixture
def hidden(elsewhere: Path) -> object:
    """Jobs in a mount namespace in which the session's runs are not to be seen."""
    if not mirrored_local.CAN_HIDE:
        pytest.skip("no mount namespaces without root")
    with dask.config.set({"mlnb.targets.local.warm": False}):
        yield elsewhere
