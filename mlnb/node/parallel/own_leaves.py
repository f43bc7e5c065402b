"""Tells parameters from leaves that are a rank's own, once all ranks have described those that are new."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence

import torch

from mlnb.node.parallel.leaf_tensors import Leaf, differing
from mlnb.node.parallel.rank_group import RanksDiverged


class OwnLeaves:
    """The leaves of this rank that are no parameters, and those that may be."""

    def __init__(self) -> None:
        self._own: dict[int, weakref.ref[torch.Tensor]] = {}
        self._seen: dict[int, weakref.ref[torch.Tensor]] = {}
        self.batch_shapes: set[tuple[int, ...]] = set()
        """Shapes of the tensors of the current batch."""

    def has(self, leaf: torch.Tensor) -> bool:
        """Whether ``leaf`` is the rank's own."""
        reference = self._own.get(id(leaf))
        return reference is not None and reference() is leaf

    def sort(
        self, new: Sequence[torch.Tensor], leaves: Sequence[list[Leaf]]
    ) -> Iterator[tuple[torch.Tensor, bool, bool]]:
        """Yield new leaves, whether each is a parameter, and whether it will last.

        A leaf that is not an ``nn.Parameter`` may be made anew in each step (``w = (w - g).requires_grad_()``): it
        lasts if it is seen again.

        Parameters
        ----------
        leaves
            what the ranks have told of their new leaves, by rank.

        Raises
        ------
        RanksDiverged
            if ranks have different parameters, or the same with different values.
        """
        parameters = [[leaf for leaf in theirs if leaf.is_parameter] for theirs in leaves]
        difference = differing(parameters)
        if difference is not None:
            raise RanksDiverged(f"the models differ between the ranks: {difference}")
        if len({len(theirs) for theirs in leaves}) > 1:
            longest = max(leaves, key=len)
            raise RanksDiverged(f"not all ranks have come to {longest[-1]}: backward reaches it only on some")
        for index, tensor in enumerate(new):
            described = [theirs[index] for theirs in leaves]
            is_equal = len(set(described)) == 1
            if described[0].is_parameter and not is_equal:
                raise RanksDiverged(f"the ranks began with different values of {described[0]}: seed what makes them")
            if described[0].is_parameter:
                yield tensor, True, True
            elif is_equal and tuple(tensor.shape) not in self.batch_shapes:
                yield tensor, True, _note(self._seen, tensor)
            else:
                _note(self._own, tensor)
                yield tensor, False, False


def _note(table: dict[int, weakref.ref[torch.Tensor]], tensor: torch.Tensor) -> bool:
    """Add ``tensor``; return whether it was there."""
    key = id(tensor)
    reference = table.get(key)
    if reference is not None and reference() is tensor:
        return True
    table[key] = weakref.ref(tensor, lambda _: table.pop(key, None))
    return False
