"""Object streams keep identity, sharing and structure; large data is stored outside of the pickle."""

from __future__ import annotations

import types
from collections import OrderedDict, defaultdict, deque
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, TensorDataset

from mlnb.node.data import objects, storages
from mlnb.node.data.objects import INLINE, Labels, MissingDefinition, Stream
from mlnb.node.data.storages import CopiedFiles, MappedFiles

big = INLINE // 4 + 1
"""Number of floats that are stored outside of the pickle."""


class Sink:
    """Keeps the bulk as files of a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files: list[Path] = []

    def storage(self, storage: torch.UntypedStorage, label: str | None) -> storages.Location:
        return self.buffer(storages.view_of(storages.as_bytes(storage)))

    def buffer(self, view: memoryview) -> storages.Location:
        path = self.folder / f"{len(list(self.folder.iterdir()))}"
        path.write_bytes(view)
        self.files.append(path)
        return ("blob", len(self.files) - 1)


@pytest.fixture(params=[MappedFiles, CopiedFiles])
def travel(request: pytest.FixtureRequest, tmp_path: Path):
    """Send a value through a stream."""

    def loaded(value: Any, main: dict[str, Any] | None = None, **more: Any) -> Any:
        sink, reference = Sink(tmp_path), more.pop("reference", objects._no_reference)
        stream = objects.dump(
            value, sink, more.pop("labels", Labels()), prefix="", reference=reference, earlier=more.pop("sent", {})
        )
        labels = more.pop("other_labels", Labels())
        return objects.load(stream, request.param(sink.files), labels, main or {}, **more)

    return loaded


def bulk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir())


# identity


def test_an_optimizer_holds_the_parameters_of_its_model(travel):
    model = torch.nn.Linear(big, 1)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    model(torch.ones(big)).backward()
    optimizer.step()
    got = travel({"model": model, "optimizer": optimizer})
    held = got["optimizer"].param_groups[0]["params"]
    assert all(a is b for a, b in zip(held, got["model"].parameters(), strict=True))
    for old, new in zip(model.parameters(), got["model"].parameters(), strict=True):
        assert torch.equal(old, new)
        for key, state in optimizer.state[old].items():
            assert torch.equal(state, got["optimizer"].state[new][key])
    for objects_ in (got, {"model": model, "optimizer": optimizer}):
        objects_["optimizer"].zero_grad()
        objects_["model"](torch.ones(big)).backward()
        objects_["optimizer"].step()
    assert torch.equal(model.weight, got["model"].weight)


def test_a_scheduler_drives_its_optimizer(travel):
    optimizer = torch.optim.SGD(torch.nn.Linear(2, 2).parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    got = travel([optimizer, scheduler])
    assert got[1].optimizer is got[0]
    got[0].step()
    got[1].step()
    assert got[0].param_groups[0]["lr"] == 0.5
    assert optimizer.param_groups[0]["lr"] == 1.0


def test_a_loader_reads_its_dataset(travel):
    dataset = TensorDataset(torch.arange(8.0))
    generator = torch.Generator().manual_seed(5)
    loader = DataLoader(dataset, batch_size=2, shuffle=True, generator=generator)
    got = travel({"loader": loader, "dataset": dataset, "generator": generator})
    assert got["loader"].dataset is got["dataset"]
    assert got["loader"].generator is got["generator"]
    assert [batch[0].tolist() for batch in got["loader"]] == [batch[0].tolist() for batch in loader]


def test_views_share_their_storage_which_is_stored_once(travel, tmp_path: Path):
    base = torch.arange(float(big)).reshape(1, -1)
    parts = {"base": base, "part": base[:, 3:9], "turned": base.t(), "same": base.detach(), "again": base}
    got = travel(parts)
    assert bulk(tmp_path) == base.nbytes
    assert got["again"] is got["base"]
    got["part"][0, 0] = -1.0
    for name in ("base", "same"):
        assert got[name][0, 3] == -1.0
    assert got["turned"][3, 0] == -1.0
    assert base[0, 3] == 3.0


def test_tied_weights_stay_tied(travel):
    model = torch.nn.ModuleDict({"embed": torch.nn.Embedding(40, 40), "head": torch.nn.Linear(40, 40, bias=False)})
    model["head"].weight = model["embed"].weight
    got = travel(model)
    assert got["head"].weight is got["embed"].weight


@pytest.mark.parametrize(
    "tensor",
    [
        torch.tensor(3.5),
        torch.empty(0),
        torch.empty(0, 3),
        torch.arange(big),
        torch.arange(big).to(torch.bfloat16),
        torch.ones(big, dtype=torch.bool),
        torch.ones(big, dtype=torch.complex128),
        torch.arange(2 * big)[::2],
        torch.arange(big).expand(3, big),
        torch.nn.Parameter(torch.ones(big), requires_grad=False),
        torch.ones(big, requires_grad=True),
        torch.eye(50).to_sparse(),
    ],
    ids=lambda t: f"{t.dtype}-{tuple(t.shape)}-{t.layout}",
)
@pytest.mark.filterwarnings("ignore:Sparse")
def test_tensors_of_every_kind_are_unchanged(travel, tensor: torch.Tensor):
    got = travel(tensor)
    assert type(got) is type(tensor)
    assert (got.dtype, got.shape, got.layout, got.requires_grad) == (
        tensor.dtype,
        tensor.shape,
        tensor.layout,
        tensor.requires_grad,
    )
    if tensor.layout is torch.strided:
        assert got.stride() == tensor.stride()
        assert torch.equal(got, tensor)
    else:
        assert torch.equal(got.to_dense(), tensor.to_dense())


def test_what_is_loaded_can_be_written_to_and_no_file_changes(travel, tmp_path: Path):
    got = travel([torch.zeros(big), np.zeros(big)])
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    got[0] += 1
    got[1] += 1
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_arrays_and_frames_are_stored_outside_of_the_pickle(tmp_path: Path):
    array = np.arange(100_000, dtype=np.float64)
    table = pd.DataFrame({"a": np.arange(50_000), "b": np.random.default_rng(0).random(50_000)})
    sink = Sink(tmp_path)
    stream = objects.dump({"array": array, "same": array, "table": table}, sink, Labels(), prefix="")
    assert len(stream.data) < 20_000
    assert bulk(tmp_path) >= array.nbytes + 2 * 50_000 * 8
    got = objects.load(stream, MappedFiles(sink.files), Labels(), {})
    assert got["same"] is got["array"]
    np.testing.assert_array_equal(got["array"], array)
    pd.testing.assert_frame_equal(got["table"], table)


def test_arrays_of_every_kind(travel):
    arrays = {
        "small": np.arange(3),
        "fortran": np.asfortranarray(np.random.default_rng(0).random((80, 90))),
        "strided": np.arange(20_000)[::2],
        "dates": np.arange(4000).astype("datetime64[D]"),
        "objects": np.array([None, "x", 3], dtype=object),
        "empty": np.empty((0, 3)),
    }
    got = travel(arrays)
    for name, array in arrays.items():
        np.testing.assert_array_equal(got[name], array)
        assert got[name].dtype == array.dtype


def test_generators_continue_where_they_were(travel):
    torch_one, numpy_one = torch.Generator().manual_seed(3), np.random.default_rng(3)
    torch.rand(5, generator=torch_one), numpy_one.random(5)
    got = travel({"torch": torch_one, "numpy": numpy_one, "also": torch_one})
    assert got["also"] is got["torch"]
    assert torch.equal(torch.rand(9, generator=got["torch"]), torch.rand(9, generator=torch_one))
    assert (got["numpy"].random(9) == numpy_one.random(9)).all()


def test_modules_are_stored_by_name(travel):
    got = travel({"np": np, "math": __import__("math"), "nn": torch.nn})
    assert got == {"np": np, "math": __import__("math"), "nn": torch.nn}


@st.composite
def webs(draw: st.DrawFn) -> list[Any]:
    """Containers in any nesting, some of them in several places, some in themselves."""
    leaves = st.none() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=4) | st.binary(max_size=4)
    made: list[Any] = []
    for _ in range(draw(st.integers(1, 8))):
        parts = draw(st.lists(st.sampled_from(made) if made and draw(st.booleans()) else leaves, max_size=4))
        kind = draw(st.sampled_from([list, tuple, dict, deque, OrderedDict, torch.tensor, np.array, bytearray]))
        if kind in (dict, OrderedDict):
            made.append(kind(enumerate(parts)))
        elif kind in (torch.tensor, np.array):
            made.append(kind([1.0] * draw(st.sampled_from([1, 3, big]))))
        elif kind is bytearray:
            made.append(bytearray(draw(st.binary(max_size=9))))
        else:
            made.append(kind(parts))
    lists = [item for item in made if isinstance(item, list)]
    if lists and draw(st.booleans()):
        lists[0].append(draw(st.sampled_from(made)))  # perhaps itself
    return made


def shape(value: Any, numbers: dict[int, int]) -> Any:
    """What a value is, with a number for each object that was met before."""
    if isinstance(value, (int, float, str, bytes, type(None))):
        return value
    if id(value) in numbers:
        return ("again", numbers[id(value)])
    numbers[id(value)] = len(numbers)
    if isinstance(value, dict):
        return (type(value), [(key, shape(part, numbers)) for key, part in value.items()])
    if isinstance(value, (list, tuple, deque)):
        return (type(value), [shape(part, numbers) for part in value])
    if isinstance(value, torch.Tensor):
        return ("tensor", value.tolist())
    return (type(value), list(value))


@given(webs())
def test_any_graph_of_plain_containers_is_the_same_graph_after_loading(web: list[Any]):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        sink = Sink(Path(folder))
        stream = objects.dump(web, sink, Labels(), prefix="")
        got = objects.load(stream, CopiedFiles(sink.files), Labels(), {})
    empty = {id(()): -1}  # the empty tuple is one object everywhere
    assert shape(got, dict(empty)) == shape(web, dict(empty))


# definitions


def cell(source: str, **names: Any) -> dict[str, Any]:
    """A namespace as a notebook's ``__main__``."""
    namespace = {"__name__": "__main__", **names}
    exec(source, namespace)
    return namespace


