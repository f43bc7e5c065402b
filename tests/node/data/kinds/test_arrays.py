"""Arrays that share memory, with each other or with tensors, still do when they have travelled."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from tests.node.data.kinds.test_tensors import travel

SIZES = [3, 3000]


@pytest.mark.parametrize("size", SIZES)
def test_views_and_their_base(size: int):
    base = np.arange(4.0 * size).reshape(4, size)
    row, column, backwards = travel([base[1], base[:, 0], base[::-1], base])[:3]
    got = travel({"row": base[1], "back": base[::-1, ::2], "base": base, "column": base[:, 1]})
    assert all(np.array_equal(got[name], value) for name, value in {"row": base[1], "base": base}.items())
    assert np.array_equal(got["back"], base[::-1, ::2])
    got["base"][1, 0] = -1
    assert got["row"][0] == -1
    assert got["back"][2, 0] == -1
    got["column"][0] = 7
    assert got["base"][0, 1] == 7
    assert np.shares_memory(row, column)
    assert np.shares_memory(row, backwards)


@pytest.mark.parametrize("size", SIZES)
def test_an_array_and_a_tensor_over_it(size: int):
    array = np.zeros((4, size), dtype="float32")
    whole, part, row = travel([torch.from_numpy(array), torch.from_numpy(array[2:]), array[3]])
    other, again, whole_array = travel([torch.from_numpy(array[1:]), torch.from_numpy(array)[2], array])
    row[0] = 5
    assert whole[3, 0] == 5
    assert part[1, 0] == 5
    whole_array[2, 1] = 6
    assert other[1, 1] == 6
    assert again[1] == 6


@pytest.mark.parametrize("size", SIZES)
def test_an_array_over_a_parameter(size: int):
    weight = torch.nn.Parameter(torch.ones(size))
    got_array, got = travel([weight.detach().numpy(), weight])
    with torch.no_grad():
        got.mul_(3)
    assert (got_array == 3).all()
    assert isinstance(got, torch.nn.Parameter)


def test_arrays_that_share_nothing_are_as_dense_as_they_are():
    base = np.zeros((1000, 1000))
    sizes: list[int] = []

    class Counting:
        def storage(self, storage: Any, label: Any) -> Any:
            sizes.append(storage.nbytes())
            return ("bytes", bytes(8))

        def buffer(self, view: Any) -> Any:
            raise AssertionError

    from mlnb.node.data import objects

    sink: Any = Counting()
    objects.dump([base[:, 0], np.broadcast_to(np.float64(3), (1000,))], sink, objects.Labels(), prefix="")
    assert sizes == [8000, 8000]


@pytest.mark.parametrize(
    "array",
    [
        np.array(3.5),
        np.zeros((0, 4)),
        np.asfortranarray(np.arange(6.0).reshape(2, 3)),
        np.arange(24).reshape(2, 3, 4).transpose(2, 0, 1),
        np.array(["a", None], dtype=object),
        np.array([("x", 1)], dtype=[("name", "U3"), ("n", "i4")]),
        np.arange(3).astype(">i2"),
        np.array(["2020-01-01"], dtype="datetime64[D]"),
        np.broadcast_to(np.arange(3), (2, 3)),
    ],
    ids=str,
)
def test_arrays_of_every_form(array: Any):
    got = travel(array)
    assert np.array_equal(got, array)
    assert (got.dtype, got.shape, got.flags.writeable) == (array.dtype, array.shape, array.flags.writeable)


def test_what_can_not_be_written_to_stays_so():
    array = np.arange(3)
    array.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        travel(array)[0] = 1


def test_frames():
    frame = pd.DataFrame({"a": np.arange(2000), "b": np.arange(2000.0), "c": ["x"] * 2000})
    got = travel(frame)
    pd.testing.assert_frame_equal(got, frame)
    got.loc[0, "a"] = 9
    assert got.a[0] == 9


def test_shared_memory_of_processes():
    assert not travel(torch.zeros(3)).is_shared()
    shared = torch.zeros(3).share_memory_()
    assert travel(shared).is_shared()
    shared.numpy()  # now it can't be resized
    assert travel(shared).is_shared()
