"""Finds out whether the models that are trained are in training mode: in evaluation, loops are not sharded."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch

from mlnb.node.rank.patches import Patches


class TrainingMode:
    """The modes of the modules of this process, which belong to whatever object or function."""

    def __init__(self) -> None:
        self._modules: weakref.WeakSet[torch.nn.Module] = weakref.WeakSet()
        self._optimizers: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()

    def install(self, patches: Patches) -> None:
        """Watch which modules and optimizers are made, or loaded."""
        for name in ("__init__", "__setstate__"):
            patches.wrap(torch.nn.Module, name, self._adding(self._modules))
            patches.wrap(torch.optim.Optimizer, name, self._adding(self._optimizers))

    @staticmethod
    def _adding(objects: weakref.WeakSet[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
        def wrapper(original: Callable[..., None]) -> Callable[..., None]:
            def made(self: Any, *args: Any, **kwargs: Any) -> None:
                original(self, *args, **kwargs)
                objects.add(self)

            return made

        return wrapper

    def is_evaluation(self) -> bool:
        """Whether all modules that are trained are in evaluation mode, and there are any.

        Trained are those that own parameters of an optimizer; all with parameters that require gradients, if no
        optimizer has a parameter of a module.
        """
        optimized = {
            id(parameter)
            for optimizer in self._optimizers
            for group in getattr(optimizer, "param_groups", ())
            for parameter in group["params"]
        }
        owners = [module for module in self._modules if any(map(_requires_grad, _own_parameters(module)))]
        if optimized:
            owners = [module for module in owners if any(id(own) in optimized for own in _own_parameters(module))]
        return {module.training for module in owners} == {False}


def _own_parameters(module: torch.nn.Module) -> list[torch.Tensor]:
    return [parameter for parameter in module.__dict__.get("_parameters", {}).values() if parameter is not None]


def _requires_grad(parameter: torch.Tensor) -> bool:
    return parameter.requires_grad