_NET = """
import torch
class Net(torch.nn.Module):
    class Inner: pass
    def __init__(self, width):
        super().__init__()
        self.layer = torch.nn.Linear(width, 1)
def double(x): return 2 * x
"""


def test_definitions_of_the_notebook_are_referred_to_by_name(travel):
    sender, receiver = cell(_NET), cell(_NET.replace("2 * x", "20 * x"))
    value = {
        "net": sender["Net"](3),
        "class": sender["Net"],
        "inner": sender["Net"].Inner(),
        "function": sender["double"],
    }
    got = travel(value, receiver, reference=lambda obj: objects.main_name(obj, [sender]))
    assert type(got["net"]) is receiver["Net"] is got["class"]
    assert type(got["inner"]) is receiver["Net"].Inner
    assert got["function"](1) == 20
    assert torch.equal(got["net"].layer.weight, value["net"].layer.weight)


def test_missing_definitions_are_listed_and_the_rest_is_loaded(travel):
    here = cell(_NET)
    missing: set[str] = set()
    value = {"net": here["Net"](3), "numbers": [1, 2], "function": here["double"], "inner": here["Net"].Inner()}
    got = travel(value, {}, reference=lambda obj: objects.main_name(obj, [here]), missing=missing)
    assert missing == {"Net", "double", "Net.Inner"}
    assert got["numbers"] == [1, 2]
    assert isinstance(got["net"], MissingDefinition)


