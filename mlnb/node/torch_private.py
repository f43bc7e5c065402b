"""The private APIs of torch that mlnb uses: each one here, and nowhere else in mlnb.

Torch may change or drop any of them in a release. ``tests/node/test_torch_private.py`` holds each against the installed
torch. If a required one is missing, the feature that needs it raises an error of one line (:func:`require`) before
anything is trained. The docstrings of optional ones say what mlnb does without them.

"Since 2.4" means: present in torch 2.4.0, the oldest version that mlnb supports, and perhaps before.
"""

from __future__ import annotations

import functools
import importlib
import sys
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum
from typing import Any, NoReturn

import torch
from torch.storage import TypedStorage, UntypedStorage
from torch.utils.data import DataLoader, TensorDataset

from mlnb.errors import MlnbError


class Feature(Enum):
    """What needs private APIs of torch, as error messages name it."""

    DATA = "sending tensors and data loaders between session and run"
    PARALLEL = "training on several ranks (--parallel none does without)"
    CHECKPOINTS = "mlnb.epochs"
    STOP_CONSENSUS = "mlnb.epochs on several ranks"


@dataclass(frozen=True)
class _Required:
    """A private API without which ``features`` do not work."""

    name: str
    features: tuple[Feature, ...]
    present: Callable[[], bool]


def missing(feature: Feature | None = None) -> list[str]:
    """One line for each required API that the installed torch lacks: which, in what version, and what needs it.

    ``feature`` leaves out what only others need. Optional APIs are never listed.
    """
    needed = [api for api in _REQUIRED if feature is None or feature in api.features]
    return [_line(api.name, feature or api.features[0]) for api in needed if not api.present()]


@functools.cache
def require(feature: Feature) -> None:
    """Raise :class:`MlnbError`, a line for each API, if the installed torch lacks something that ``feature`` needs."""
    if lines := missing(feature):
        raise MlnbError("\n".join(lines))


def _line(name: str, feature: Feature) -> str:
    return f"torch {torch.__version__} has no {name}, which mlnb needs for {feature.value}"


def _required(module: str, name: str, feature: Feature) -> Callable[..., Any]:
    """A function of torch; if it is gone, one that says so when it is called."""
    function: Callable[..., Any] | None = getattr(importlib.import_module(module), name, None)
    if function is not None:
        return function

    def gone(*_: Any, **__: Any) -> NoReturn:
        raise MlnbError(_line(f"{module}.{name}", feature))

    return gone


# Storages


def storage_id(storage: UntypedStorage) -> int:
    """``storage._cdata``: the address of torch's own storage object, the same for all Python objects of one storage.

    Since 2.4. Unlike ``data_ptr()`` it also tells empty storages apart. It may be reused once the storage is freed.
    """
    identity: int = storage._cdata
    return identity


storage_use_count: Callable[[int], int] | None = getattr(torch._C, "_storage_Use_Count", None)
"""``torch._C._storage_Use_Count``: how many tensors and the like refer to the storage of a :func:`storage_id`.

Optional. In 2.4 only CUDA builds have it (pytorch/pytorch#131881). Without it gradient buffers are not reused.
"""


def untyped_storage(storage: TypedStorage) -> UntypedStorage:
    """``TypedStorage._untyped_storage``: the storage below. Since 2.4. The public ``untyped()`` warns."""
    return storage._untyped_storage


def typed_storage(storage: UntypedStorage, dtype: torch.dtype) -> TypedStorage:
    """``TypedStorage(_internal=True)``: a typed storage over ``storage``, without a deprecation warning. Since 2.4."""
    return TypedStorage(wrap_storage=storage, dtype=dtype, _internal=True)


REBUILD_UNTYPED = ("torch._utils", "_rebuild_tensor_v3")
"""Module and name of what torch's pickles call for tensors of the newer types: float8, and unsigned of 16 to 64 bits.

Optional: an older torch names it nowhere.
"""


def rebuild_untyped(storage: UntypedStorage, *args: Any) -> torch.Tensor:
    """``torch._utils._rebuild_tensor_v3`` with the untyped storage that the pickle has; it takes typed ones only."""
    module, name = REBUILD_UNTYPED
    tensor: torch.Tensor = getattr(importlib.import_module(module), name)(typed_storage(storage, torch.uint8), *args)
    return tensor


