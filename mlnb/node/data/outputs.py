"""What comes back: weights as safetensors, everything else as an object stream beside them.

``RUN/outputs`` holds ``NAME.safetensors`` for every module (and large tensor) that comes back, with the run's id
and the task's digest in its metadata, and ``session.pickle`` with the objects themselves, whose storages are spans
of those files. It is written beside and renamed, so it is there whole or not at all.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterable
from pathlib import Path
from types import FunctionType
from typing import Any

import torch

from mlnb import manifest
from mlnb.node.data import objects, safetensors, storages
from mlnb.node.data.inputs import Inputs
from mlnb.node.torch_private import storage_id
from mlnb.rundir import RunDir
from mlnb.task import Task


class _Outputs:
    """A :class:`objects.Sink` that sorts storages into files and leaves out what is as the session sent it."""

    def __init__(self, folder: Path, name: str, inputs: Inputs) -> None:
        self._folder, self._name, self._inputs = folder, name, inputs
        self._planned: dict[int, storages.Location] = {}
        self._files = 0

    def plan(self, name: str, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
        """Write ``tensors`` to ``NAME.safetensors``; storages that one of them fills are found there."""
        file = f"{name}.safetensors"
        offsets = safetensors.write(self._folder / file, tensors, metadata)
        for key, tensor in tensors.items():
            storage = tensor.untyped_storage()
            if tensor.is_contiguous() and tensor.nbytes == storage.nbytes():
                place = ("span", f"{self._name}/{file}", offsets[key], tensor.nbytes)
                self._planned.setdefault(storage_id(storage), place)

    def storage(self, storage: torch.UntypedStorage, label: str | None) -> storages.Location:  # noqa: ARG002 - the protocol's
        """See :class:`objects.Sink`."""
        planned = self._planned.get(storage_id(storage))
        if planned is not None:
            return planned
        same = self._inputs.unchanged_storage(storage)
        if same is not None:
            return ("same", same)
        return self.buffer(storages.view_of(storages.as_bytes(storage)), inline=True)

    def buffer(self, view: memoryview, *, inline: bool = False) -> storages.Location:
        """See :class:`objects.Sink`; ``inline`` keeps small ones in the stream."""
        if inline and view.nbytes <= objects.INLINE:
            return ("bytes", bytes(view))
        same = self._inputs.unchanged_buffer(view)
        if same is not None:
            return ("same", same)
        file = f"{self._files}.bin"
        self._files += 1
        (self._folder / file).write_bytes(view)
        return ("span", f"{self._name}/{file}", 0, view.nbytes)


def write(
    run: RunDir, run_id: str, task: Task, namespace: dict[str, Any], inputs: Inputs, changed: Iterable[str]
) -> list[str]:
    """Write the outputs of a script that has run to its end.

    Parameters
    ----------
    namespace
        the script's globals.
    changed
        names among ``task.inputs`` that came to hold something else, beside ``task.outputs``.

    Returns
    -------
    list of str
        what could not come back and why, a line each.

    Raises
    ------
    OSError
        if they can't be written.
    """
    folder = run.path / ".outputs.tmp"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)
    metadata = {"mlnb.run": run_id, "mlnb.task": task.digest}
    wanted = dict.fromkeys([*task.outputs, *task.deletes, *changed])
    values = {name: namespace[name] for name in wanted if name in namespace}
    values, notes = _shippable(values, namespace)
    sink = _Outputs(folder, run.outputs.name, inputs)
    for name, value in values.items():
        tensors = weights(value)
        if tensors:
            sink.plan(name, tensors, metadata)
    stream = objects.dump(values, sink, inputs.labels, prefix="out:", reference=_reference(namespace))
    (folder / "session.pickle").write_bytes(stream.data)
    (folder / "session.pickle").chmod(0o600)  # whatever the script's umask: it will be unpickled
    kept = [name for name in values if name in inputs.values and values[name] is inputs.values[name]]
    deleted = [name for name in task.deletes if name not in namespace]
    table = {"names": list(values), "kept": kept, "deleted": deleted, "buffers": stream.buffers, "notes": notes}
    (folder / "session.json").write_text(json.dumps(table))
    manifest.sign(folder, [path.name for path in folder.iterdir()], part=run.outputs.name)
    shutil.rmtree(run.outputs, ignore_errors=True)
    folder.rename(run.outputs)
    return notes


def weights(value: Any) -> dict[str, torch.Tensor]:
    """The tensors of ``value`` that get a safetensors file: a module's state, or a large lone tensor."""
    if isinstance(value, torch.nn.Module):
        state = value.state_dict()
        return {key: tensor for key, tensor in state.items() if isinstance(tensor, torch.Tensor) and _dense(tensor)}
    if isinstance(value, torch.Tensor) and _dense(value) and value.nbytes > objects.INLINE:
        return {"tensor": value}
    return {}