def test_a_missing_definition_is_an_error_without_a_list(travel):
    here = cell(_NET)
    with pytest.raises(AttributeError, match="Net is not defined"):
        travel(here["Net"](3), {}, reference=lambda obj: objects.main_name(obj, [here]))


def test_names_of_other_modules_are_no_names_of_the_notebook():
    assert objects.main_name(Path, [{"Path": Path}]) is None
    here = cell("def f(): pass")
    assert objects.main_name(here["f"], [{}]) is None
    assert objects.main_name(here["f"], [{}, here]) == "f"


def test_a_visitor_sees_every_object_and_may_refuse(tmp_path: Path):
    visited: list[Any] = []
    model = torch.nn.Linear(2, 2)
    value = {"deep": [model]}
    objects.dump(value, Sink(tmp_path), Labels(), prefix="", visit=visited.append)
    assert any(item is model for item in visited)
    assert any(item is value["deep"] for item in visited)

    def refuse(obj: Any) -> None:
        if obj is model:
            raise ValueError("not this one")

    with pytest.raises(ValueError, match="not this one"):
        objects.dump(value, Sink(tmp_path), Labels(), prefix="", visit=refuse)


# labels: what comes back is written where it came from


def test_results_are_written_into_the_storages_that_were_sent(travel):
    live = torch.zeros(big)
    view = live[5:]
    here = Labels()
    away, away_labels = Labels(), here
    sent = travel([live], labels=here, other_labels=away)
    sent[0] += 7
    got = travel(sent, labels=away, live=away_labels)
    assert live[0] == view[0] == 7.0
    assert got[0].data_ptr() == live.data_ptr()