# Many tensors as one

flatten_dense_tensors: Callable[[Sequence[torch.Tensor]], torch.Tensor] = _required(
    "torch._utils", "_flatten_dense_tensors", Feature.PARALLEL
)
"""``torch._utils._flatten_dense_tensors``: tensors of one dtype as a new tensor of shape (n,), in order. Since 2.4."""

unflatten_dense_tensors: Callable[[torch.Tensor, Sequence[torch.Tensor]], tuple[torch.Tensor, ...]] = _required(
    "torch._utils", "_unflatten_dense_tensors", Feature.PARALLEL
)
"""``torch._utils._unflatten_dense_tensors``: views of a tensor of shape (n,), shaped like the given tensors. Since 2.4.

The flat tensor may be longer than they need.
"""


def _copy_each(targets: Sequence[torch.Tensor], sources: Sequence[torch.Tensor]) -> None:
    for target, source in zip(targets, sources, strict=True):
        target.copy_(source)


foreach_copy: Callable[[Sequence[torch.Tensor], Sequence[torch.Tensor]], object] = getattr(
    torch, "_foreach_copy_", _copy_each
)
"""``torch._foreach_copy_``: copy each source into its target, in one call. Optional: without it, one call each."""


# Process groups


def default_store() -> Any:
    """``distributed_c10d._get_default_store()``: the key-value store of the default process group. Since 2.4.

    Torch has no public way to the store of a group that other code has initialised.
    """
    return _required("torch.distributed.distributed_c10d", "_get_default_store", Feature.STOP_CONSENSUS)()


def hidden_process_group(backend: str, store: Any, rank: int, world: int, timeout: timedelta) -> Any:
    """``distributed_c10d._update_default_pg``: make a process group that is not the default one. Since 2.4.

    Torch makes a group with several backends only as the default one, or as a part of that.
    """
    import torch.distributed as dist

    dist.init_process_group(backend, store=store, rank=rank, world_size=world, timeout=timeout)
    group = dist.group.WORLD
    set_default_group(None)
    return group


def set_default_group(group: Any) -> None:
    """Make ``group`` what ``torch.distributed`` takes for the default process group; ``None`` for none."""
    _required("torch.distributed.distributed_c10d", "_update_default_pg", Feature.PARALLEL)(group)


# The graph of autograd

ACCUMULATE: Any = getattr(getattr(torch._C, "_functions", None), "AccumulateGrad", type(None))
"""``torch._C._functions.AccumulateGrad``: the class of the nodes that lead to leaves (``node.variable``). Since 2.4."""


WRITERS = "torch._tensor"
"""What the names of torch's modules begin with that write a tensor as text, for ``print`` and the like. Optional."""


def saved(node: Any, name: str) -> Any:
    """``node._saved_NAME``: what an operation has saved for its backward. Since 2.4.

    Optional: ``None`` without it, so that fewer losses are known to be no means.
    """
    return getattr(node, f"_saved_{name}", None)


def raw_item(tensor: torch.Tensor) -> Any:
    """``torch._C.TensorBase.item``: ``item()`` as torch has it, where mlnb has replaced that of tensors. Since 2.4."""
    return torch._C.TensorBase.item(tensor)


def raw_detach(tensor: torch.Tensor) -> torch.Tensor:
    """``torch._C.TensorBase.detach``, as :func:`raw_item`."""
    return torch._C.TensorBase.detach(tensor)


def raw_data() -> Any:
    """``torch._C.TensorBase.data``: the attribute ``data`` as torch has it. Since 2.4."""
    return torch._C.TensorBase.data


def is_transformed(tensor: torch.Tensor) -> bool:
    """``torch._C._functorch``: whether a transformation of ``torch.func`` works with ``tensor``. Since 2.4."""
    return bool(torch._C._functorch.is_functorch_wrapped_tensor(tensor))


def is_transforming() -> bool:
    """``torch._C._functorch.maybe_current_level``: whether a transformation of ``torch.func`` is at work. Optional."""
    level = getattr(torch._C._functorch, "maybe_current_level", None)
    return level is not None and level() is not None


_compiled: list[tuple[Callable[..., Any], Callable[..., Any]]] = []  # kept, since torch knows functions by their ids


