"""Writes a run's outputs: weights as safetensors, everything else as an object stream.

``RUN/outputs`` has a ``NAME.safetensors`` for every returned module (and large tensor), with the run's id and the
task's digest in its metadata, and ``session.pickle`` with the objects themselves, whose storages are spans of those
files. It is written under another name and renamed, so it is complete or absent.
"""

from __future__ import annotations

import functools
import hashlib
import json
import shutil
from collections import ChainMap
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch

from mlnb import manifest
from mlnb.files import sync_files
from mlnb.node.data import objects, safetensors, storages
from mlnb.node.data.inputs import Inputs
from mlnb.node.data.kinds import caches, mapped_files
from mlnb.node.data.pickling.building import Rebuilder
from mlnb.node.data.pickling.faults import find_fault
from mlnb.node.data.process_state import ProcessState
from mlnb.node.data.sinks import ChangeSink, NullSink, OutputFiles, WrittenFiles
from mlnb.rundir import PROCESS_STATE, RunDir, sync_folder
from mlnb.task import Task

_PROGRESS_BARS = ("alive_progress.", "enlighten.", "fastprogress.", "progressbar.", "rich.progress.", "tqdm.")
"""Modules whose objects are left out without a note if they can't be pickled."""


DROPPED = "objects that the cell has changed and then dropped"
"""Stands among the names for a list of them: names of the session that did not come back may still refer to them."""


def names_to_return(
    task: Task, changed: Iterable[str], before: Mapping[str, Any], after: Mapping[str, Any]
) -> tuple[list[str], list[str]]:
    """The names whose values a script returns, and those that it has deleted.

    Parameters
    ----------
    changed
        names in ``task.inputs`` whose values were changed.
    before, after
        the script's names, when the cell began and now.
    """
    names = dict.fromkeys([*task.outputs, *task.deletes, *changed])
    deleted = [name for name in task.deletes if name in before and name not in after]
    if task.returns_more:
        bound = [name for name, value in after.items() if name not in before or before[name] is not value]
        names.update(dict.fromkeys(name for name in bound if not _is_special(name)))
        deleted += [name for name in before if name not in after and name not in deleted and not _is_special(name)]
    return list(names), deleted


def _is_special(name: str) -> bool:
    return name.startswith("__") and name.endswith("__")


def write(
    run: RunDir,
    run_id: str,
    task: Task,
    namespace: dict[str, Any],
    inputs: Inputs,
    names: Iterable[str],
    deleted: Iterable[str] = (),
    process: ProcessState | None = None,
    attributes: Mapping[str, Any] = MappingProxyType({}),
) -> list[str]:
    """Write the outputs of a script that has succeeded.

    Parameters
    ----------
    namespace
        the script's globals.
    names
        the names to return; one that the script hasn't bound is left out.
    deleted
        names that the script has deleted.
    process
        what the cell has changed in the state of its process.
    attributes
        what it has changed in local modules, by the names under which that is returned.

    Returns
    -------
    list of str
        a line for each value that could not be returned, with the reason.

    Raises
    ------
    OSError
        if they can't be written.
    """
    folder = run.path / ".outputs.tmp"
    metadata = {"mlnb.run": run_id, "mlnb.task": task.digest}
    values = {name: namespace[name] for name in dict.fromkeys(names) if name in namespace}
    if inputs.definitions is not None:
        fingerprint = fingerprint_after(namespace, inputs)
        values |= inputs.definitions.changes(fingerprint)
        values |= inputs.definitions.of_cell(namespace, task.outputs, fingerprint)
    values |= attributes
    lost: dict[str, str] = {}
    while True:
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(mode=0o700)
        stream = _write_values(folder, run, values, namespace, inputs, metadata)
        if stream is None:
            faults = _unpicklable(values, namespace, inputs)
        else:
            faults = _unloadable(stream, WrittenFiles(folder, run), values, namespace, inputs)
        if not faults and stream is not None and DROPPED not in values and not lost.get(DROPPED):
            dropped = inputs.labels.changed(stream.labels)
            if dropped:
                values[DROPPED] = dropped
                continue
        if not faults:
            break
        lost.update(faults)
        values = {name: value for name, value in values.items() if name not in faults}
    assert stream is not None
    (folder / "session.pickle").write_bytes(stream.data)
    (folder / "session.pickle").chmod(0o600)  # whatever the script's umask: it will be unpickled
    kept = [name for name in values if name in inputs.values and values[name] is inputs.values[name]]
    notes = list(dict.fromkeys(note for note in lost.values() if note))
    names = [name for name in values if name != DROPPED]
    table = {"names": names, "kept": kept, "deleted": list(deleted), "lost": [name for name in lost if name != DROPPED]}
    (folder / "session.json").write_text(json.dumps({**table, "buffers": stream.buffers, "notes": notes}))
    if process:
        process.write(folder / PROCESS_STATE)
    manifest.sign(folder, [path.name for path in folder.iterdir()], final_name=run.outputs.name)
    sync_files(folder)  # before the result says that they are there
    shutil.rmtree(run.outputs, ignore_errors=True)
    folder.rename(run.outputs)
    sync_folder(run.path)
    return notes


