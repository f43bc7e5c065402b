"""Averages gradients over the ranks before ``backward()`` returns.

This is a part of backward, not of the optimizer's step. So clipping, loss scaling, accumulation over several backwards
and line searches see the gradients that one process with the complete batch would have.

Which parameters get a gradient in a backward may differ between ranks, and from one backward to the next (if two models
take turns, for example). But all ranks must reduce the same tensors. So each rank predicts the parameters from earlier
backwards and sends their gradients in buckets, each as soon as it is full. The last bucket is sent at the end of the
backward and carries a flag, which is set if the prediction was wrong on any rank. Only then do the ranks exchange which
parameters have gradients, and send again. It carries the loss as well, so that reading its mean costs nothing.

The graph of each backward is searched for leaves that were not there before: parameters that no optimizer has, or that
were frozen or did not exist before.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch

from mlnb.node.parallel.gradients import leaf_tensors
from mlnb.node.parallel.gradients.buffer_pool import BufferPool
from mlnb.node.parallel.gradients.own_leaves import OwnLeaves
from mlnb.node.parallel.together.mean import mean_over_ranks
from mlnb.node.parallel.together.rank_group import RankGroup
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

    work: Any


class GradientAverager:
    """Averages the gradients of the parameters it was given, and of those that a backward reaches.

    Call :meth:`begin` before each backward and :meth:`finish` after it.
    """

    def __init__(self) -> None:
        self.group: RankGroup | None = None
        self._parameters: list[torch.Tensor] = []
        self._parameter_ids: set[int] = set()
        self._new: list[torch.Tensor] = []  # leaves that this backward reaches and none before did
        self._own = OwnLeaves()
        self._with_gradient: set[int] = set()  # indices, in this backward
        self._repeated = False  # a parameter got its gradient twice in this backward
        self._last: Key | None = None
        self._predictions: dict[Key | None, Key] = {}  # what followed on each key, last time
        self._plans: dict[Key, _Plan] = {}
        self._plan = _Plan(set(), [], {})
        self._unsent: list[_Bucket] = []
        self._reductions: list[_Reduction] = []
        self._pool = BufferPool()
        self._sparse: set[int] = set()  # indices of parameters with sparse gradients
        self._is_inside = False  # a backward

    @property
    def parameters(self) -> Sequence[torch.Tensor]:
        """Those whose gradients are averaged."""
        return self._parameters

    def add(self, parameter: torch.Tensor) -> bool:
        """Average the gradients of ``parameter`` from now on; return whether it is new and requires gradients."""
        if id(parameter) in self._parameter_ids or not parameter.requires_grad or not parameter.is_leaf:
            return False
        self._parameter_ids.add(id(parameter))
        index = len(self._parameters)
        self._parameters.append(parameter)
        parameter.register_post_accumulate_grad_hook(lambda _: self._on_gradient(index))
        return True

    def begin_batch(self, batch: Any) -> None:
        """Begin another batch of the rank's own part of the data."""
        self._own.begin_batch({tuple(tensor.shape) for tensor in leaf_tensors.tensors_in(batch, 3)})

    @property
    def batch_sizes(self) -> set[int]:
        """The numbers of samples that the batch may have."""
        return self._own.batch_sizes

    def begin_loop(self, frame: FrameType | None) -> None:
        """Begin a loop over batches, in ``frame``."""
        self._own.begin_loop(frame)

    def begin(self, roots: Iterable[torch.Tensor]) -> None:
        """Predict the gradients of the next backward: those that followed on the last one before."""
        self._with_gradient.clear()
        self._repeated = False
        self._reductions = []
        self._new = []
        self.reach(roots)
        self._pool.begin_exchange()
        self._use_plan(self._predictions.get(self._last, ()))
        self._is_inside = True

    def reach(self, roots: Iterable[torch.Tensor]) -> None:
        """Note the new leaves that a backward from ``roots`` reaches: this backward, or one within it."""
        parameter_ids = self._parameter_ids
        for leaf in leaf_tensors.reached(roots):
            if id(leaf) not in parameter_ids and all(leaf is not new for new in self._new) and not self._own.has(leaf):
                self._new.append(leaf)

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
            if index in self._sparse:
                continue
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
        if not self._is_inside:
            return
        if index in self._with_gradient:
            self._repeated = True
        gradient = self._parameters[index].grad
        if gradient is not None and gradient.is_sparse != (index in self._sparse):
            self._repeated = True  # the ranks have to agree on that, too
        self._with_gradient.add(index)
        bucket = self._plan.bucket_of.get(index)
        if bucket is None:
            return
        bucket.missing -= 1
        if not bucket.missing:
            while len(self._unsent) > 1 and self._unsent[0].missing <= 0:
                self._send(self._unsent.pop(0), None)

    def finish(self, loss: torch.Tensor | None) -> torch.Tensor | None:
        """Average the gradients of the backward that has just returned.

        Parameters
        ----------
        loss
            this rank's part of the mean loss, if that shall be known on all ranks.

        Returns
        -------
        torch.Tensor, optional
            the mean loss, if ``loss`` could be sent together with the gradients: it has their type.

        Raises
        ------
        RuntimeError
            for models that differ between ranks.
        """
        self._is_inside = False
        key = self._predictions.get(self._last)
        predicted = self._with_gradient == self._plan.indices and not self._repeated and not self._new
        if key is not None:  # all ranks in a backward predict the same, so nothing is sent that another can't receive
            self._send_rest(predicted, loss)
        self._group.verify()
        if key is None or not self._complete(predicted, loss):
            key = self._agree(tuple(sorted(self._with_gradient)))
            self._use_plan(key)
            self._send_rest(True, loss)
            self._complete(True, loss)
            self._predictions[self._last] = key
        self._last = key
        return self._mean_loss

    def abandon(self) -> None:
        """The backward has failed."""
        self._is_inside = False

    @property
    def _group(self) -> RankGroup:
        assert self.group is not None
        return self.group

    def _agree(self, own: Key) -> Key:
        """Return the parameters that got a gradient on any rank, after new leaves were compared."""
        sparse = [index for index in own if getattr(self._parameters[index].grad, "is_sparse", False)]
        gathered = self._group.gather((leaf_tensors.describe(self._new), own, sparse))
        leaves = [theirs for theirs, _, _ in gathered]
        added: list[int] = []
        for tensor, is_parameter, is_lasting in self._own.sort(self._new, leaves):
            if not is_parameter:
                continue
            if is_lasting and self.add(tensor):
                added.append(len(self._parameters) - 1)
            elif tensor.grad is not None:
                tensor.grad = self.average(tensor.grad)
        found = {index for _, _, theirs in gathered for index in theirs}
        found |= {index for index in added if getattr(self._parameters[index].grad, "is_sparse", False)}
        if not found <= self._sparse:
            self._sparse |= found
            self._plans.clear()
        return tuple(sorted({*added, *(index for _, key, _ in gathered for index in key)}))

    def are_parameters(self, tensors: Sequence[torch.Tensor]) -> list[bool]:
        """Which of ``tensors`` are parameters; ranks compare the leaves among them that they do not know yet."""
        parameter_ids = self._parameter_ids
        new = [
            one
            for one in tensors
            if one.is_leaf and one.requires_grad and id(one) not in parameter_ids and not self._own.has(one)
        ]
        found = set(parameter_ids)
        if new:
            for tensor, is_parameter, is_lasting in self._own.sort(new, self._group.gather(leaf_tensors.describe(new))):
                if is_parameter:
                    found.add(id(tensor))
                    if is_lasting:
                        self.add(tensor)
        return [id(tensor) in found for tensor in tensors]

    def average(self, gradient: torch.Tensor) -> torch.Tensor:
        """Return the mean over all ranks of a gradient by itself; the graph of ``create_graph`` leads through it."""
        return mean_over_ranks(gradient, self._group)

    def _send_rest(self, predicted: bool, loss: torch.Tensor | None) -> None:
        for bucket in self._unsent:
            self._send(bucket, predicted, loss)

    def _complete(self, predicted: bool, loss: torch.Tensor | None) -> bool:
        """If the prediction was right on all ranks, set the averages; return whether it was."""
        self._mean_loss: torch.Tensor | None = None
        reductions, self._reductions = self._reductions, []
        last = reductions[-1].flat
        flag = None
        if not last.is_cpu:  # reading it would wait for the device
            flag = torch.tensor([not predicted], dtype=torch.int32)
            self._group.wait(self._group.all_reduce(flag))
        for reduction in reductions:
            self._group.wait(reduction.work)
        if (last[-1] if flag is None else flag).item():
            return False
        parameters = self._parameters
        for reduction in reductions:
            for index, gradient in zip(reduction.bucket.indices, reduction.gradients, strict=True):
                parameters[index].grad = gradient  # a view of the reduced tensor: nothing is copied
        if self._sparse:
            self._average_sparse(sorted(self._sparse & self._plan.indices))
        if loss is not None and _fits(loss, last):
            self._mean_loss = last[-2].detach().clone()
        return True

    def _send(self, bucket: _Bucket, predicted: bool | None, loss: torch.Tensor | None = None) -> None:
        """Send a bucket. The last one, which knows whether the prediction was right, carries the loss, too."""
        parts = [self._gradient(index) for index in bucket.indices]
        parameters = [self._parameters[index] for index in bucket.indices]
        share = 1 / self._group.world
        flag = 1.0 if predicted is False else 0.0
        if any(part.requires_grad for part in parts):  # create_graph: the averages must stay in the graph
            rest = torch.zeros(2, dtype=bucket.dtype, device=bucket.device)
            flat = torch.cat([flatten_dense_tensors(parts) * share, rest])
            views = unflatten_dense_tensors(flat, parameters)
        else:
            flat = self._pool.get(bucket.size + 2, bucket.dtype, bucket.device)
            views = unflatten_dense_tensors(flat, parameters)
            with torch.no_grad():
                if bucket.is_large():
                    for view, part in zip(views, parts, strict=True):
                        torch.mul(part, share, out=view)
                elif parts:  # no parameter may have got a gradient: then the bucket only carries the flag
                    foreach_copy(views, parts)
                    flat.mul_(share)
        with torch.no_grad():
            flat[-1] = flag
            if loss is not None and _fits(loss, flat):
                torch.mul(loss, share, out=flat[-2])
            else:
                flat[-2] = 0
        self._reductions.append(_Reduction(bucket, flat, views, self._group.all_reduce(flat)))

    def _gradient(self, index: int) -> torch.Tensor:
        parameter = self._parameters[index]
        gradient = parameter.grad
        if gradient is None:
            return torch.zeros_like(parameter)
        if gradient.is_sparse:
            return torch.zeros_like(parameter)  # in a bucket until all ranks know that it is sparse
        return gradient

    def _average_sparse(self, indices: Iterable[int]) -> None:
        """Average sparse gradients, whose rows differ between ranks."""
        for index in indices:
            parameter = self._parameters[index]
            gradient = parameter.grad
            own = None if gradient is None else gradient.coalesce()
            parts = self._group.gather(None if own is None else (own.indices().cpu(), own.values().cpu()))
            rows = torch.cat([part[0] for part in parts if part is not None], dim=1)
            values = torch.cat([part[1] for part in parts if part is not None]) / self._group.world
            mean = torch.sparse_coo_tensor(rows, values, parameter.shape, device=parameter.device).coalesce()
            parameter.grad = mean


def _fits(loss: torch.Tensor, flat: torch.Tensor) -> bool:
    return loss.dtype == flat.dtype and loss.device == flat.device
