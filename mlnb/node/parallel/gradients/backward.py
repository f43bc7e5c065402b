"""``torch.autograd.backward`` and ``grad`` whose gradients are those of the whole batch."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch

from mlnb.node.parallel.gradients.gradient_average import GradientAverager
from mlnb.node.parallel.gradients.loss_kinds import Kind, kind
from mlnb.node.parallel.together.loss_reads import LossReads
from mlnb.node.parallel.together.rank_group import CallSite
from mlnb.node.rank.patches import Patches
from mlnb.node.torch_private import is_transformed, is_transforming, tree_leaves, tree_map


class Backward:
    """Averages what ``backward`` adds to gradients, and what ``grad`` returns for parameters.

    Parameters
    ----------
    averager, reads
        average gradients; get the mean of the loss.
    prepare
        is called before; returns whether gradients are averaged.
    weight
        returns the weight of this rank's loss in the mean over all ranks.
    add_note
        adds a note to the run's result.
    """

    def __init__(
        self,
        averager: GradientAverager,
        reads: LossReads,
        prepare: Callable[[], bool],
        weight: Callable[[], float],
        add_note: Callable[[str], None],
    ) -> None:
        self._averager, self._reads = averager, reads
        self._prepare, self._weight = prepare, weight
        self._add_note = add_note
        self._sites: set[int] = set()  # call sites whose losses were looked at
        self.is_inside = False
        """Whether one is at work."""
        self.count = 0
        """How often gradients were averaged."""

    def install(self, patches: Patches) -> None:
        """Wrap both; ``Tensor.backward`` calls the first."""
        patches.wrap(torch.autograd, "backward", self._wrap_backward)
        patches.wrap(torch.autograd, "grad", self._wrap_grad)
        for name in ("grad", "grad_and_value"):
            patches.wrap(torch.func, name, self._wrap_transformation)

    def _wrap_backward(self, original: Callable[..., None]) -> Callable[..., None]:
        def backward(tensors: Any, grad_tensors: Any = None, *args: Any, **kwargs: Any) -> None:
            roots = [tensors] if isinstance(tensors, torch.Tensor) else list(tensors)
            if self.is_inside:  # of a checkpoint of activations
                self._averager.reach(roots)
                return original(tensors, grad_tensors, *args, **kwargs)
            if any(_is_transformed(root) for root in roots) or not self._prepare():
                return original(tensors, grad_tensors, *args, **kwargs)
            weight = self._weight()
            loss = self._part_of_loss(roots, grad_tensors, weight)
            if weight != 1.0:
                grad_tensors = _weighted(weight, roots, grad_tensors)
            group = self._averager.group
            assert group is not None
            site = group.call_site("backward()", sys._getframe(1))
            if weight and site.number not in self._sites:
                self._sites.add(site.number)
                for root in roots:
                    self._note_kind(root, site)
            self._averager.begin(roots)
            group.begin(site)
            self._run(original, tensors, grad_tensors, *args, **kwargs)
            mean = self._averager.finish(loss)
            if mean is not None:
                self._reads.set_mean(self._reads.source(roots[0]), mean)
            self.count += 1
            return None

        return backward

    def _note_kind(self, loss: torch.Tensor, site: CallSite) -> None:
        """Tell if the mean of ``loss`` over the ranks is not the loss of the whole batch."""
        found = kind(self._reads.source(loss), self._averager.batch_sizes)
        if found is not Kind.MEAN:
            self._add_note(f"{site.text}: {found.value}")

    def _run(self, original: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        self.is_inside = True
        self._reads.begin_local()
        try:
            return original(*args, **kwargs)
        except BaseException as error:
            self._averager.abandon()
            if self._averager.group is not None:
                self._averager.group.fail(error)
            raise
        finally:
            self._reads.end_local()
            self.is_inside = False

    def _part_of_loss(self, roots: Sequence[torch.Tensor], gradients: Any, weight: float) -> torch.Tensor | None:
        """The part of this rank in the mean loss, if there is one loss."""
        if len(roots) != 1 or roots[0].dim() or gradients is not None:
            return None
        with torch.no_grad():
            return torch.mul(self._reads.source(roots[0]), weight)

    def _wrap_grad(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def grad(outputs: Any, inputs: Any, grad_outputs: Any = None, *args: Any, **kwargs: Any) -> Any:
            targets = [inputs] if isinstance(inputs, torch.Tensor) else list(inputs)
            roots = [outputs] if isinstance(outputs, torch.Tensor) else list(outputs)
            leaves = [one for one in targets if isinstance(one, torch.Tensor) and one.is_leaf]
            if self.is_inside or not leaves or any(map(_is_transformed, [*roots, *leaves])) or not self._prepare():
                return original(outputs, inputs, grad_outputs, *args, **kwargs)
            weight = self._weight()
            group = self._averager.group
            assert group is not None
            group.meet(group.call_site("autograd.grad()", sys._getframe(1)))
            is_parameter = self._averager.are_parameters(targets)
            if weight != 1.0 and any(is_parameter):
                grad_outputs = _weighted(weight, roots, grad_outputs)
            results = list(self._run(original, outputs, inputs, grad_outputs, *args, **kwargs))
            for index, result in enumerate(results):
                if is_parameter[index] and result is not None:
                    results[index] = self._averager.average(result)
            self.count += 1
            return tuple(results)

        return grad

    def _wrap_transformation(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Wrap ``torch.func.grad`` or ``grad_and_value``, of which no other transformation is outside."""

        def transform(*given: Any, **options: Any) -> Callable[..., Any]:
            function = original(*given, **options)

            @functools.wraps(function)
            def gradients(*args: Any, **kwargs: Any) -> Any:
                leaves = tree_leaves((args, kwargs))
                if self.is_inside or is_transforming() or any(map(_is_transformed, leaves)) or not self._prepare():
                    return function(*args, **kwargs)
                group, weight = self._averager.group, self._weight()
                assert group is not None
                group.meet(group.call_site("torch.func.grad()", sys._getframe(1)))
                results = self._run(function, *args, **kwargs)
                self.count += 1
                return tree_map(lambda one: self._mean(one, weight), results)

            return gradients

        return transform

    def _mean(self, value: Any, weight: float) -> Any:
        is_number = isinstance(value, torch.Tensor) and value.is_floating_point()
        return self._averager.average(value * weight) if is_number else value


def _weighted(weight: float, roots: Sequence[torch.Tensor], gradients: Any) -> list[torch.Tensor]:
    """The gradients to begin a backward with that multiply those of the losses by ``weight``."""
    given = [gradients] if gradients is None or isinstance(gradients, torch.Tensor) else list(gradients)
    given += [None] * (len(roots) - len(given))
    return [(torch.ones_like(root) if one is None else one) * weight for root, one in zip(roots, given, strict=True)]


def _is_transformed(tensor: Any) -> bool:
    return isinstance(tensor, torch.Tensor) and is_transformed(tensor)