def test_a_storage_that_changed_its_size_is_a_new_one(travel):
    live = torch.zeros(big)
    here, away = Labels(), Labels()
    sent = travel([live], labels=here, other_labels=away)
    sent[0].set_(torch.full((2 * big,), 3.0))
    away.add("0", sent[0].untyped_storage())
    got = travel(sent, labels=away, live=here)
    assert got[0].shape == (2 * big,)
    assert live.shape == (big,)
    assert (live == 0).all()


def test_a_stream_that_does_not_load_changes_nothing(tmp_path: Path):
    live = torch.zeros(big)
    here, away = Labels(), Labels()
    sink = Sink(tmp_path)
    got = objects.load(objects.dump([live], sink, here, prefix=""), CopiedFiles(sink.files), away, {})
    got[0] += 7
    away_cell = cell(_NET)
    sink = Sink(tmp_path)
    stream = objects.dump(
        [got[0], away_cell["Net"](1)],
        sink,
        away,
        prefix="out:",
        reference=lambda obj: objects.main_name(obj, [away_cell]),
    )
    with pytest.raises(AttributeError):
        objects.load(stream, CopiedFiles(sink.files), Labels(), {}, live=here)
    assert (live == 0).all()


def test_unchanged_large_data_is_not_read(tmp_path: Path):
    live = torch.full((big,), 2.0)
    here = Labels()
    objects.dump([live], Sink(tmp_path), here, prefix="")

    class Unchanged(Sink):
        def storage(self, storage: torch.UntypedStorage, label: str | None) -> storages.Location:
            return ("same", "no such file")

    stream = objects.dump([live], Unchanged(tmp_path), here, prefix="out:")
    got = objects.load(stream, CopiedFiles(run=tmp_path), Labels(), {}, live=here)
    assert got[0].data_ptr() == live.data_ptr()
    assert (live == 2).all()


# earlier streams


def test_values_of_earlier_streams_are_referred_to_by_name(travel):
    shared = [1, 2]
    first = travel({"shared": shared})
    got = travel({"holder": {"part": shared}}, sent={id(shared): "shared"}, earlier=first)
    assert got["holder"]["part"] is first["shared"]


# damage


@pytest.mark.parametrize("source", [MappedFiles, CopiedFiles])
def test_a_file_that_is_too_short_is_an_error(tmp_path: Path, source: type[MappedFiles]):
    sink = Sink(tmp_path)
    stream = objects.dump(torch.ones(big), sink, Labels(), prefix="")
    sink.files[0].write_bytes(b"\1" * 100)
    with pytest.raises((EOFError, RuntimeError, OSError)):
        objects.load(stream, source(sink.files), Labels(), {})


def test_a_truncated_stream_is_an_error(tmp_path: Path):
    sink = Sink(tmp_path)
    stream = objects.dump({"a": [1, 2, 3]}, sink, Labels(), prefix="")
    for cut in range(len(stream.data)):
        with pytest.raises(Exception):  # noqa: B017 - pickle's own, of many kinds
            objects.load(Stream(stream.data[:cut], stream.buffers), MappedFiles(sink.files), Labels(), {})


def test_views_of_tensors_are_their_bytes_row_by_row():
    tensor = torch.arange(6, dtype=torch.int16).reshape(2, 3)
    assert bytes(storages.view_of(tensor.t())) == tensor.t().contiguous().numpy().tobytes()
    assert bytes(storages.view_of(torch.empty(0))) == b""
    view = storages.view_of(torch.full((1000,), 7.0))  # the tensor itself is gone
    assert np.frombuffer(view, dtype=np.float32).tolist() == [7.0] * 1000


def test_default_values_and_plain_objects_are_loaded_again(travel):
    table = defaultdict(list, a=[1])
    point = types.SimpleNamespace(x=1, back=None)
    point.back = point
    got = travel({"table": table, "point": point})
    got["table"]["new"].append(2)
    assert got["table"] == {"a": [1], "new": [2]}
    assert got["point"].back is got["point"]
