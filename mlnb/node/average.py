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

Key = tuple[int, ...]
"""Indices of the parameters that got a gradient, ascending."""

_BUCKET = 8 * 1024 * 1024
"""Bytes after which a bucket is full: large enough for the network, small enough to leave before backward ends."""


@dataclass
class _Bucket:
    """Parameters of one type on one device, whose gradients travel as one tensor."""

    indices: list[int]
    dtype: torch.dtype
    device: torch.device
    missing: int = 0


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
        self._plans: dict[Key, list[_Bucket]] = {}
        self._waiting: list[_Bucket] = []
        self._bucket_of: dict[int, _Bucket] = {}
        self._sent: list[tuple[_Bucket, torch.Tensor, dist.Work | None]] = []

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
        expected = self._next.get(self._last)
        self._expect(expected if expected is not None else ())

    def _expect(self, key: Key) -> None:
        if key not in self._plans:
            self._plans[key] = self._plan(key)
        self._waiting = list(self._plans[key])
        self._bucket_of = {index: bucket for bucket in self._waiting for index in bucket.indices}
        for bucket in self._waiting:
            bucket.missing = len(bucket.indices)

    def _plan(self, key: Key) -> list[_Bucket]:
        """Buckets in the order in which backward fills them: the parameters that were made last come first."""
        buckets: list[_Bucket] = []
        size = 0
        for index in reversed(key):
            parameter = self._parameters[index]
            last = buckets[-1] if buckets else None
            if last is None or (last.dtype, last.device) != (parameter.dtype, parameter.device) or size >= _BUCKET:
                last, size = _Bucket([], parameter.dtype, parameter.device), 0
                buckets.append(last)
            last.indices.append(index)
            size += parameter.nbytes
        return buckets or [_Bucket([], torch.float32, torch.device("cpu"))]

    def _fire(self, index: int) -> None:
        """A parameter has its gradient: send what has become full, except the last bucket, which has the last word."""
        if index in self._fired:
            self._again = True
        self._fired.add(index)
        bucket = self._bucket_of.get(index)
        if bucket is None:
            return
        bucket.missing -= 1
        while len(self._waiting) > 1 and self._waiting[0].missing <= 0:
            self._send(self._waiting.pop(0), True)

    def finish(self) -> None:
        """Average what the backward that has just returned left on the ranks.

        Raises
        ------
        RuntimeError
            for sparse gradients.
        """
        fired = tuple(sorted(self._fired))
        expected = self._next.get(self._last)
        if expected is None or not self._exchange(fired == expected and not self._again):
            expected = self._agree(fired)
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
        for _, _, work in sent:
            if work is not None:
                work.wait()
        if sent[-1][1][-1].item():
            return False
        world = dist.get_world_size()
        for bucket, flat, _ in sent:
            self._take(bucket, flat[:-1].div_(world))
        return True

    def _send(self, bucket: _Bucket, as_expected: bool) -> None:
        mark = torch.full((1,), 0.0 if as_expected else 1.0, dtype=bucket.dtype, device=bucket.device)
        parts = [self._gradient(index) if as_expected else self._zeros(index) for index in bucket.indices]
        flat = torch.cat([*parts, mark])
        self._sent.append((bucket, flat, dist.all_reduce(flat, async_op=True)))

    def _zeros(self, index: int) -> torch.Tensor:
        parameter = self._parameters[index]
        return torch.zeros(parameter.numel(), dtype=parameter.dtype, device=parameter.device)

    def _gradient(self, index: int) -> torch.Tensor:
        gradient = self._parameters[index].grad
        if gradient is None:
            return self._zeros(index)
        if gradient.is_sparse:
            raise RuntimeError("sparse gradients can't be averaged here: use DistributedDataParallel or sparse=False")
        return gradient.reshape(-1)

    def _take(self, bucket: _Bucket, flat: torch.Tensor) -> None:
        """The averages become the gradients, as views of what came: nothing is copied."""
        sizes = [self._parameters[index].numel() for index in bucket.indices]
        for index, part in zip(bucket.indices, flat.split(sizes), strict=True):
            parameter = self._parameters[index]
            parameter.grad = part.view(parameter.shape)
