"""Where a file stands for the memory that shows it, each side maps the file; other memory travels as data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from mlnb.node.data import objects, storages
from mlnb.node.data.kinds import mapped_files


class InFiles(storages.MappedFiles):
    """A sink and source that leaves what is in mapped files there, and counts what it is given to store."""

    def __init__(self) -> None:
        super().__init__()
        self.stored: list[int] = []

    def mapped(self, storage: Any, span: Any = None, label: Any = None) -> Any:
        if span is None:
            return super().mapped(storage)
        return ("map", *span) if span.is_there else None

    def storage(self, storage: Any, nbytes: Any = None) -> Any:
        if isinstance(storage, tuple):
            return super().storage(storage, nbytes)
        self.stored.append(storage.nbytes())
        return ("bytes", bytes(storages.view_of(storages.as_bytes(storage))))


def travel(value: Any, memory: Any = None) -> Any:
    memory = memory or InFiles()
    stream = objects.dump(value, memory, objects.Labels(), prefix="")
    return objects.load(stream, memory, objects.Labels(), {})


@pytest.fixture
def mapped(tmp_path: Path) -> Any:
    array = np.memmap(tmp_path / "x.dat", dtype="float32", mode="w+", shape=(300, 50))
    array[:] = np.arange(15000, dtype="float32").reshape(300, 50)
    return array


def test_a_writable_map_is_the_file_on_both_sides(mapped: Any):
    memory = InFiles()
    got = travel(mapped, memory)
    assert not memory.stored
    assert type(got) is np.memmap
    assert (got.filename, got.mode, got.offset, got.dtype, got.shape) == (
        mapped.filename,
        "w+",
        0,
        "float32",
        (300, 50),
    )
    got[7] = -1
    got.flush()
    assert (mapped[7] == -1).all()
    mapped[8] = -2
    assert (got[8] == -2).all()
    assert (np.fromfile(mapped.filename, "float32").reshape(300, 50)[7] == -1).all()


@pytest.mark.parametrize("offset", [0, 16, 4096 * 3 + 8])
def test_an_offset_and_the_order_of_fortran(tmp_path: Path, offset: int):
    made = np.memmap(tmp_path / "x.dat", "int16", "w+", offset, (20, 30), "F")
    made[:] = np.arange(600).reshape(20, 30)
    got = travel(made)
    assert got.flags.f_contiguous
    assert got.offset == offset
    got[3, 4] = 1000
    assert made[3, 4] == 1000
    assert np.array_equal(got, made)


def test_views_show_the_same_map(mapped: Any):
    views = {"rows": mapped[100:200:3, 5:], "plain": np.asarray(mapped)[::-1], "tensor": torch.from_numpy(mapped[2])}
    memory = InFiles()
    got = travel({**views, "whole": mapped}, memory)
    assert not memory.stored
    assert all(np.array_equal(got[name], view) for name, view in views.items())
    got["whole"][100, 5], got["whole"][299, 0], got["whole"][2, 1] = 1, 2, 3
    assert (got["rows"][0, 0], got["plain"][0, 0], got["tensor"][1]) == (1, 2, 3)
    alone = travel(mapped[100:200:3, 5:])
    alone[0, 0] = 77
    assert mapped[100, 5] == 77


def test_a_small_one(tmp_path: Path):
    made = np.memmap(tmp_path / "x.dat", dtype="int8", mode="w+", shape=(3,))
    travel(made)[1] = 5
    assert made.tolist() == [0, 5, 0]


def test_one_that_is_only_read(mapped: Any):
    np.save(f"{mapped.filename}.npy", np.asarray(mapped))
    made = np.load(f"{mapped.filename}.npy", mmap_mode="r")
    memory = InFiles()
    got = travel(made, memory)
    assert not memory.stored
    assert not got.flags.writeable
    assert np.array_equal(got, mapped)


def test_one_whose_changes_stay_in_memory(tmp_path: Path):
    np.zeros(400_000).tofile(tmp_path / "x.dat")
    made = np.memmap(tmp_path / "x.dat", dtype="float64", mode="c")
    memory = InFiles()
    got = travel(made, memory)
    assert not memory.stored, "it is still what is in the file"
    got[0] = 1
    assert made[0] == 0
    made[350_000] = 2
    got = travel(made, memory)
    assert memory.stored == [3_200_000]
    assert (got[350_000], got.mode) == (2, "c")
    assert not np.fromfile(tmp_path / "x.dat").any()


def test_tensors_in_files(tmp_path: Path):
    shared = torch.from_file(str(tmp_path / "t.dat"), shared=True, size=100)
    shared.zero_()
    torch.save({"weight": torch.arange(500_000.0)}, tmp_path / "w.pt")
    loaded = torch.load(tmp_path / "w.pt", mmap=True)
    memory = InFiles()
    got_shared, got = travel([shared, loaded], memory)
    assert not memory.stored
    got_shared[5] = 3
    assert shared[5] == 3
    assert torch.equal(got["weight"], loaded["weight"])
    got["weight"][0] = -1
    assert loaded["weight"][0] == 0


def test_a_file_that_is_gone_or_replaced_is_no_map_any_more(mapped: Any, tmp_path: Path):
    mapped[0] = 5
    before = np.array(mapped)
    Path(mapped.filename).unlink()
    memory = InFiles()
    assert np.array_equal(travel(mapped, memory), before)
    assert memory.stored == [60_000]
    Path(mapped.filename).write_bytes(bytes(60_000))
    assert np.array_equal(travel(mapped, memory), before)


def test_a_file_that_is_replaced_on_the_way_is_an_error(mapped: Any, tmp_path: Path):
    memory: Any = InFiles()
    stream = objects.dump(mapped, memory, objects.Labels(), prefix="")
    (tmp_path / "new").write_bytes(bytes(60_000))
    (tmp_path / "new").replace(mapped.filename)
    with pytest.raises(FileNotFoundError, match=r"x\.dat, which is mapped in the session, is missing"):
        objects.load(stream, memory, objects.Labels(), {})


def test_memory_of_no_file():
    memory = InFiles()
    travel([np.zeros(1000), torch.zeros(2000)], memory)
    assert sorted(memory.stored) == [8000, 8000]
    assert mapped_files.find_array(np.zeros(1000)) is None
