"""Tensors with what pickle drops: gradients, hooks, attributes; and what becomes of one that was computed.

A tensor that was computed from others has a graph, which can't be sent. The copy still counts as computed: it has a
``grad_fn``, which raises an error if a backward pass arrives there. So nothing is left untrained silently.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import torch
from torch.nn.parameter import UninitializedBuffer, UninitializedParameter

from mlnb.node.torch_private import (
    post_accumulate_hooks,
    set_post_accumulate_hooks,
    set_tensor_hooks,
    tensor_hooks,
)

GRAPH_LOST = (
    "backward() arrived at a tensor that was computed in another process, where its graph is. Compute it in the same "
    "cell as the loss (in the session: again), or detach() it if what it was computed from shall not be trained"
)


def reduce_tensor(tensor: torch.Tensor) -> Any:
    """Reduce a tensor for pickle; ``NotImplemented`` if torch's own way loses nothing."""
    kind = type(tensor)
    if isinstance(tensor, (UninitializedParameter, UninitializedBuffer)):
        data = tensor.data
        return _uninitialized, (kind, tensor.requires_grad, data.dtype), vars(tensor) or None, None, None, _restore_dict
    state = _extras(tensor)
    if not state and tensor.grad_fn is None:
        return NotImplemented
    if tensor.grad_fn is not None:
        return _computed, (tensor.detach(),), state or None, None, None, set_extras
    if kind is torch.nn.Parameter:
        return _parameter, (tensor.detach(), tensor.requires_grad), state, None, None, set_extras
    if kind is torch.Tensor:
        return _leaf, (tensor.detach(), tensor.requires_grad), state, None, None, set_extras
    reduced = tensor.__reduce_ex__(5)
    if not isinstance(reduced, tuple) or len(reduced) != 2:
        return NotImplemented
    state.pop("attributes", None)  # torch sends those of subclasses
    return (*reduced, state, None, None, set_extras) if state else reduced


def _extras(tensor: torch.Tensor) -> dict[str, Any]:
    """What torch does not send with a tensor."""
    extras: dict[str, Any] = {"attributes": vars(tensor)} if getattr(tensor, "__dict__", None) else {}
    if (tensor.is_leaf or tensor.retains_grad) and tensor.grad is not None:
        extras["grad"] = tensor.grad
    if tensor.is_leaf and (hooks := _without_own(tensor_hooks(tensor))):
        extras["hooks"] = hooks
    if hooks := _without_own(post_accumulate_hooks(tensor)):
        extras["post_hooks"] = hooks
    return extras


def _without_own(hooks: Any) -> Any:
    """Hooks without those of mlnb, which every run registers itself; the same dictionary if there are none."""
    if not hooks or not any(_is_own(hook) for hook in hooks.values()):
        return hooks
    return OrderedDict((key, hook) for key, hook in hooks.items() if not _is_own(hook))


def _is_own(hook: Any) -> bool:
    return str(getattr(hook, "__module__", "")).startswith("mlnb.")


def take_over(live: torch.Tensor, new: torch.Tensor) -> None:
    """Give ``live`` the gradient, the hooks and the attributes of ``new``, which has come back in its place."""
    if live is not new and live.is_leaf == new.is_leaf:
        set_extras(live, _extras(new))


def _same_grad(live: torch.Tensor | None, new: torch.Tensor | None) -> torch.Tensor | None:
    """The gradient to set: the live object, with the new content, if there is one of that form."""
    if live is None or new is None or live.layout is not torch.strided or new.layout is not torch.strided:
        return new
    if live.shape != new.shape or live.dtype != new.dtype or live.device != new.device:
        return new
    if live.data_ptr() != new.data_ptr():
        live.data.copy_(new.data)
    return live


# Streams refer to these functions by name: older ones must still load.


class _GraphIsElsewhere(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, anchor: torch.Tensor, data: torch.Tensor) -> torch.Tensor:  # noqa: ARG004 - autograd's protocol
        # not a view of ``data``, so that it can be changed in place
        return data.new_empty(0).set_(data.untyped_storage(), data.storage_offset(), data.shape, data.stride())

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:  # noqa: ARG004 - autograd's protocol
        raise RuntimeError(GRAPH_LOST)


def _computed(data: torch.Tensor) -> torch.Tensor:
    with torch.enable_grad():
        computed: torch.Tensor = _GraphIsElsewhere.apply(torch.zeros((), requires_grad=True), data)  # type: ignore[no-untyped-call]
    return computed


def _leaf(data: torch.Tensor, requires_grad: bool) -> torch.Tensor:
    return data.requires_grad_(requires_grad)


def _parameter(data: torch.Tensor, requires_grad: bool) -> torch.nn.Parameter:
    return torch.nn.Parameter(data, requires_grad)


def _uninitialized(kind: Any, requires_grad: bool, dtype: torch.dtype) -> torch.Tensor:
    made: torch.Tensor = kind(requires_grad, dtype=dtype)
    return made


def _restore_dict(tensor: torch.Tensor, attributes: dict[str, Any]) -> None:
    vars(tensor).update(attributes)


def set_extras(tensor: torch.Tensor, extras: dict[str, Any]) -> None:
    """Give a tensor the gradient, hooks and attributes that another had; it loses its own."""
    attributes = getattr(tensor, "__dict__", None)
    if attributes is not None and (attributes or "attributes" in extras):
        attributes.clear()
        attributes.update(extras.get("attributes", {}))
    if "grad" in extras and not tensor.is_leaf:
        tensor.retain_grad()
    if tensor.is_leaf or tensor.retains_grad:
        tensor.grad = _same_grad(tensor.grad, extras.get("grad"))
    if tensor.is_leaf and ("hooks" in extras or tensor_hooks(tensor)):
        set_tensor_hooks(tensor, extras.get("hooks"))
    if "post_hooks" in extras or post_accumulate_hooks(tensor):
        set_post_accumulate_hooks(tensor, extras.get("post_hooks"))
