"""The installed torch has every private API that mlnb uses, and each does what mlnb takes it to do."""

from __future__ import annotations

import ast
import gc
import inspect
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch.distributed import distributed_c10d
from torch.storage import TypedStorage, UntypedStorage
from torch.utils.data import BatchSampler, DataLoader, SequentialSampler, TensorDataset

import mlnb
from mlnb.errors import MlnbError
from mlnb.node import torch_private
from mlnb.node.torch_private import Feature

ROOT = Path(mlnb.__file__).parent
DATA = TensorDataset(torch.arange(5.0))


def test_nothing_required_is_missing():
    assert torch_private.missing() == []


# What each of them does


def test_a_storage_has_one_identity():
    tensor = torch.arange(4.0)
    assert torch_private.storage_id(tensor.untyped_storage()) == torch_private.storage_id(tensor[2:].untyped_storage())
    empty, other = UntypedStorage(0), UntypedStorage(0)
    assert torch_private.storage_id(empty) != torch_private.storage_id(other)


def test_the_use_count_counts_tensors_on_a_storage():
    count = torch_private.storage_use_count
    if count is None:
        pytest.skip("this torch does not count: gradient buffers are not reused")
    tensor = torch.arange(4.0)
    identity = torch_private.storage_id(tensor.untyped_storage())
    gc.collect()
    alone = count(identity)
    view = tensor[1:]
    assert count(identity) == alone + 1
    array = tensor.numpy()
    assert count(identity) > alone + 1
    del view, array
    assert count(identity) == alone


def test_typed_storages_wrap_untyped_ones_without_a_warning():
    storage = torch.arange(4.0).untyped_storage()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        typed = torch_private.typed_storage(storage, torch.float32)
        assert torch_private.untyped_storage(typed) is storage
    assert isinstance(typed, TypedStorage)
    assert typed.dtype == torch.float32


def test_flatten_copies_tensors_in_order():
    first, second = torch.ones(2, 3), torch.zeros(4)
    flat = torch_private.flatten_dense_tensors([first, second])
    assert flat.tolist() == [1.0] * 6 + [0.0] * 4
    flat[0] = 7
    assert first[0, 0] == 1


def test_unflatten_gives_views_and_may_leave_a_rest():
    flat = torch.arange(8.0)
    first, second = torch_private.unflatten_dense_tensors(flat, [torch.empty(2, 3), torch.empty(1)])
    assert first.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert second.tolist() == [6]
    first[0, 0] = 7
    assert flat[0] == 7


@pytest.mark.parametrize("copy", [torch_private.foreach_copy, torch_private._copy_each], ids=["torch", "fallback"])
def test_foreach_copy_copies_in_place(copy: Any):
    targets = [torch.zeros(2), torch.zeros(3)]
    copy(targets, [torch.ones(2), torch.full((3,), 2.0)])
    assert [target.tolist() for target in targets] == [[1, 1], [2, 2, 2]]


@pytest.fixture
def group(tmp_path: Path) -> Iterator[None]:
    dist.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


@pytest.mark.usefixtures("group")
def test_the_default_store_sets_checks_and_compares():
    """All that ``stop_consensus`` asks of it."""
    store = torch_private.default_store()
    assert not store.check(["mlnb/test"])
    store.set("mlnb/test", "1")
    assert store.check(["mlnb/test"])
    store.compare_set("mlnb/test", "1", "2")
    assert store.get("mlnb/test") == b"2"


def test_the_index_sampler_is_what_a_loader_draws_from(monkeypatch: pytest.MonkeyPatch):
    original = torch_private.index_sampler_property()
    loader = DataLoader(DATA, batch_size=2)
    assert isinstance(original.__get__(loader), BatchSampler)
    assert isinstance(original.__get__(DataLoader(DATA, batch_size=None)), SequentialSampler)
    monkeypatch.setattr(DataLoader, torch_private.INDEX_SAMPLER, property(lambda _: [[4], [0, 1]]))
    assert [batch.tolist() for (batch,) in loader] == [[4], [0, 1]]
    assert len(loader) == 2
    workers = DataLoader(DATA, num_workers=1)
    assert [batch.tolist() for (batch,) in workers] == [[4], [0, 1]]


def test_an_iterator_counts_its_batches():
    iterator = iter(DataLoader(DATA, batch_size=2))
    counts = [torch_private.batches_drawn(iterator) for _ in iterator]
    assert counts == [1, 2, 3]
    assert torch_private.batches_drawn(iter([])) == 0


def test_a_loader_with_persistent_workers_keeps_its_iterator():
    loader = DataLoader(DATA, num_workers=1, persistent_workers=True)
    assert not torch_private.has_persistent_iterator(loader)
    next(iter(loader))
    assert torch_private.has_persistent_iterator(loader)
    vars(loader).update(torch_private.without_iterator(vars(loader)))
    assert not torch_private.has_persistent_iterator(loader)


def test_a_marked_optimizer_tells_its_scheduler_that_it_has_stepped():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer)
    del optimizer.step  # as it is after unpickling
    torch_private.mark_steps(optimizer)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        optimizer.step()
        assert optimizer._opt_called
        scheduler.step()


def test_the_version_of_a_tensor_counts_changes_in_place():
    tensor = torch.zeros(2)
    before = torch_private.version(tensor)
    tensor.view(1, 2).add_(1)
    assert torch_private.version(tensor) == before + 1
    with torch.inference_mode():
        assert torch_private.version(torch.zeros(2).add_(1)) == 0