def _write_values(
    folder: Path,
    run: RunDir,
    values: dict[str, Any],
    namespace: dict[str, Any],
    inputs: Inputs,
    metadata: dict[str, str],
) -> objects.Stream | None:
    """Write the large data of ``values`` to ``folder``; return the stream, ``None`` if they can't be pickled."""
    sink = OutputFiles(folder, run.outputs.name, inputs)
    written: set[int] = set()
    for name, value in values.items():
        tensors = {} if id(value) in written else weights(value)
        if tensors:
            written.add(id(value))
            sink.write_safetensors(name, tensors, metadata)
    try:
        return dump(values, namespace, sink, inputs.labels, inputs, merging=True)
    except OSError:
        raise
    except Exception:  # noqa: BLE001 - pickling runs the objects' own code
        return None


def weights(value: Any) -> dict[str, torch.Tensor]:
    """Return the tensors of ``value`` to write as safetensors: a module's state, or a large single tensor."""
    if isinstance(value, torch.nn.Module):
        state = value.state_dict()
        return {key: tensor for key, tensor in state.items() if isinstance(tensor, torch.Tensor) and _dense(tensor)}
    if isinstance(value, torch.Tensor) and _dense(value) and value.nbytes > objects.INLINE and not _is_in_file(value):
        return {"tensor": value}
    return {}


def _is_in_file(tensor: torch.Tensor) -> bool:
    """Whether a tensor shows a mapped file, which is its weights' file itself."""
    span = mapped_files.find_storage(tensor.untyped_storage())
    return span is not None and span.shared


def _dense(tensor: torch.Tensor) -> bool:
    """Whether a tensor can be written as safetensors; the parameters of a lazy module have no data at first."""
    has_data = tensor.layout is torch.strided and not tensor.is_meta and not torch.nn.parameter.is_lazy(tensor)
    return has_data and tensor.dtype in safetensors.DTYPES


def dump(
    value: Any,
    namespace: dict[str, Any],
    sink: objects.Sink,
    labels: objects.Labels,
    inputs: Inputs,
    *,
    merging: bool = False,
    visit: Callable[[Any], None] | None = None,
    references: Mapping[int, str] = MappingProxyType({}),
) -> objects.Stream:
    """Pickle a value of the script. It refers by name to definitions that the session has.

    These are what was sent, and the classes that the cell defines, since the session defines them, too.

    Parameters
    ----------
    labels, merging, visit
        see :func:`objects.dump`.
    references
        id → name of other values that are referred to by name.
    """

    def reference(obj: Any) -> str | None:
        name = objects.main_name(obj, [namespace])
        return name if name and (isinstance(obj, (type, caches.KIND)) or "." in name) else None

    earlier = inputs.definitions.names if inputs.definitions is not None else {}
    return objects.dump(
        value,
        sink,
        labels,
        prefix="out:",
        reference=reference,
        visit=visit,
        earlier=ChainMap(references, earlier) if references else earlier,  # type: ignore[arg-type]
        script=inputs.script,
        merging=merging,
    )