def compile_as(original: Callable[..., Any], wrapper: Callable[..., Any]) -> None:
    """``torch.jit._builtins``: have ``torch.jit`` compile ``original`` where code calls ``wrapper``. Since 2.4.

    Optional: without it, code that calls ``wrapper`` can't be compiled. Functions of Python need nothing private.
    """
    builtins = getattr(torch.jit, "_builtins", None)
    find, register = getattr(builtins, "_find_builtin", None), getattr(builtins, "_register_builtin", None)
    operator = find(original) if find is not None else None
    if operator is None:
        wrapper.__prepare_scriptable__ = lambda: original  # type: ignore[attr-defined]
    elif register is not None:
        _compiled.append((original, wrapper))
        register(wrapper, operator)


tree_map: Callable[..., Any] = _required("torch.utils._pytree", "tree_map", Feature.PARALLEL)
"""``torch.utils._pytree.tree_map``: call a function for each leaf of nested containers. Since 2.4."""

tree_leaves: Callable[..., list[Any]] = _required("torch.utils._pytree", "tree_leaves", Feature.PARALLEL)
"""``torch.utils._pytree.tree_leaves``: the leaves of nested containers. Since 2.4."""


# Data loaders

INDEX_SAMPLER = "_index_sampler"
"""``DataLoader._index_sampler``: the property that gives loaders, their iterators and ``len`` the batches of indices.

(Single indices, without automatic batching.) Since 2.4. Replaced in order to shard batches and to skip those done.
"""


def index_sampler_property() -> property:
    """The property :data:`INDEX_SAMPLER` of ``DataLoader`` as it is now: torch's own, or what has replaced it."""
    current: property = vars(DataLoader)[INDEX_SAMPLER]
    return current


def batches_drawn(iterator: Any) -> int:
    """``_BaseDataLoaderIter._num_yielded``: how many batches an iterator of a ``DataLoader`` has returned.

    Optional: 0 without it (and for other iterators), so that no ``samples_per_s`` is logged.
    """
    return int(getattr(iterator, "_num_yielded", 0))


_ITERATOR = "_iterator"


def has_persistent_iterator(loader: DataLoader[Any]) -> bool:
    """``DataLoader._iterator``: whether a loader keeps an iterator, with its persistent workers. Since 2.4."""
    return getattr(loader, _ITERATOR) is not None


def end_persistent_iterator(loader: DataLoader[Any]) -> None:
    """Let a loader make a new iterator, with new workers: the one that it keeps has its batches of indices for good."""
    setattr(loader, _ITERATOR, None)


def without_iterator(state: dict[str, Any]) -> dict[str, Any]:
    """The attributes of a ``DataLoader`` for one that has not been iterated yet. Since 2.4."""
    return {**state, _ITERATOR: None}


# Optimizers and schedulers


def mark_steps(optimizer: torch.optim.Optimizer) -> None:
    """Wrap ``optimizer.step`` as the constructor of a scheduler does, for a scheduler that was loaded instead.

    ``step._wrapped_by_lr_sched`` and ``Optimizer._opt_called``: schedulers look at them in order to warn of a
    ``scheduler.step()`` before the first ``optimizer.step()``. Since 2.4. Optional: a torch that looks at neither has
    nothing to warn of.
    """
    function = getattr(optimizer.step, "__func__", None)
    if function is None or hasattr(optimizer.step, "_wrapped_by_lr_sched"):
        return
    reference = weakref.ref(optimizer)

    @functools.wraps(function)
    def step(*args: Any, **kwargs: Any) -> Any:
        stepping: Any = reference()
        stepping._opt_called = True
        return function.__get__(stepping, type(stepping))(*args, **kwargs)

    step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]
    optimizer.step = step  # type: ignore[method-assign]


def is_wrapped_by_scheduler(step: Any) -> bool:
    """``step._wrapped_by_lr_sched``: whether a scheduler has wrapped an optimizer's ``step``. Optional, since 2.4."""
    return hasattr(step, "_wrapped_by_lr_sched")


# Hooks of tensors


def tensor_hooks(tensor: torch.Tensor) -> Any:
    """``Tensor._backward_hooks``: the hooks of ``register_hook`` by their numbers, or ``None``. Since 2.4."""
    return tensor._backward_hooks


