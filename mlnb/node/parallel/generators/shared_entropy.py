"""Seeds for generators that the code makes without one: the same on all ranks that do one training.

Ranks must draw the same numbers, also from ``numpy.random.default_rng()``, ``random.Random()`` and ``torch.seed()``.
These get numbers of a sequence that is the same on all ranks, instead of the system's.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import random
import sys
from collections.abc import Callable
from typing import Any

from mlnb.node.rank.patches import Patches


class SharedEntropy:
    """Seeds for generators that the code makes without one: the same on all ranks, where these are made alike.

    Parameters
    ----------
    seed
        the run's.
    """

    def __init__(self, seed: int) -> None:
        self._source = random.Random(seed)
        self._patches = Patches()

    def install(self) -> None:
        """Replace the system's entropy in Python's, numpy's and torch's generators."""
        if importlib.util.find_spec("numpy") is not None:  # before the code imports it, so that it is seeded, too
            importlib.import_module("numpy.random")
        self._patches.wrap(random.Random, "seed", self._wrap_seed)
        self._patches.set(random, "seed", functools.partial(random.Random.seed, random._inst))
        numpy = sys.modules.get("numpy.random.bit_generator")
        if numpy is not None and "randbits" in vars(numpy):
            self._patches.set(numpy, "randbits", self._source.getrandbits)
        torch = sys.modules.get("torch")
        if torch is not None:
            for module in (torch, torch.random):
                self._patches.set(module, "seed", self._seed_torch)

    def uninstall(self) -> None:
        """Restore the system's entropy."""
        self._patches.undo()

    def _wrap_seed(self, original: Callable[..., None]) -> Callable[..., None]:
        def seed(generator: random.Random, a: Any = None, *args: Any, **kwargs: Any) -> None:
            original(generator, self._source.getrandbits(128) if a is None else a, *args, **kwargs)

        return seed

    def _seed_torch(self) -> int:
        torch: Any = sys.modules["torch"]
        seed = self._source.getrandbits(63)
        torch.manual_seed(seed)
        return seed
