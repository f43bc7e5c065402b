"""A target that does not see a mapped file gets a copy of its content, and the plan says so."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mlnb.capture import Session, capture
from mlnb.notebook.maps import settle_maps


@pytest.mark.parametrize(
    ("target", "placement", "is_copied"),
    [
        (SimpleNamespace(name="local", mirror=None), {}, False),
        (SimpleNamespace(name="far", mirror=object()), {}, True),
        (SimpleNamespace(name="local", mirror=None), {"image": "some.sif"}, True),
    ],
)
def test_who_sees_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: Any, placement: dict[str, str], is_copied: bool
):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    array = np.memmap(tmp_path / "x.dat", dtype="float32", mode="w+", shape=(5000,))
    captured = capture("total = array.sum()", Session({"array": array}, history=[""], cwd=Path.cwd()))
    offer: Any = SimpleNamespace(placement=placement)
    settled = settle_maps(captured, target, offer)
    sizes = [content.size for content in settled.hashed_contents().values()]
    assert (20_000 in sizes) is is_copied
    assert next(item for item in settled.items if item.name == "array").size == (20_000 if is_copied else 0)
    notes = [note for note in settled.notes if "does not see" in note]
    expected = f"{target.name} does not see {tmp_path / 'x.dat'}, which array maps: a copy is sent (20.0 kB)"
    assert notes == ([expected] if is_copied else [])
