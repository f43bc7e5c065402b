"""Averages gradients over the ranks before ``backward()`` returns.

This is a part of backward, not of the optimizer's step. So clipping, loss scaling, accumulation over several backwards
and line searches see the gradients that one process with the complete batch would have.

Which parameters get a gradient in a backward may differ between ranks, and from one backward to the next (if two models
take turns, for example). But all ranks must reduce the same tensors. So each rank predicts the parameters from earlier
backwards and sends their gradients in buckets, each as soon as it is full. The last bucket is sent at the end of the
backward and carries a flag, which is set if the prediction was wrong on any rank. Only then do the ranks exchange which
parameters have gradients, and send again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist

from mlnb.node.parallel.buffer_pool import BufferPool
from mlnb.node.torch_private import flatten_dense_tensors, foreach_copy, unflatten_dense_tensors

Key = tuple[int, ...]
"""Indices of the parameters that got a gradient, ascending."""

_BUCKET = 8 * 1024 * 1024
"""Bytes after which a bucket is full: large enough for the network, small enough to be sent before backward ends."""

_LARGE = 64 * 1024
"""Bytes of a gradient above which another pass over it costs more than another call."""


@dataclass
class _Bucket:
    """Parameters of one dtype on one device, whose gradients are reduced as one flat tensor that ends with the flag."""

    indices: list[int]
    dtype: torch.dtype
    device: torch.device
    missing: int = 0  # gradients that backward has not computed yet
    size: int = 0  # elements

    def is_large(self) -> bool:
        """Whether its gradients are few and large, rather than many and small."""
        return self.device.type == "cpu" and self.size * self.dtype.itemsize > _LARGE * len(self.indices)


@dataclass
class _Plan:
    """The buckets for one set of parameters."""

    indices: set[int]
    buckets: list[_Bucket]
    bucket_of: dict[int, _Bucket]


@dataclass
class _Reduction:
    """A bucket that is being reduced."""

    bucket: _Bucket
    flat: torch.Tensor
    gradients: tuple[torch.Tensor, ...]
    """Views of ``flat``, which will hold the averages."""

    work: dist.Work | None


class GradientAverager:
    """Averages the gradients of the parameters it was given.

    Call :meth:`begin` before each backward and :meth:`finish` after it.
    """

    def __init__(self) -> None:
        self._parameters: list[torch.Tensor] = []
        self._parameter_ids: set[int] = set()
        self._with_gradient: set[int] = set()  # indices, in this backward
        self._repeated = False  # a parameter got its gradient twice in this backward
        self._last: Key | None = None
        self._predictions: dict[Key | None, Key] = {}  # what followed on each key, last time
        self._plans: dict[Key, _Plan] = {}
        self._plan = _Plan(set(), [], {})
        self._unsent: list[_Bucket] = []
        self._reductions: list[_Reduction] = []
        self._pool = BufferPool()
        self._is_stopped = False

    def stop(self) -> None:
        """Average nothing from now on."""
        self._is_stopped = True

    def __len__(self) -> int:
        return len(self._parameters)

    def add(self, parameter: torch.Tensor) -> bool:
        """Average the gradients of ``parameter`` from now on; return whether it is new and requires gradients."""
        if id(parameter) in self._parameter_ids or not parameter.requires_grad:
            return False
        self._parameter_ids.add(id(parameter))
        index = len(self._parameters)
        self._parameters.append(parameter)
        parameter.register_post_accumulate_grad_hook(lambda _: self._on_gradient(index))
        return True

    def begin(self) -> None:
        """Predict the gradients of the next backward: those that followed on the last one before."""
        self._with_gradient.clear()
        self._repeated = False
        self._reductions = []
        self._pool.begin_exchange()
        self._use_plan(self._predictions.get(self._last, ()))

    def _use_plan(self, key: Key) -> None:
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._make_plan(key)
        self._plan = plan
        self._unsent = list(plan.buckets)
        for bucket in plan.buckets:
            bucket.missing = len(bucket.indices)

    def _make_plan(self, key: Key) -> _Plan:
        """Make buckets in the order in which backward fills them: the parameters that were created last come first."""
        buckets: list[_Bucket] = []
        for index in reversed(key):
            parameter = self._parameters[index]
            last = buckets[-1] if buckets else None
            if (
                last is None
                or (last.dtype, last.device) != (parameter.dtype, parameter.device)
                or last.size * last.dtype.itemsize >= _BUCKET
            ):
                last = _Bucket([], parameter.dtype, parameter.device)
                buckets.append(last)
            last.indices.append(index)
            last.size += parameter.numel()
        buckets = buckets or [_Bucket([], torch.float32, torch.device("cpu"))]
        return _Plan(set(key), buckets, {index: bucket for bucket in buckets for index in bucket.indices})

    def _on_gradient(self, index: int) -> None:
        """Note that a parameter got its gradient; send full buckets, except the last one, which has the flag."""
        if self._is_stopped:
            return
        if index in self._with_gradient:
            self._repeated = True
        self._with_gradient.add(index)
        bucket = self._plan.bucket_of.get(index)
        if bucket is None:
            return
        bucket.missing -= 1
        if not bucket.missing:
            while len(self._unsent) > 1 and self._unsent[0].missing <= 0:
                self._send(self._unsent.pop(0), True)

    def finish(self) -> None:
        """Average the gradients of the backward that has just returned.

        Raises
        ------
        RuntimeError
            for sparse gradients.
        """
        key = self._predictions.get(self._last)
        if key is None or not self._exchange(self._with_gradient == self._plan.indices and not self._repeated):
            key = self._agree(tuple(sorted(self._with_gradient)))
            self._use_plan(key)
            self._exchange(True)
            self._predictions[self._last] = key
        self._last = key

    def _agree(self, own: Key) -> Key:
        """Return the parameters that got a gradient on any rank."""
        device = self._parameters[0].device if self._parameters else torch.device("cpu")
        flags = torch.zeros(len(self._parameters), dtype=torch.int32, device=device)
        flags[list(own)] = 1
        dist.all_reduce(flags)
        return tuple(flags.nonzero().flatten().tolist())

    def _exchange(self, predicted: bool) -> bool:
        """Send the other buckets. If the prediction was right on all ranks, set the averages; return whether it was."""
        for bucket in self._unsent:
            self._send(bucket, predicted)
        reductions, self._reductions = self._reductions, []
        for reduction in reductions:
            if reduction.work is not None:
                reduction.work.wait()
        if reductions[-1].flat[-1].item():
            return False
        parameters = self._parameters
        for reduction in reductions:
            for index, gradient in zip(reduction.bucket.indices, reduction.gradients, strict=True):
                parameters[index].grad = gradient  # a view of the reduced tensor: nothing is copied
        return True

    def _send(self, bucket: _Bucket, predicted: bool) -> None:
        parts = [self._gradient(index) for index in bucket.indices]
        parameters = [self._parameters[index] for index in bucket.indices]
        share = 1 / dist.get_world_size()
        flag = 0.0 if predicted else 1.0
        if any(part.requires_grad for part in parts):  # create_graph: the averages must stay in the graph
            last_element = torch.full((1,), flag, dtype=bucket.dtype, device=bucket.device)
            flat = torch.cat([flatten_dense_tensors(parts) * share, last_element])
            views = unflatten_dense_tensors(flat, parameters)
        else:
            flat = self._pool.get(bucket.size + 1, bucket.dtype, bucket.device)
            views = unflatten_dense_tensors(flat, parameters)
            with torch.no_grad():
                if bucket.is_large():
                    for view, part in zip(views, parts, strict=True):
                        torch.mul(part, share, out=view)
                elif parts:  # no parameter may have got a gradient: then the bucket only carries the flag
                    foreach_copy(views, parts)
                    flat.mul_(share)
                flat[-1] = flag
        self._reductions.append(_Reduction(bucket, flat, views, dist.all_reduce(flat, async_op=True)))

    def _gradient(self, index: int) -> torch.Tensor:
        parameter = self._parameters[index]
        gradient = parameter.grad
        if gradient is None:
            return torch.zeros_like(parameter)
        if gradient.is_sparse:
            raise RuntimeError("sparse gradients can't be averaged: use DistributedDataParallel, or sparse=False")
        return gradient
