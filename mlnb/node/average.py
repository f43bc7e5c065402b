"""Gradients averaged over the ranks when ``backward()`` returns.

As a part of backward, not of the optimizer's step: so clipping, loss scaling, accumulation over several backwards
and line searches see the gradients that one process with the whole batch would have.

Which parameters get a gradient in a backward may differ between ranks, and from one backward to the next (two
models in turn, say). All ranks must send the same, so they send what they expect from the backwards before, with a
mark if it turned out otherwise; only then do they first agree on what there is.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist

Key = tuple[int, ...]


class Averager:
    """Averages the gradients of the parameters it was given."""

    def __init__(self) -> None:
        self._parameters: list[torch.Tensor] = []
        self._known: set[int] = set()
        self._fired: set[int] = set()
        self._last: Key | None = None
        self._next: dict[Key | None, Key] = {}

    def add(self, parameter: torch.Tensor) -> bool:
        """Watch over ``parameter``; whether it was new."""
        if id(parameter) in self._known or not parameter.requires_grad:
            return False
        self._known.add(id(parameter))
        index = len(self._parameters)
        self._parameters.append(parameter)
        parameter.register_post_accumulate_grad_hook(lambda _: self._fired.add(index))
        return True

    def __len__(self) -> int:
        return len(self._parameters)

    def reduce(self) -> None:
        """Average what the backward that has just returned left on the ranks.

        Raises
        ------
        RuntimeError
            for sparse gradients.
        """
        fired = tuple(sorted(self._fired))
        self._fired.clear()
        expected = self._next.get(self._last)
        if expected is None or not self._exchange(expected, fired == expected):
            expected = self._agree(fired)
            self._exchange(expected, True)
            self._next[self._last] = expected
        self._last = expected

    def _agree(self, fired: Key) -> Key:
        """The parameters that got a gradient on any rank."""
        device = self._parameters[0].device if self._parameters else torch.device("cpu")
        flags = torch.zeros(len(self._parameters), dtype=torch.int32, device=device)
        flags[list(fired)] = 1
        dist.all_reduce(flags)
        return tuple(flags.nonzero().flatten().tolist())

    def _exchange(self, key: Key, as_expected: bool) -> bool:
        """Average the gradients of ``key``; whether all ranks had expected it (else nothing is changed)."""
        groups: dict[tuple[torch.dtype, torch.device], list[int]] = {}
        for index in key:
            parameter = self._parameters[index]
            groups.setdefault((parameter.dtype, parameter.device), []).append(index)
        mark = 0.0 if as_expected else 1.0
        if not groups:
            alone = torch.tensor([mark])
            dist.all_reduce(alone)
            return not alone.item()
        world = dist.get_world_size()
        sent: list[tuple[list[int], torch.Tensor]] = []
        for (dtype, device), indices in groups.items():
            parts = [self._gradient(index) if as_expected else self._zeros(index) for index in indices]
            flat = torch.cat([*parts, torch.full((1,), mark, dtype=dtype, device=device)])
            dist.all_reduce(flat)
            if flat[-1].item():
                return False
            sent.append((indices, flat.div_(world)))
        for indices, flat in sent:
            self._take(indices, flat)
        return True

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

    def _take(self, indices: list[int], flat: torch.Tensor) -> None:
        sources = flat[:-1].split([self._parameters[index].numel() for index in indices])
        targets = []
        for index, source in zip(indices, sources, strict=True):
            parameter: Any = self._parameters[index]
            if parameter.grad is None:
                parameter.grad = source.reshape(parameter.shape).clone()
            else:
                targets.append((parameter.grad, source.reshape(parameter.shape)))
        if targets:
            torch._foreach_copy_([one for one, _ in targets], [other for _, other in targets])