def _unpicklable(values: dict[str, Any], namespace: dict[str, Any], inputs: Inputs) -> dict[str, str]:
    """The names of values that can't be pickled, with a note for each; the note may be empty."""
    lost = {}
    for name, value in values.items():
        try:
            dump(value, namespace, NullSink(), objects.Labels(), inputs)
        except Exception as error:  # noqa: BLE001 - pickling runs the objects' own code
            note = f"{name} was not returned: it can't be copied between processes ({_one_line(error)})"
            lost[name] = "" if is_progress_bar(value) else note
    return lost or dict.fromkeys(values, "nothing was returned: the values can't be copied between processes together")


def is_progress_bar(value: Any) -> bool:
    """Whether nobody misses a value that can't be pickled."""
    return f"{type(value).__module__}.".startswith(_PROGRESS_BARS)


def _unloadable(
    stream: objects.Stream,
    source: objects.Source,
    values: dict[str, Any],
    namespace: dict[str, Any],
    inputs: Inputs,
) -> dict[str, str]:
    """The names of values that could not be loaded again, with a note for each: all are loaded, to see."""
    rebuilder, missing = Rebuilder(), set[str]()
    sent = inputs.definitions.by_name if inputs.definitions is not None else {}
    try:
        loaded = objects.load(
            stream,
            source,
            objects.Labels(),
            namespace,
            missing=missing,
            earlier=sent,
            script=inputs.script,
            rebuilder=rebuilder,
        )
    except Exception as error:  # noqa: BLE001 - unpickling runs the objects' own code
        return dict.fromkeys(values, f"nothing was returned: the values can't be loaded again ({_one_line(error)})")
    if not rebuilder.faults and not missing:
        return {}
    clean: set[int] = set()
    lost = {}
    for name, value in loaded.items():
        fault = find_fault([value], rebuilder.faults, clean=clean)
        if fault is not None:
            reason = fault or f"{', '.join(sorted(missing))} not found by name"
            lost[name] = f"{name} was not returned: it can't be loaded again in another process ({reason})"
    return lost


def _one_line(error: Exception) -> str:
    """Return an exception's message as one line; the arguments of some are a format string and its values."""
    first, *rest = error.args or (type(error).__name__,)
    text = str(first).format(*rest) if rest and "{}" in str(first) else str(error)
    return text.split("\n")[0]


def fingerprints(
    names: Iterable[str], namespace: dict[str, Any], inputs: Inputs, *, before: bool = False
) -> dict[str, tuple[bytes, tuple[storages.Location, ...]]]:
    """Return fingerprints of values by name: compare those before the cell with those after it.

    Values that can't be pickled have none, so that they count as unchanged.
    """
    sink = NullSink() if before else ChangeSink(inputs)
    found = {name: _fingerprint(namespace[name], namespace, inputs, sink) for name in names if name in namespace}
    return {name: printed for name, printed in found.items() if printed is not None}


def fingerprint_before(namespace: dict[str, Any], inputs: Inputs) -> Callable[[Any], Any]:
    """Makes fingerprints of values before the cell."""
    return functools.partial(_fingerprint, namespace=namespace, inputs=inputs, sink=NullSink())


def fingerprint_after(namespace: dict[str, Any], inputs: Inputs) -> Callable[[Any], Any]:
    """Makes fingerprints of values after the cell."""
    return functools.partial(_fingerprint, namespace=namespace, inputs=inputs, sink=ChangeSink(inputs))


def _fingerprint(
    value: Any, namespace: dict[str, Any], inputs: Inputs, sink: NullSink
) -> tuple[bytes, tuple[storages.Location, ...]] | None:
    try:
        stream = dump(value, namespace, sink, objects.Labels(), inputs)
    except Exception:  # noqa: BLE001 - pickling runs the objects' own code
        return None
    return hashlib.sha256(stream.data).digest(), stream.buffers
