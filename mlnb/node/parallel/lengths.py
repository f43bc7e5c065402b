"""Lengths that code asks for: of loaders, which are other ones where they train, and of their data sets.

A length that will be wrong is left as it is, since nobody can know what for it is asked. A note names its line.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType
from typing import Any

import torch
from torch.utils.data import DataLoader

from mlnb.node.parallel.identity_set import IdentitySet
from mlnb.node.parallel.together.rank_group import LineOf
from mlnb.node.rank.loss_names import own_frame
from mlnb.node.rank.patches import Patches

_ASKED = "_mlnb_length_asked"  # attribute of a loader: the last _Question since its last loop


@dataclass(frozen=True)
class _Question:
    """That ``len(loader)`` was asked."""

    as_training: bool
    """Whether it was that of the loader's part on one rank."""

    is_about_next: bool
    """Whether it can't be about a loop before."""

    line: str


class Lengths:
    """What code was told, by ``len()`` of a loader or of a data set.

    Parameters
    ----------
    world
        how many ranks there are.
    describe
        names the line that a frame executes.
    add_note
        adds a note to the run's result.
    """

    def __init__(self, world: int, describe: LineOf, add_note: Callable[[str], None]) -> None:
        self._world, self._describe, self._add_note = world, describe, add_note
        self._patches: Patches | None = None
        self._asked: dict[int, dict[str, int]] = {}  # by id of the data set: lengths by line
        self._sharded = IdentitySet()  # data sets of loaders that were sharded
        self._seen: set[tuple[Any, int]] = set()  # where a data set was asked
        self._types: set[type] = set()

    def install(self, patches: Patches) -> None:
        """Watch data sets from when a loader has them."""
        self._patches = patches
        patches.wrap(DataLoader, "__init__", self._wrap_init)

    def _wrap_init(self, original: Callable[..., None]) -> Callable[..., None]:
        def init(loader: Any, *args: Any, **kwargs: Any) -> None:
            original(loader, *args, **kwargs)
            self._watch(loader.dataset)

        return init

    # Lengths of loaders

    def ask(self, loader: Any, as_training: bool, is_first: bool, frame: FrameType) -> None:
        """``frame`` has asked for the length of ``loader``, which ``is_first`` says has had no loop yet."""
        own = own_frame(frame)
        if own is not None:
            is_about_next = is_first or (as_training and not torch.is_grad_enabled())
            loader.__dict__[_ASKED] = _Question(as_training, is_about_next, self._describe(own))

    def begin_loop(self, loader: Any, trains: bool) -> None:
        """A loop over ``loader`` begins."""
        question: _Question | None = loader.__dict__.pop(_ASKED, None)
        if question is not None and question.is_about_next and question.as_training != trains:
            self._add_note(self._wrong(question))
        if trains:
            self._begin_sharded(loader.dataset)

    def _wrong(self, question: _Question) -> str:
        if question.as_training:
            return (
                f"len() of a loader was asked with gradients enabled, or after it had trained, in {question.line}: its "
                f"batches divided by {self._world} ranks. But its loop runs under torch.no_grad() or in evaluation "
                "mode, with all of them: ask for its length there, before any loop over it."
            )
        return (
            f"len() of a loader was asked under torch.no_grad() or in evaluation mode, in {question.line}: all of its "
            f"batches. But its loop trains, in {self._world} times fewer steps, one for {self._world} batches: ask for "
            "its length where it trains."
        )

    # Lengths of data sets

    def _watch(self, dataset: Any) -> None:
        """Wrap ``len()`` of data sets of this type, if it is a library's: a definition of the code may be sent back."""
        owner = next((one for one in type(dataset).__mro__ if "__len__" in vars(one)), None)
        if owner is None or owner in self._types or owner.__module__ in ("builtins", "__main__") or not self._patches:
            return
        self._types.add(owner)
        try:
            self._patches.wrap(owner, "__len__", self._wrap_len)
        except (TypeError, AttributeError):  # of an extension
            return

    def _wrap_len(self, original: Callable[[Any], int]) -> Callable[[Any], int]:
        def length(dataset: Any) -> int:
            value = original(dataset)
            frame = sys._getframe(1)
            key = (frame.f_code, frame.f_lasti)
            if key not in self._seen:
                self._ask_dataset(dataset, value, frame)
            return value

        return length

    def _ask_dataset(self, dataset: Any, length: int, frame: FrameType) -> None:
        if own_frame(frame) is not frame:
            self._seen.add((frame.f_code, frame.f_lasti))
            return
        if not torch.is_grad_enabled() or frame.f_locals.get("self") is dataset:
            return
        line = self._describe(frame)
        if dataset in self._sharded:
            self._seen.add((frame.f_code, frame.f_lasti))
            self._note(line, length)
        else:
            self._asked.setdefault(id(dataset), {})[line] = length

    def _begin_sharded(self, dataset: Any) -> None:
        if dataset in self._sharded:
            return
        try:
            self._sharded.add(dataset)
        except TypeError:
            return
        for line, length in self._asked.pop(id(dataset), {}).items():
            self._note(line, length)
        self._watch(dataset)

    def _note(self, line: str, length: int) -> None:
        self._add_note(
            f"len() of a data set in {line}: {length} samples, of which each of {self._world} ranks trains on "
            f"1/{self._world}. A sum over the samples of a training loop, divided by it, is {self._world} times too "
            "small: divide by the number of samples that the loop has seen. Steps that are counted by it are too many: "
            "len(loader) is right."
        )
