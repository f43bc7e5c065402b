"""Tells parameters from leaves that are a rank's own, once all ranks have described those that are new.

A rank's own are inputs whose gradients the code wants: they differ between ranks. One that is a constant, as a
perturbation that begins at zero, has the shape of the batch, and was not there when the loop began.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import FrameType

import torch

from mlnb.node.parallel.gradients import leaf_tensors
from mlnb.node.parallel.gradients.leaf_tensors import Leaf, differing
from mlnb.node.parallel.identity_set import IdentitySet
from mlnb.node.parallel.together.rank_group import RanksDiverged


class OwnLeaves:
    """The leaves of this rank that are no parameters, and those that may be."""

    def __init__(self) -> None:
        self._own = IdentitySet()
        self._own_of_batch = IdentitySet()
        self._before = IdentitySet()
        self._older = IdentitySet()
        self._batch_shapes: set[tuple[int, ...]] = set()

    @property
    def batch_sizes(self) -> set[int]:
        """The first dimensions of the tensors of the batch."""
        return {shape[0] for shape in self._batch_shapes if shape}

    def begin_loop(self, frame: FrameType | None) -> None:
        """Note the leaves that are there before a loop that ``frame`` begins."""
        for leaf in leaf_tensors.of_variables(frame):
            self._older.add(leaf)

    def begin_batch(self, shapes: set[tuple[int, ...]]) -> None:
        """Begin a batch whose tensors have ``shapes``."""
        self._batch_shapes = shapes
        self._own_of_batch.clear()

    def has(self, leaf: torch.Tensor) -> bool:
        """Whether ``leaf`` is the rank's own.

        Raises
        ------
        RanksDiverged
            if it was there in an earlier batch: then it should not have been taken for an input.
        """
        if leaf not in self._own:
            return False
        if leaf not in self._own_of_batch:
            name = leaf_tensors.describe([leaf])[0]
            raise RanksDiverged(
                f"{name} has gradients in several batches, but other values on each rank: if it is a parameter, seed "
                "what makes it; if not, pass --parallel none"
            )
        return True

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
            elif is_equal and not self._is_perturbation(tensor):
                yield tensor, True, self._before.add(tensor)
            else:
                self._own.add(tensor)
                self._own_of_batch.add(tensor)
                yield tensor, False, False

    def _is_perturbation(self, leaf: torch.Tensor) -> bool:
        if tuple(leaf.shape) not in self._batch_shapes or leaf in self._older:
            return False
        values = leaf.detach()
        return bool((values == values.reshape(-1)[0]).all())
