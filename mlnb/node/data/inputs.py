"""Loads the session's data in a rank: ``script.py`` calls ``session_data``."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch

from mlnb.manifest import check_loadable
from mlnb.node.data import objects, process_state, storages
from mlnb.node.data.kinds.code import ScriptCode
from mlnb.node.data.process_state import ProcessState
from mlnb.node.data.sent import SentDefinitions
from mlnb.node.torch_private import storage_id
from mlnb.rundir import PROCESS_STATE, RunDir
from mlnb.runinfo import RunInfo


class NotSent:
    """Stands for the value of a name of the session that the cell may delete, and that was not sent."""


class Inputs:
    """The data that this process has loaded from one run directory.

    Attributes
    ----------
    labels
        the loaded storages, by label.
    values
        the session's values by name.
    bound_before
        the names that are bound when the cell begins, with their values.
    definitions
        the session's functions and classes; known when the cell begins.
    script
        the code of the run's script.
    made_anew
        what the script has made anew, by name, since the session's could not be sent.
    """

    def __init__(self, run: RunDir, device: str = "cpu") -> None:
        self.run = run
        self.device = device
        self.labels = objects.Labels()
        self.values: dict[str, Any] = {}
        self.bound_before: dict[str, Any] = {}
        self.definitions: SentDefinitions | None = None
        self.script: ScriptCode | None = None
        self.made_anew: dict[str, Any] = {}
        self._storage_files: dict[int, Path] = {}
        self._buffer_files: dict[tuple[int, int], Path] = {}
        self._process_before: ProcessState | None = None
        self._maps: set[str] = set()

    def set_environ(self, kept: Collection[str] = ()) -> list[str]:
        """Set the variables that the session has sent; those in ``kept`` were given for the run.

        Returns the names of those that it has and the run has not.
        """
        sent = self._sent_process_state()
        if sent is None:
            return []
        environ = {name: value for name, value in sent.environ.items() if name not in kept}
        process_state.apply(ProcessState(environ=environ))
        return [name for name in sent.kept_back if name not in os.environ]

    def set_process_state(self, without: Collection[str] = ()) -> None:
        """Set the process to the session's state, but for the parts ``without``: the cell is about to run."""
        sent = self._sent_process_state()
        if sent is not None:
            process_state.apply(ProcessState(sent.parts), without=without)
            self._process_before = process_state.read()

    def process_changes(self) -> ProcessState:
        """What has changed in the process's state since :meth:`set_process_state`; nothing if that had none to set."""
        if self._process_before is None:
            return ProcessState()
        return process_state.read().changes_since(self._process_before)

    def _sent_process_state(self) -> ProcessState | None:
        path = self.run.inputs / PROCESS_STATE
        if not path.exists():
            return None
        check_loadable(path)
        return ProcessState.load(path.read_bytes())

    def load(self, number: int, main: dict[str, Any]) -> dict[str, Any]:
        """Load stream ``number``; return its values by name.

        Raises
        ------
        NotTrusted
            if the run directory or the stream could have been written by someone else.
        """
        pickled = self.run.inputs / f"{number}.pickle"
        check_loadable(pickled)
        table = json.loads((self.run.inputs / f"{number}.json").read_text())
        blobs = [self.run.path / blob if isinstance(blob, str) else tuple(blob) for blob in table["blobs"]]
        self._maps |= {str(blob[0]) for blob in blobs if isinstance(blob, tuple)}
        source = _RecordingFiles(blobs, self)
        stream = objects.Stream(pickled.read_bytes(), tuple(tuple(location) for location in table["buffers"]))
        values: dict[str, Any] = objects.load(
            stream, source, self.labels, main, device=self.device, earlier=self.values, prefix=f"{number}:"
        )
        self.values.update(values)
        return values

    def begin_cell(self, namespace: dict[str, Any], names: Collection[str], script: ScriptCode) -> None:
        """The script has defined what was sent, and the cell begins.

        Parameters
        ----------
        namespace
            the script's globals.
        names
            names of values, as literals in the script, that come from the session, too.
        """
        for name in names:
            if name in namespace and name not in self.values:
                self.labels.add_literal(name, namespace[name])
                self.values[name] = namespace[name]
        self.definitions = SentDefinitions(namespace, self.values, self.made_anew, names)
        for name, definition in self.definitions.by_name.items():
            self.labels.add_state(name, definition, self.definitions.names)
        self.labels.watch()
        self.bound_before = dict(namespace)
        self.script = script

    def expect_deletes(self, namespace: dict[str, Any], names: Collection[str]) -> None:
        """Bind names of the session that the cell may delete, and that were not sent: so it is seen whether it does."""
        for name in names:
            if name not in namespace:
                namespace[name] = self.bound_before[name] = NotSent

    def forget_expected(self, namespace: dict[str, Any]) -> None:
        """Unbind the names that the cell could have deleted, and did not."""
        for name in [name for name, value in self.bound_before.items() if value is NotSent]:
            if namespace.get(name) is NotSent:
                del namespace[name], self.bound_before[name]

    def unchanged_storage(self, storage: torch.UntypedStorage) -> str | None:
        """Return the input file (a path in the run directory) that ``storage`` was loaded from, if it is unchanged."""
        path = self._storage_files.get(storage_id(storage))
        path = path or self._buffer_files.get((storage.data_ptr(), storage.nbytes()))  # the memory of an array
        return self._if_equal(path, storages.as_bytes(storage)) if path else None

    def unchanged_buffer(self, view: memoryview) -> str | None:
        """Return the input file that ``view`` was loaded from, if it is unchanged."""
        if view.readonly or not view.nbytes:
            return None
        tensor = torch.frombuffer(view, dtype=torch.uint8)
        path = self._buffer_files.get((tensor.data_ptr(), view.nbytes))
        return self._if_equal(path, tensor) if path else None

    def is_seen_by_session(self, path: str) -> bool:
        """Whether the session finds a file of this machine under the same path, as far as can be known here."""
        if path in self._maps:
            return True
        info = RunInfo.read(self.run)
        if info.mirrored or "image" in info.placement:
            return False
        return info.target == "local" or Path(path).stat().st_dev == self.run.path.stat().st_dev

    def _if_equal(self, path: Path, now: torch.Tensor) -> str | None:
        if path.stat().st_size != now.nbytes:
            return None
        before = storages.as_bytes(storages.mapped_storage(path, now.nbytes))
        return str(path.relative_to(self.run.path)) if torch.equal(before, now.cpu()) else None


