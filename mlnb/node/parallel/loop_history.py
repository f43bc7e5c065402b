"""What loops over loaders have done before, where the mode in which one begins says nothing.

Libraries (Ignite, skorch) call ``train()`` and ``eval()`` in each step of their loops. So a training loop may begin in
the mode that the evaluation before it has left, and the other way round.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType, FrameType
from typing import Any

import torch

from mlnb.node.rank.loss_names import own_frame
from mlnb.node.rank.patches import Patches

_Line = tuple[CodeType, int] | None
_Key = tuple[int, _Line]


@dataclass(eq=False)
class Loop:
    """A loop over a loader: which one, where it has begun, and what had been done before."""

    key: _Key
    line: _Line
    backwards: int
    changes: int
    iterator: weakref.ref[Any] | None = None


class LoopHistory:
    """Remembers which loops have trained, of those that set the mode of the models themselves.

    Parameters
    ----------
    backwards
        returns how often gradients were averaged.
    """

    def __init__(self, backwards: Callable[[], int]) -> None:
        self._backwards = backwards
        self._changes = 0  # of the modes of models
        self._trained: dict[_Key, bool] = {}  # by data set, and the line of the user
        self._lines: set[_Line] = set()  # which begin loops that set the mode themselves, and train

    def install(self, patches: Patches) -> None:
        """Count changes of modes."""
        patches.wrap(torch.nn.Module, "train", self._wrap_train)

    def _wrap_train(self, original: Callable[..., Any]) -> Callable[..., Any]:
        def train(module: Any, mode: bool = True) -> Any:
            self._changes += 1
            return original(module, mode)

        return train

    def begin(self, loader: Any, frame: FrameType) -> Loop:
        """A loop begins in ``frame``, which may be that of a library."""
        own = own_frame(frame)
        line = None if own is None else (own.f_code, own.f_lasti)
        key = (id(loader.dataset), line)
        return Loop(key, (frame.f_code, frame.f_lasti), self._backwards(), self._changes)

    def trains(self, loop: Loop) -> bool | None:
        """Whether ``loop`` trains, as far as earlier ones tell; ``None``: the mode of the models decides."""
        trained = self._trained.get(loop.key)
        if trained is None and loop.line in self._lines:
            return False  # other data in code that decides for itself: to see all of them is never wrong
        return trained

    def expected(self, loader: Any, frame: FrameType) -> bool | None:
        """Whether the next loop over ``loader``, whose length ``frame`` asks for, will train: as :meth:`trains`."""
        earlier = [trained for (data, _), trained in self._trained.items() if data == id(loader.dataset)]
        if earlier:
            return any(earlier)
        is_same_file = any(line is not None and line[0].co_filename == frame.f_code.co_filename for line in self._lines)
        return False if is_same_file else None

    def end(self, loop: Loop) -> None:
        """``loop`` has ended, or trains."""
        if self._changes == loop.changes:
            return
        trained = self._backwards() > loop.backwards
        self._trained[loop.key] = trained or self._trained.get(loop.key, False)
        if trained:
            self._lines.add(loop.line)


def caller() -> FrameType:
    """The frame that has begun a loop over a loader: the innermost one that is not mlnb's or torch's."""
    frame = sys._getframe(1)
    while str(frame.f_globals.get("__name__", "")).startswith(("mlnb.", "torch.")) and frame.f_back is not None:
        frame = frame.f_back
    return frame
