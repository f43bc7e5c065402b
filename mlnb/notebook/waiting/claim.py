"""Claims: what the session does not have yet of a run that it has submitted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlnb.api import Run
from mlnb.capture import Captured
from mlnb.node.data.kinds import caches
from mlnb.notebook.waiting import lookups
from mlnb.notebook.waiting.files import WrittenFiles, code_of, written_files
from mlnb.notebook.waiting.graph import Reached, parts_of
from mlnb.notebook.waiting.process import ProcessChanges, process_changes
from mlnb.notebook.waiting.reads import CellReads


@dataclass
class Claim:
    """The outputs of one run that the session does not have yet.

    Attributes
    ----------
    names
        the names that a later cell waits for.
    maybe_changed
        inputs that are returned, too, if the run has changed them; no cell waits for these.
    before
        the session's values of these names at submission. If one differs now, a later cell has assigned the name.
    changed
        the objects that the run may change in place. Who reads one, by whatever name, waits.
    files
        the files that it may write.
    process
        what it may change in the session's process.
    binds_more
        whether it may bind names that its code doesn't show. Who reads a name that the session lacks waits.
    newer
        names that later cells have assigned.
    last_error
        why its outputs could not be loaded, as the user was told last.
    """

    run: Run
    names: set[str]
    maybe_changed: set[str] = field(default_factory=set)
    before: dict[str, Any] = field(default_factory=dict)
    changed: Reached = field(default_factory=Reached)
    files: WrittenFiles = field(default_factory=WrittenFiles)
    process: ProcessChanges = field(default_factory=ProcessChanges)
    binds_more: bool = False
    newer: set[str] = field(default_factory=set)
    last_error: str = ""

    def forget(self, names: set[str]) -> None:
        """Expect ``names`` no more, since they were assigned later."""
        self.newer |= names
        self.names -= names
        self.maybe_changed -= names

    def forget_assigned(self, namespace: Mapping[str, Any]) -> None:
        """Forget the names that have another value in ``namespace`` than at submission."""
        expected = [*self.names, *self.maybe_changed]
        self.forget({name for name in expected if namespace.get(name, _UNBOUND) is not self.before.get(name, _UNBOUND)})

    def read_by(self, reads: CellReads, own_files: set[str]) -> set[str] | None:
        """The names of which a cell reads the values; none for files; ``None`` if it reads nothing of the run."""
        is_bound_there = self.binds_more and not self.newer.issuperset(reads.undefined)
        if reads.everything or is_bound_there:
            return set(self.names)
        names = self.reached_by(reads.reached)
        folder = str(Path.cwd())
        files = any(self.files.names(path) for path in reads.paths) or any(
            self.files.concerns("command", command, folder, own_files) for command in reads.commands
        )
        return set() if names is None and (files or self.process.concern(reads.process)) else names

    def reached_by(self, reached: Reached) -> set[str] | None:
        """The names of which a cell that reaches ``reached`` reads the values; ``None`` if it reads nothing of them."""
        if not reached.complete:
            return set(self.names)
        names = self.names & reached.names
        objects = not self.changed.objects.keys().isdisjoint(reached.objects)
        if not names and not objects and not self.changed.memory.overlaps(reached.memory):
            return None
        return names | {name for name in self.names if id(self.before.get(name, _UNBOUND)) in reached.objects}


def new_claim(run: Run, names: set[str], namespace: Mapping[str, Any], captured: Captured) -> Claim:
    """What ``run``, submitted just now and made of ``captured``, will return: ``names``, other inputs, and files."""
    code = list(code_of(captured))
    inputs = set(run.task.inputs)
    before = {name: namespace[name] for name in names | inputs if name in namespace}
    values = [before[name] for name in names & inputs & before.keys()]
    values += [entry[2] for name in names & before.keys() for entry in _cached(before[name])]
    changed = parts_of(values, namespace)
    process = process_changes(captured, code, namespace)
    files = written_files(code, run, namespace, moves=process.folder)
    maps = (content for stream in captured.streams for content in stream.sink.maps)
    files.patterns |= {content.span.path for content in maps if content.span.writable and not content.is_copied}
    binds_more = run.task.returns_more and any(map(lookups.binds_more, code))
    return Claim(run, names, inputs - names, before, changed, files, process, binds_more)


def _cached(value: Any) -> Iterable[Any]:
    """What a function of the session has cached, which the run may change."""
    _, function = caches.cached_in(value) if callable(value) and not isinstance(value, type) else ("", None)
    return () if function is None else caches.entries(function)


_UNBOUND = object()