class _RecordingFiles(storages.MappedFiles):
    """Records which file storages and buffers are loaded from, so that changes can be detected later."""

    def __init__(self, blobs: list[Path | storages.Location], inputs: Inputs) -> None:
        super().__init__(blobs)
        self._inputs = inputs

    def storage(self, location: storages.Location, nbytes: int) -> torch.UntypedStorage:
        storage = super().storage(location, nbytes)
        if location[0] == "blob":
            self._inputs._storage_files[storage_id(storage)] = self.path(location)
            self._inputs._buffer_files[storage.data_ptr(), nbytes] = self.path(location)
        return storage

    def buffer(self, location: storages.Location) -> Any:
        mapped = super().buffer(location)
        address = torch.frombuffer(mapped, dtype=torch.uint8).data_ptr()
        self._inputs._buffer_files[address, len(mapped)] = self.path(location)
        return mapped


current: Inputs | None = None
"""The data of this process's run; ``None`` before :func:`begin`."""


def begin(run: RunDir, device: str = "cpu") -> Inputs:
    """Read data from ``run`` from now on; what was on a GPU in the session is loaded to ``device``."""
    global current
    current = Inputs(run, device)
    return current


def session_data(number: int) -> tuple[Any, ...]:
    """Load data stream ``number`` of the session; return its values in the order in which ``script.py`` names them.

    A script that is run by hand reads from the run directory that it is in.
    """
    main = sys.modules["__main__"].__dict__
    inputs = current or begin(RunDir(os.environ.get("MLNB_RUN") or Path(main["__file__"]).resolve().parent))
    return tuple(inputs.load(number, main).values())


def made_anew(**values: Any) -> None:
    """What the script has made anew, since the session's could not be sent: what comes back refers to the session's."""
    if current is not None:
        current.made_anew.update(values)