def test_print_options_are_those_that_were_set():
    torch.set_printoptions(precision=7)
    try:
        assert torch_private.print_options()["precision"] == 7
    finally:
        torch.set_printoptions(profile="default")


def test_signatures():
    assert "_internal" in inspect.signature(TypedStorage.__init__).parameters
    assert list(inspect.signature(torch_private.flatten_dense_tensors).parameters) == ["tensors"]
    assert list(inspect.signature(torch_private.unflatten_dense_tensors).parameters) == ["flat", "tensors"]
    assert not inspect.signature(distributed_c10d._get_default_store).parameters


# What happens without them

REQUIRED = {
    ("torch._utils", "_flatten_dense_tensors"): Feature.PARALLEL,
    ("torch._utils", "_unflatten_dense_tensors"): Feature.PARALLEL,
    ("torch.distributed.distributed_c10d", "_get_default_store"): Feature.STOP_CONSENSUS,
}


@pytest.mark.parametrize(("where", "feature"), REQUIRED.items(), ids=lambda value: str(value))
def test_a_missing_function_is_an_error_of_one_line(
    where: tuple[str, str], feature: Feature, monkeypatch: pytest.MonkeyPatch
):
    module, name = where
    monkeypatch.delattr(sys.modules[module], name)
    line = f"torch {torch.__version__} has no {module}.{name}, which mlnb needs for {feature.value}"
    assert torch_private.missing() == [line]
    assert torch_private.missing(Feature.DATA) == []
    with pytest.raises(MlnbError) as caught:
        torch_private.require.__wrapped__(feature)
    assert str(caught.value) == line


def test_a_missing_property_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(DataLoader, torch_private.INDEX_SAMPLER)
    (line,) = torch_private.missing(Feature.PARALLEL)
    assert line.startswith(f"torch {torch.__version__} has no DataLoader._index_sampler, which mlnb needs for training")
    (line,) = torch_private.missing(Feature.CHECKPOINTS)
    assert line.endswith("which mlnb needs for mlnb.epochs")


def test_epochs_are_refused_before_the_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("MLNB_CHECKPOINTS", str(tmp_path))
    monkeypatch.delattr(DataLoader, torch_private.INDEX_SAMPLER)
    torch_private.require.cache_clear()
    with pytest.raises(MlnbError, match=r"has no DataLoader\._index_sampler, which mlnb needs for mlnb\.epochs"):
        next(mlnb.epochs(1))


WITHOUT = """
import torch._utils, torch.optim
del torch._utils._flatten_dense_tensors, torch._C._storage_Use_Count
from mlnb.errors import MlnbError
from mlnb.node.parallel.gradients.buffer_pool import storage_use_count
from mlnb.node.parallel.data_parallel import DataParallel
from mlnb.node.rank import log
from mlnb.node.rank.training_hooks import TrainingHooks
from mlnb.node.torch_private import flatten_dense_tensors
assert storage_use_count is None
parallel = DataParallel(0, 2, list, TrainingHooks(log.Metrics()), print, str)
for call in (parallel.install, lambda: flatten_dense_tensors([])):
    try:
        call()
    except MlnbError as error:
        print(error)
"""


def test_several_ranks_are_refused_before_they_train():
    """And not by an ``AttributeError`` as modules are imported or batches are trained on."""
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=True)
    line = f"torch {torch.__version__} has no torch._utils._flatten_dense_tensors, which mlnb needs for training on"
    first, second = done.stdout.splitlines()
    assert first.startswith(line)
    assert second == first


# Nobody else touches torch's private names

OWNERS = (
    torch, torch.Tensor, torch.nn.Module, torch.optim.Optimizer, torch.optim.lr_scheduler.LRScheduler,
    torch.Generator, UntypedStorage, TypedStorage, distributed_c10d, torch.autograd, torch._utils, torch.cuda,
)  # fmt: skip
IMPORTED_EARLY = "torch._dynamo"
"""A module that ``preload.py`` imports ahead of the script, and uses nothing of."""


def torchs_private_names() -> set[str]:
    loader = DataLoader(DATA)
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    torch.optim.lr_scheduler.ConstantLR(optimizer)
    optimizer.step()
    names = {name for owner in (*OWNERS, loader, iter(loader), optimizer, optimizer.step) for name in dir(owner)}
    return {name for name in names if name.startswith("_") and not name.startswith("__")} | {"_internal"}


def private_uses(path: Path, private: set[str]) -> Iterator[str]:
    """Where a file names something private of torch: by attribute, import, keyword or string."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Attribute):
            own = isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}
            names = [] if own else [node.attr]
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "torch":
            names = [*str(node.module).split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names if alias.name.startswith("torch.") for part in alias.name.split(".")]
        elif isinstance(node, ast.keyword):
            names = [node.arg or ""]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            names = [] if node.value == IMPORTED_EARLY else [node.value.removeprefix("torch.")]
        else:
            continue
        yield from (f"{path.name}:{node.lineno}: {name}" for name in names if name in private)


def test_no_other_file_touches_them():
    private = torchs_private_names()
    assert {"_cdata", "_index_sampler", "_iterator", "_num_yielded", "_opt_called", "_C", "_foreach_copy_"} <= private
    ours = ROOT / "node" / "torch_private.py"
    assert len(list(private_uses(ours, private))) > 10
    uses = [use for path in sorted(ROOT.rglob("*.py")) if path != ours for use in private_uses(path, private)]
    assert uses == []
