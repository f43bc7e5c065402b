"""Variables of a training loop: those that it changes are in its checkpoints, so that it goes on with their values.

These are names of the script, and local variables of the functions that the loop runs in, whose value is another, or
has other contents, than when the loop began: lists that grow, best values, counters, copies of weights. What the loop
leaves alone is made by the code, as always.
"""

from __future__ import annotations

import contextlib
import hashlib
import marshal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType, ModuleType
from typing import Any

import torch
from torch.storage import UntypedStorage
from torch.utils.data import DataLoader

from mlnb.node.checkpoint.frames import set_variables, user_frames
from mlnb.node.checkpoint.object_paths import label_by_path
from mlnb.node.data import objects, outputs, storages
from mlnb.node.data.inputs import Inputs
from mlnb.node.data.merging.merge import Merger, faults_by_name
from mlnb.node.data.pickling.bulk import INLINE
from mlnb.node.data.sent import PLAIN, STATE_OF, put_state
from mlnb.node.torch_private import storage_id

_LARGE = 2**20
"""Bytes of a storage from which it isn't written if it is as when the loop began."""


class Variables:
    """The variables of one loop.

    Parameters
    ----------
    inputs
        the data of this process.
    state
        objects whose state is in the checkpoints anyway, by name.
    frame
        of the code that iterates.
    """

    def __init__(self, inputs: Inputs, state: Mapping[str, Any], frame: FrameType | None) -> None:
        self._inputs = inputs
        self._main: dict[str, Any] = sys.modules["__main__"].__dict__
        self._outer = list(user_frames(frame))
        self._objects: dict[str, Any] = {}  # what a stream refers to by name
        self._references: dict[int, str] = {}
        for name, value in state.items():
            for path, part in _parts_of_state(value):
                self._refer(f"state {name}{path}", part)
        sums = _Sums()
        variables = dict(self._now(self._outer))
        self._before = {name: (value, self._contents(value, sums)) for name, value in variables.items()}
        self._sums_before = sums.found
        self._labels = objects.Labels()
        label_by_path(self._labels, variables.items(), self._references)

    def save(self, frame: FrameType | None) -> dict[str, Any]:
        """The variables that the loop has changed, in the format of checkpoint files (old ones must still load).

        Parameters
        ----------
        frame
            of the code that is about to go on.
        """
        sums = _Sums()
        changed: dict[str, Any] = {}
        left_out = []
        references = dict(self._references)
        for name, value in self._now(list(user_frames(frame))):
            before, contents_before = self._before.get(name, (None, None))
            contents = self._contents(value, sums)
            if name in self._before and before is value and contents in (None, contents_before):
                if type(value) not in PLAIN:
                    references.setdefault(id(value), f"variable {name}")
            elif contents is not None:
                changed[name] = value
            elif not outputs.is_progress_bar(value):
                left_out.append(name)
        if self._inputs.definitions is not None:
            changed |= self._inputs.definitions.changes(lambda value: self._contents(value, sums))
        sink = _Inside(sums, self._sums_before)
        labels = self._labels.copy()
        stream = outputs.dump(changed, self._main, sink, labels, self._inputs, merging=True, references=references)
        same = {label: sums.found[storage_id(self._labels.storages[label])][0] for label in sink.same}
        return {"stream": stream.data, "buffers": stream.buffers, "same": same, "left_out": left_out}

    def restore(self, saved: Mapping[str, Any], frame: FrameType | None) -> None:
        """Give the variables the values that :meth:`save` has returned; warn of those that can't get them.

        Parameters
        ----------
        frame
            of the code that is about to go on.
        """
        frames = list(user_frames(frame))
        stream = objects.Stream(saved["stream"], tuple(map(tuple, saved["buffers"])))
        merger, missing = Merger(self._labels.objects), set[str]()
        now = {f"variable {name}": value for name, value in self._now(frames)}
        sent = self._inputs.definitions.by_name if self._inputs.definitions is not None else {}
        try:
            for label, checksum in saved["same"].items():
                if storages.checksum(self._labels.storages[label]) != checksum:
                    raise ValueError(f"{label} has other data than when the checkpoint was made")
            values = objects.load(
                stream,
                _InsideSource(),
                objects.Labels(),
                self._main,
                device=self._inputs.device,
                live=self._labels,
                missing=missing,
                earlier={**sent, **now, **self._objects},
                script=self._inputs.script,
                rebuilder=merger,
            )
            faults = faults_by_name(values, merger, missing)
            merger.apply()
        except Exception as error:  # noqa: BLE001 - unpickling runs the objects' own code
            reason = f"the checkpoint's can't be loaded: {error}"
            warnings.warn(f"the loop's variables begin again, since {reason}", stacklevel=2)
            return
        begin_again = [*saved["left_out"], *faults]
        if begin_again:
            names = ", ".join(begin_again)
            warnings.warn(f"these variables are not in the checkpoint and begin again: {names}", stacklevel=2)
        self._set({name: value for name, value in values.items() if name not in faults}, frames)

    def _set(self, values: Mapping[str, Any], frames: Sequence[FrameType]) -> None:
        for name, value in values.items():
            if name.startswith(STATE_OF):
                put_state(*value)
            elif " in " not in name:
                self._main[name] = value
        for frame in frames:
            own = {_title(name, frame): name for name in _names_in(frame)}
            set_variables(frame, {own[title]: value for title, value in values.items() if title in own})

    def _now(self, frames: Sequence[FrameType]) -> Iterator[tuple[str, Any]]:
        """The variables: titles and values."""
        for name, value in list(self._main.items()):
            if not (name.startswith("__") and name.endswith("__")) and not isinstance(value, ModuleType):
                yield name, value
        for frame in reversed(frames):
            for name, value in dict(frame.f_locals).items():
                yield _title(name, frame), value

    def _contents(self, value: Any, sums: _Sums) -> Any:
        """What tells whether a value has the same contents later; ``None`` if it can't be pickled."""
        if type(value) in PLAIN:
            return (type(value), repr(value))
        if type(value) in (list, tuple, dict, set):
            with contextlib.suppress(ValueError):  # other objects are in it
                return hashlib.sha256(marshal.dumps(value, 2)).digest()  # some ten times as fast
        try:
            stream = outputs.dump(
                value,
                self._main,
                sums,
                objects.Labels(),
                self._inputs,
                visit=self._visit,
                references=self._references,
            )
        except Exception:  # noqa: BLE001 - pickling runs the objects' own code
            return None
        return hashlib.sha256(stream.data).digest(), stream.buffers

    def _visit(self, value: Any) -> None:
        """A loader is as the code makes it: its position is in the checkpoint by itself."""
        if isinstance(value, DataLoader) and id(value) not in self._references:
            self._refer(f"loader {len(self._references)}", value)

    def _refer(self, name: str, value: Any) -> None:
        if type(value) not in PLAIN:
            self._objects[name] = value
            self._references.setdefault(id(value), name)


