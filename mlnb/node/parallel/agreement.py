"""Makes ranks begin with the same model, and finds out where they have gone apart since."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

import torch

from mlnb.node.parallel.gradients.gradient_average import GradientAverager
from mlnb.node.parallel.gradients.leaf_tensors import describe, differing
from mlnb.node.parallel.together.functional_weights import FunctionalWeights
from mlnb.node.parallel.together.rank_group import RankGroup, RanksDiverged

_TOLERANCE = 1e-6
"""Relative difference of the sums of a parameter: machines of other kinds round differently."""


class Agreement:
    """What the ranks of a group have agreed on.

    Parameters
    ----------
    averager
        knows the parameters.
    functional
        knows what functions of ``torch.func`` are given.
    add_note
        adds a note to the run's result.
    """

    def __init__(
        self,
        group: RankGroup,
        averager: GradientAverager,
        functional: FunctionalWeights,
        add_note: Callable[[str], None],
    ) -> None:
        self.group, self._averager, self._functional, self._add_note = group, averager, functional, add_note
        self._batches = 0  # since there were new parameters
        self._compared = 0  # how many there were
        self._is_due = False

    def begin_with(self, tensors: Sequence[torch.Tensor]) -> None:
        """Give ``tensors`` the values that they have on rank 0, after it was checked that all ranks have the same.

        Raises
        ------
        RanksDiverged
            if their shapes, types or names differ.
        """
        unique = list({id(tensor): tensor for tensor in tensors}.values())
        self.group.meet(self.group.call_site("the comparison of the models", sys._getframe(1)))
        sizes = {int(size) for size in self.group.gather_tensor(torch.tensor([len(unique)]))}
        if sizes == {0}:
            return
        leaves = self.group.gather(describe(unique))
        difference = differing(leaves)
        if difference is not None:
            raise RanksDiverged(f"the models differ between the ranks: {difference}")
        unequal = [index for index in range(len(unique)) if len({theirs[index] for theirs in leaves}) > 1]
        with torch.no_grad():
            for index in unequal:
                self.group.broadcast(unique[index])
        if unequal:
            self._add_note(
                f"the ranks began with different values of {leaves[0][unequal[0]].name}"
                f"{f' and {len(unequal) - 1} more' if len(unequal) > 1 else ''}: all have those of rank 0 now"
            )

    def begin_batch(self) -> None:
        """Let parameters be compared in the second, third, fifth, ninth batch and so on, of a training."""
        self.compare_if_due("the next batch")
        if len(self._averager.parameters) != self._compared:
            self._compared, self._batches = len(self._averager.parameters), 0
        self._is_due = self._batches > 0 and self._batches & (self._batches - 1) == 0
        self._batches += 1

    def compare_if_due(self, operation: str) -> None:
        """Compare the parameters before ``operation`` if that has not been done in this batch, where it is due."""
        if self._is_due:
            self.compare(operation)

    def compare(self, operation: str = "the comparison of parameters") -> None:
        """Check before ``operation`` that all ranks still have the same parameters.

        Raises
        ------
        RanksDiverged
            with the name of one that differs.
        """
        parameters = self._averager.parameters
        self._is_due = False
        self.group.meet(self.group.call_site(operation, sys._getframe(1)), len(parameters))
        self._functional.compare(self.group)
        if not parameters:
            return
        sums = torch.stack([_sum(parameter) for parameter in parameters]).cpu()
        parts = torch.stack(self.group.gather_tensor(sums))
        differ = (parts - parts[0]).abs() > _TOLERANCE * parts.abs().amax(0)
        if not bool(differ.any()):
            return
        rank, index = (int(one) for one in differ.nonzero()[0])
        name = describe([parameters[index]])[0]
        raise RanksDiverged(
            f"the ranks have gone apart: the values of {name} differ between rank 0 and rank {rank} at "
            f"batch {self.group.batches}. Something other than averaged gradients has changed them: a branch that "
            "only some ranks take, random numbers, or what is computed of each sample."
        )


def _sum(parameter: torch.Tensor) -> torch.Tensor:
    values = parameter.detach()
    if values.is_complex():
        values = torch.view_as_real(values)
    norm: torch.Tensor = torch.linalg.vector_norm(values, dtype=torch.float64)
    return norm