def _dense(tensor: torch.Tensor) -> bool:
    return tensor.layout is torch.strided and tensor.dtype in safetensors.DTYPES and not tensor.is_meta


def _reference(namespace: dict[str, Any]) -> objects.Reference:
    def reference(obj: Any) -> str | None:
        if getattr(obj, "__module__", None) != "__main__":
            return None
        if isinstance(obj, FunctionType) and obj.__name__ == "<lambda>":
            return next((name for name, value in namespace.items() if value is obj), None)
        return objects.main_name(obj, [namespace])

    return reference


def _shippable(values: dict[str, Any], namespace: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Leave out what can't be pickled; what was left out and why."""
    reference = _reference(namespace)

    def fault(value: Any) -> str | None:
        try:
            objects.dump(value, Nowhere(), objects.Labels(), prefix="", reference=reference)
        except Exception as error:  # noqa: BLE001 - pickling runs the objects' own code
            return _said(error)
        return None

    if fault(values) is None:
        return values, []
    kept, notes = {}, []
    for name, value in values.items():
        why = fault(value)
        if why is None:
            kept[name] = value
        else:
            notes.append(f"{name} ({type(value).__name__}) can't come back: {why}")
    return kept, notes


def _said(error: Exception) -> str:
    """An exception in one line; some are raised with a pattern and what belongs into it."""
    first, *rest = error.args or (type(error).__name__,)
    text = str(first).format(*rest) if rest and "{}" in str(first) else str(error)
    return text.split("\n")[0]


class Nowhere:
    """A sink that takes nothing: to see whether, and as what, an object pickles apart from its bulk."""

    def storage(self, storage: torch.UntypedStorage, label: str | None) -> storages.Location:  # noqa: ARG002 - the protocol's
        """See :class:`objects.Sink`."""
        small = storage.nbytes() <= objects.INLINE
        return ("bytes", bytes(storages.view_of(storages.as_bytes(storage)))) if small else ("same",)

    def buffer(self, view: memoryview) -> storages.Location:  # noqa: ARG002 - the protocol's
        """See :class:`objects.Sink`."""
        return ("same",)


class _Compared(Nowhere):
    """The same, but bulk that no longer equals its input file counts as another object."""

    def __init__(self, inputs: Inputs) -> None:
        self._inputs = inputs

    def storage(self, storage: torch.UntypedStorage, label: str | None) -> storages.Location:
        location = super().storage(storage, label)
        if location == ("same",) and self._inputs.unchanged_storage(storage) is None:
            return ("changed",)
        return location

    def buffer(self, view: memoryview) -> storages.Location:
        return ("same",) if self._inputs.unchanged_buffer(view) else ("changed",)


def fingerprints(
    names: Iterable[str], namespace: dict[str, Any], inputs: Inputs | None = None
) -> dict[str, tuple[bytes, tuple[storages.Location, ...]]]:
    """What tells whether a value was changed: taken once before the cell, and after it with ``inputs``.

    A value that doesn't pickle has none, so that it counts as unchanged.
    """
    sink = _Compared(inputs) if inputs is not None else Nowhere()
    found = {}
    for name in names:
        if name not in namespace:
            continue
        try:
            stream = objects.dump(namespace[name], sink, objects.Labels(), prefix="", reference=_reference(namespace))
        except Exception:  # noqa: BLE001, S112 - pickling runs the objects' own code
            continue
        found[name] = (hashlib.sha256(stream.data).digest(), stream.buffers)
    return found
