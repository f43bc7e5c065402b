"""Gradients averaged over the ranks by the time ``backward()`` returns.

As a part of backward, not of the optimizer's step: so clipping, loss scaling, accumulation over several backwards
and line searches see the gradients that one process with the whole batch would have.

Which parameters get a gradient in a backward may differ between ranks, and from one backward to the next (two
models in turn, say). All ranks must send the same, so they send what they expect from the backwards before, in
buckets that leave as soon as they are full; the last one leaves at the end and carries a mark if anything turned out
otherwise. Only then do the ranks first agree on what there is, and send again.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist

from mlnb.node.parallel.buffer_pool import Flats
from mlnb.node.torch_private import flatten_dense_tensors, foreach_copy, unflatten_dense_tensors

Key = tuple[int, ...]
"""Indices of the parameters that got a gradient, ascending."""

_BUCKET = 8 * 1024 * 1024
"""Bytes after which a bucket is full: large enough for the network, small enough to leave before backward ends."""


_LARGE = 64 * 1024
"""Bytes of a gradient from which on another pass over it costs more than another call."""


@dataclass
class _Bucket:
    """Parameters of one type on one device, whose gradients travel as one tensor, and behind them a mark."""

    indices: list[int]
    dtype: torch.dtype
    device: torch.device
    missing: int = 0
    size: int = 0

    def large(self) -> bool:
        """Whether its gradients are rather large than many."""
        return self.device.type == "cpu" and self.size * self.dtype.itemsize > _LARGE * len(self.indices)


@dataclass
class _Plan:
    """How the gradients of some parameters travel."""

    indices: set[int]
    buckets: list[_Bucket]
    bucket_of: dict[int, _Bucket]


@dataclass
class _Sent:
    """A bucket on its way."""

    bucket: _Bucket
    flat: torch.Tensor
    gradients: tuple[torch.Tensor, ...]
    """The averages to be, as views of ``flat``."""

    work: dist.Work | None


class Averager:
    """Averages the gradients of the parameters it was given.

    :meth:`begin` comes before each backward, :meth:`finish` behind it.
    """

    def __init__(self) -> None:
        self._parameters: list[torch.Tensor] = []
        self._known: set[int] = set()
        self._fired: set[int] = set()
        self._again = False
        self._last: Key | None = None
        self._next: dict[Key | None, Key] = {}
        self._plans: dict[Key, _Plan] = {}
        self._plan = _Plan(set(), [], {})
        self._waiting: list[_Bucket] = []
        self._sent: list[_Sent] = []
        self._flats = Flats()

    def __len__(self) -> int:
        return len(self._parameters)

    def add(self, parameter: torch.Tensor) -> bool:
        """Watch over ``parameter``; whether it was new."""
        if id(parameter) in self._known or not parameter.requires_grad:
            return False
        self._known.add(id(parameter))
        index = len(self._parameters)
        self._parameters.append(parameter)
        parameter.register_post_accumulate_grad_hook(lambda _: self._fire(index))
        return True

    def begin(self) -> None:
        """Expect what came after the last backward before."""
        self._fired.clear()
        self._again = False
        self._sent = []
        self._flats.turn()
        self._expect(self._next.get(self._last, ()))

    def _expect(self, key: Key) -> None:
        plan = self._plans.get(key)
        if plan is None:
            plan = self._plans[key] = self._make_plan(key)
        self._plan = plan
        self._waiting = list(plan.buckets)
        for bucket in plan.buckets:
            bucket.missing = len(bucket.indices)

    def _make_plan(self, key: Key) -> _Plan:
        """Buckets in the order in which backward fills them: the parameters that were made last come first."""
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

    def _fire(self, index: int) -> None:
        """A parameter has its gradient: send what has become full, except the last bucket, which has the last word."""
        if index in self._fired:
            self._again = True
        self._fired.add(index)
        bucket = self._plan.bucket_of.get(index)
        if bucket is None:
            return
        bucket.missing -= 1
        if not bucket.missing:
            while len(self._waiting) > 1 and self._waiting[0].missing <= 0:
                self._send(self._waiting.pop(0), True)

    def finish(self) -> None:
        """Average what the backward that has just returned left on the ranks.

        Raises
        ------
        RuntimeError
            for sparse gradients.
        """
        expected = self._next.get(self._last)
        if expected is None or not self._exchange(self._fired == self._plan.indices and not self._again):
            expected = self._agree(tuple(sorted(self._fired)))
            self._expect(expected)
            self._exchange(True)
            self._next[self._last] = expected
        self._last = expected

    def _agree(self, fired: Key) -> Key:
        """The parameters that got a gradient on any rank."""
        device = self._parameters[0].device if self._parameters else torch.device("cpu")
        flags = torch.zeros(len(self._parameters), dtype=torch.int32, device=device)
        flags[list(fired)] = 1
        dist.all_reduce(flags)
        return tuple(flags.nonzero().flatten().tolist())

    def _exchange(self, as_expected: bool) -> bool:
        """Send the rest, take the averages; whether all ranks had expected it (else nothing is changed)."""
        for bucket in self._waiting:
            self._send(bucket, as_expected)
        sent, self._sent = self._sent, []
        for one in sent:
            if one.work is not None:
                one.work.wait()
        if sent[-1].flat[-1].item():
            return False
        parameters = self._parameters
        for one in sent:
            for index, gradient in zip(one.bucket.indices, one.gradients, strict=True):
                parameters[index].grad = gradient  # a view of what came: nothing is copied
        return True

    def _send(self, bucket: _Bucket, as_expected: bool) -> None:
        parts = [self._gradient(index) for index in bucket.indices]
        parameters = [self._parameters[index] for index in bucket.indices]
        share = 1 / dist.get_world_size()
        mark = 0.0 if as_expected else 1.0
        if any(part.requires_grad for part in parts):  # create_graph: they stay what their graph makes of them
            last = torch.full((1,), mark, dtype=bucket.dtype, device=bucket.device)
            flat = torch.cat([flatten_dense_tensors(parts) * share, last])
            views = unflatten_dense_tensors(flat, parameters)
        else:
            flat = self._flats.take(bucket.size + 1, bucket.dtype, bucket.device)
            views = unflatten_dense_tensors(flat, parameters)
            with torch.no_grad():
                if bucket.large():
                    for view, part in zip(views, parts, strict=True):
                        torch.mul(part, share, out=view)
                else:
                    foreach_copy(views, parts)
                    flat.mul_(share)
                flat[-1] = mark
        self._sent.append(_Sent(bucket, flat, views, dist.all_reduce(flat, async_op=True)))

    def _gradient(self, index: int) -> torch.Tensor:
        parameter = self._parameters[index]
        gradient = parameter.grad
        if gradient is None:
            return torch.zeros_like(parameter)
        if gradient.is_sparse:
            raise RuntimeError("sparse gradients can't be averaged here: use DistributedDataParallel or sparse=False")
        return gradient