def _names_in(frame: FrameType) -> tuple[str, ...]:
    code = frame.f_code
    return (*code.co_varnames, *code.co_cellvars, *code.co_freevars)


def _title(name: str, frame: FrameType) -> str:
    return f"{name} in {frame.f_code.co_name}"


def _parts_of_state(value: Any) -> Iterator[tuple[str, Any]]:
    """An object whose state is in the checkpoint, and the parts of it that other objects may refer to."""
    yield "", value
    if isinstance(value, torch.nn.Module):
        for kind in (value.named_modules, value.named_parameters, value.named_buffers):
            yield from ((f".{path}", part) for path, part in kind() if path)


class _Sums:
    """A sink that stores nothing; of large data it takes the checksum.

    Attributes
    ----------
    found
        by id of the storage; it is kept alive.
    """

    def __init__(self) -> None:
        self.found: dict[int, tuple[str, UntypedStorage]] = {}

    def storage(self, storage: UntypedStorage, label: str | None) -> storages.Location:  # noqa: ARG002 - as in the protocol
        """See :class:`objects.Sink`."""
        if storage.nbytes() <= INLINE:
            return ("bytes", bytes(storages.view_of(storages.as_bytes(storage))))
        key = storage_id(storage)
        if key not in self.found:
            self.found[key] = storages.checksum(storage), storage
        return ("sum", self.found[key][0])

    def buffer(self, view: memoryview) -> storages.Location:
        """See :class:`objects.Sink`."""
        return ("sum", hashlib.sha256(view).hexdigest())


class _Inside:
    """A sink that keeps everything in the stream, except large storages that are as when the loop began.

    Attributes
    ----------
    same
        the labels of those.
    """

    def __init__(self, now: _Sums, before: Mapping[int, tuple[str, UntypedStorage]]) -> None:
        self._now, self._before = now.found, before
        self.same: list[str] = []

    def storage(self, storage: UntypedStorage, label: str | None) -> storages.Location:
        """See :class:`objects.Sink`."""
        now, before = (sums.get(storage_id(storage)) for sums in (self._now, self._before))
        if label is not None and storage.nbytes() >= _LARGE and now and before and now[0] == before[0]:
            self.same.append(label)
            return ("same", label)
        return ("bytes", bytes(storages.view_of(storages.as_bytes(storage))))

    def buffer(self, view: memoryview) -> storages.Location:
        """See :class:`objects.Sink`."""
        return ("bytes", bytes(view))


class _InsideSource(storages.CopiedFiles):
    """A source for streams that contain all their data."""

    def buffer(self, location: storages.Location) -> Any:
        """See :class:`objects.Source`."""
        return bytearray(location[1])