def set_tensor_hooks(tensor: torch.Tensor, hooks: Any) -> None:
    """Set :func:`tensor_hooks`; handles that hold the same dictionary remove hooks from it."""
    tensor._backward_hooks = hooks


def post_accumulate_hooks(tensor: torch.Tensor) -> Any:
    """``Tensor._post_accumulate_grad_hooks``: as :func:`tensor_hooks`. Since 2.4."""
    return tensor._post_accumulate_grad_hooks


def set_post_accumulate_hooks(tensor: torch.Tensor, hooks: Any) -> None:
    """Set :func:`post_accumulate_hooks`."""
    tensor._post_accumulate_grad_hooks = hooks


def version(tensor: torch.Tensor) -> int:
    """``Tensor._version``: how often its storage was changed in place; 0 if made in inference mode. Since 2.4."""
    return 0 if tensor.is_inference() else tensor._version


def print_options() -> dict[str, Any]:
    """``torch._tensor_str.PRINT_OPTS``: what ``torch.set_printoptions`` has set. Since 2.4; optional: else empty."""
    options = getattr(sys.modules.get("torch._tensor_str"), "PRINT_OPTS", None)
    return dict(vars(options)) if options is not None else {}


def _has(module: str, name: str) -> Callable[[], bool]:
    def present() -> bool:
        try:
            return hasattr(importlib.import_module(module), name)
        except ImportError:
            return False

    return present


def _tensors_have(name: str) -> Callable[[], bool]:
    return lambda: hasattr(torch.Tensor, name)


def _typed_storages() -> bool:
    storage = torch.empty(1).untyped_storage()
    try:
        return untyped_storage(typed_storage(storage, torch.float32)) is storage
    except (TypeError, AttributeError):
        return False


def _loaders_keep_iterators() -> bool:
    return hasattr(DataLoader(TensorDataset(torch.empty(1))), _ITERATOR)


_REQUIRED = (
    _Required("torch.UntypedStorage._cdata", (Feature.DATA,), lambda: hasattr(UntypedStorage, "_cdata")),
    _Required("torch.TypedStorage._untyped_storage", (Feature.DATA,), _typed_storages),
    _Required("torch.Tensor._backward_hooks", (Feature.DATA,), _tensors_have("_backward_hooks")),
    _Required(
        "torch.Tensor._post_accumulate_grad_hooks", (Feature.DATA,), _tensors_have("_post_accumulate_grad_hooks")
    ),
    _Required("torch.Tensor._version", (Feature.DATA,), _tensors_have("_version")),
    _Required("DataLoader._iterator", (Feature.DATA,), _loaders_keep_iterators),
    _Required(
        "torch._utils._flatten_dense_tensors", (Feature.PARALLEL,), _has("torch._utils", "_flatten_dense_tensors")
    ),
    _Required(
        "torch._utils._unflatten_dense_tensors", (Feature.PARALLEL,), _has("torch._utils", "_unflatten_dense_tensors")
    ),
    _Required(
        "torch.distributed.distributed_c10d._update_default_pg",
        (Feature.PARALLEL,),
        _has("torch.distributed.distributed_c10d", "_update_default_pg"),
    ),
    _Required("torch._C._functions.AccumulateGrad", (Feature.PARALLEL,), lambda: ACCUMULATE is not type(None)),
    *(
        _Required(f"torch.utils._pytree.{name}", (Feature.PARALLEL,), _has("torch.utils._pytree", name))
        for name in ("tree_map", "tree_leaves")
    ),
    _Required("torch._C.TensorBase", (Feature.PARALLEL,), _has("torch._C", "TensorBase")),
    _Required(
        "torch._C._functorch.is_functorch_wrapped_tensor",
        (Feature.PARALLEL,),
        _has("torch._C._functorch", "is_functorch_wrapped_tensor"),
    ),
    _Required(
        "DataLoader._index_sampler",
        (Feature.CHECKPOINTS, Feature.STOP_CONSENSUS, Feature.PARALLEL),
        lambda: isinstance(vars(DataLoader).get(INDEX_SAMPLER), property),
    ),
    _Required(
        "torch.distributed.distributed_c10d._get_default_store",
        (Feature.STOP_CONSENSUS,),
        _has("torch.distributed.distributed_c10d", "_get_default_store"),
    ),
)
