"""Capture itself: the steps, one after another."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import Any

from mlnb.capture import cell as cells
from mlnb.capture import outputs, torch_settings
from mlnb.capture.cell import CellSource
from mlnb.capture.names.analysis import CellNames, future_features, reach
from mlnb.capture.reasons import Reason
from mlnb.capture.script import HEADER, Part, Script, order
from mlnb.capture.session import Captured, Item, Session
from mlnb.capture.ship.contents import Content, FileContent
from mlnb.capture.ship.streams import DataStream, write
from mlnb.capture.slice import Slice
from mlnb.capture.source import imports
from mlnb.capture.source.definition import names_of
from mlnb.capture.source.history import Sources, bound_names, parse
from mlnb.capture.source.modules import LocalModules
from mlnb.errors import CannotShip
from mlnb.node.data import objects

SESSION_DATA = "from mlnb.node.data.inputs import session_data as _session_data"


def capture(
    cell: str,
    session: Session,
    *,
    label: str = "cell",
    first_line: int = 2,
    include: Sequence[str] = (),
    outputs: Sequence[str] = (),
) -> Captured:
    """Slice out of a session what a cell needs to run elsewhere.

    Parameters
    ----------
    cell
        the cell's body, below its ``%%train`` line, as it was written.
    session
        the session it stands in.
    label
        what the person knows the cell by, ``cell [5]``.
    first_line
        the cell's line of the body's first line.
    include
        names, files and folders that must go along; a name here may hold a credential.
    outputs
        names that the session wants back; worked out if there are none.

    Raises
    ------
    CannotShip
        if the cell can't be a program, or needs something that can't go along. Nothing has been written then.
    """
    futures = _futures(session)
    source = cells.read(cell, session, label, first_line, "annotations" in futures)
    names, files, modules = _included(include, session)
    local = LocalModules(session.cwd, modules)
    sources = Sources(session.history, session.transform)
    found = Slice(session, sources, local, names, _covered(source.names, session))
    for name in sorted(source.names.loads, key=lambda name: (source.names.lines[name], name)):
        how = (
            "surely"
            if name in source.names.required
            else "perhaps"
            if name in source.names.possibly_assigned
            else "cell"
        )
        if how == "cell":  # read in a function of the cell, or deleted: undefined is an error unless it comes later
            how = "later" if name in source.names.stores else "surely"
        found.need(name, Reason(source.line(name)), how)
    for name in sorted(source.names.annotation_names | source.names.deletes):
        # what the cell deletes only perhaps must be there to be deleted, or not
        found.need(name, Reason(None), "perhaps")
    for name in names:
        found.need(name, Reason(None))
    for root in sorted(imported_roots(source.tree)):
        local.need(root)
    found.chains |= source.names.dotted_names
    found.settle()
    for part in found.found.values():
        for root in sorted(imported_roots(part.found.node)):
            local.need(root)
    return _assemble(source, session, found, local, files, outputs, futures)


def imported_roots(tree: ast.AST) -> set[str]:
    """The top-level modules that code imports anywhere."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


def _included(include: Sequence[str], session: Session) -> tuple[list[str], dict[str, Content], list[str]]:
    """Sort ``--in`` into names, files to take along, and modules whose source may hold credentials."""
    names: list[str] = []
    files: dict[str, Content] = {}
    modules: list[str] = []
    for given in include:
        path = session.cwd / given
        if given.isidentifier() and session.has(given):
            names.append(given)
            value = session.namespace[given]
            if hasattr(value, "__path__") or hasattr(value, "__file__"):
                modules.append(value.__name__.split(".")[0])
        elif path.is_file():
            files[f"files/{_relative(path, session.cwd)}"] = FileContent(path)
            modules += [str(path.resolve()), path.stem]
        elif path.is_dir():
            for inner in sorted(path.rglob("*")):
                if inner.is_file() and "__pycache__" not in inner.parts:
                    files[f"files/{_relative(inner, session.cwd)}"] = FileContent(inner)
        else:
            raise CannotShip(f"--in {given}: neither a variable of this session nor a file under {session.cwd}.")
    return names, files, modules


def _relative(path: Path, cwd: Path) -> Path:
    try:
        return path.resolve().relative_to(cwd.resolve())
    except ValueError:
        raise CannotShip(
            f"--in {path}: only files under {cwd} can go along, since they keep their place relative to it."
        ) from None


def _covered(names: CellNames, session: Session) -> set[str]:
    """Names that functions of the session read, but only after the cell has surely bound them."""
    reached: set[str] = set()
    open_: set[str] = set(names.loads)
    for root in names.loads:
        inside = reach([root], session.namespace) - {root}
        reached |= inside
        open_ |= inside - names.assigned_before.get(root, frozenset())
    return reached - open_


def _assemble(
    source: CellSource,
    session: Session,
    found: Slice,
    local: LocalModules,
    files: dict[str, Content],
    wanted: Sequence[str],
    futures: list[str],
) -> Captured:
    labels = objects.Labels()
    streams: list[DataStream] = []
    earlier: dict[int, str] = {}
    lines: list[list[str] | Part] = []
    for step in order(found.parts, list(found.data), lambda name: _needs(found, name)):
        if isinstance(step, Part):
            lines.append(step)
            continue
        values = {name: found.data[name] for name in step}
        if found.whole is not None and list(found.whole[0].values) == step:
            stream, labels = found.whole
        else:
            stream = found.stream(len(streams), values, labels, earlier)
            _note_split(found, stream, streams)
        earlier.update({id(value): name for name, value in values.items()})
        targets = ", ".join(values) + ("," if len(values) == 1 else "")
        lines.append([f"{targets} = _session_data({len(streams)})"])
        streams.append(stream)
    script = Script()
    script.add([HEADER.rstrip("\n")])
    futures = list(dict.fromkeys([*futures, *future_features(source.tree)]))
    if futures:
        script.add([f"from __future__ import {', '.join(futures)}"])
    script.gap()
    switches = torch_settings.lines()
    if switches:
        found.lines.add("import torch")
    used = set(found.chains)
    extra = {f"import {name}" for name in imports.submodules(used, session.namespace)} | found.lines
    extra |= {SESSION_DATA} if streams else set()
    taken = set(imports.lines(found.imports.values()))
    script.add([*imports.lines(found.imports.values()), *sorted(extra - taken)])
    script.gap()
    script.add(switches)
    script.gap()
    previous = ""
    for step_ in lines:
        kind = "definition" if isinstance(step_, Part) and step_.source else "value"
        block = isinstance(step_, Part) and len(step_.lines) > 1
        if block or kind != previous:
            script.gap(2 if block or previous == "block" else 1)
        if isinstance(step_, Part):
            script.part(step_)
        else:
            script.add(step_)
        previous = "block" if block else kind
    script.gap()
    script.add(found.late)
    script.gap(2)
    script.add([f"# {source.label}"])
    script.cell(source.script(), source.label, source.offset + 1)
    inputs = [name for name in found.data if session.has(name)]
    inputs += [name for name, (written, _) in found.literals.items() if written.parts]
    back = tuple(wanted) or tuple(_outputs(source, found))
    return Captured(
        script=script.text,
        segments=tuple(script.segments),
        streams=tuple(streams),
        files={**local.contents, **files},
        inputs=tuple(inputs),
        outputs=back,
        shared=tuple(outputs.sharing(back, _storages(streams, back, session), session.namespace)),
        deletes=tuple(sorted(source.names.deletes)),
        labels=labels,
        definitions=tuple(source.definitions()),
        items=tuple(_items(session, found, local, streams, files)),
        notes=tuple(dict.fromkeys([*found.notes, *local.notes])),
        bindings=found.references.bindings,
    )


def _note_split(found: Slice, stream: DataStream, earlier: list[DataStream]) -> None:
    """Say so if data that a definition needs early shares something with data that can only be loaded later."""
    common = any(stream.containers & other.containers for other in earlier)
    if common or stream.sink.known:
        names = ", ".join(sorted(stream.sink.known)) or ", ".join(stream.values)
        found.note(f"{names}: what it shares with data that a definition needs is another object in the run")


def _storages(streams: list[DataStream], names: Collection[str], session: Session) -> set[int]:
    """What tells the tensor storages of outputs from others."""
    met = {place for stream in streams for name in names for place in stream.sink.storages.get(name, ())}
    values = [session.namespace[name] for name in names if any(name in stream.values for stream in streams)]
    return met | {place for value in values for place in outputs.storages(value)}


def _needs(found: Slice, name: str) -> Collection[str]:
    """The definitions that must stand before the data of ``name`` can be loaded."""
    needed: set[str] = set()
    original = found.references.reference

    def reference(obj: Any) -> str | None:
        known = original(obj, Reason(None, name))
        if known:
            needed.add(known.split(".")[0])
        return known

    write(0, {name: found.data[name]}, objects.Labels(), reference, lambda *_: None, {})
    return needed


def _futures(session: Session) -> list[str]:
    """The ``from __future__`` features that the session's cells have switched on: they stay on."""
    trees = [parse(text) for text in session.history if "__future__" in text]
    return list(dict.fromkeys(feature for tree in trees if tree for feature in future_features(tree)))


def _outputs(source: CellSource, found: Slice) -> Iterable[str]:
    changed, touched = set(source.names.mutated), set(source.names.maybe_mutated)
    bound = set(source.names.stores | source.names.deletes)
    for definition in found.found.values():
        node = definition.found.node
        if isinstance(node, ast.stmt):
            names = names_of(node)
            changed |= names.mutated
            touched |= names.maybe_mutated
            bound |= names.stores - set(bound_names(node))  # by its functions' global statements
    captured = {**found.data, **{name: value for name, (_, value) in found.literals.items()}}
    captured = {name: value for name, value in captured.items() if found.session.has(name)}
    return outputs.wanted(bound, captured, changed, touched)


def _items(
    session: Session, found: Slice, local: LocalModules, streams: list[DataStream], files: dict[str, Content]
) -> Iterable[Item]:
    for name, imported in found.imports.items():
        yield Item(name, "import", 0, imported.text)
    for name, part in found.found.items():
        if session.has(name):
            yield Item(name, "definition", 0, part.found.cell.label)
    for name, (written, _) in found.literals.items():
        yield Item(name, "value", 0, written.text if len(written.text) <= 60 else written.text[:57] + "...")
    for stream in streams:
        for name, value in stream.values.items():
            yield Item(name, "data", stream.sink.sizes.get(name, 0), describe(value))
    for name, size in local.found.items():
        yield Item(name, "module", size, "a local module")
    for path, content in files.items():
        yield Item(path.removeprefix("files/"), "file", content.size, "")


def describe(value: Any) -> str:
    """A value in a few words: its type and shape."""
    kind = type(value).__name__
    shape = getattr(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{kind} {'x'.join(str(size) for size in shape)} {getattr(value, 'dtype', '')}".rstrip()
    if isinstance(value, (list, dict, set, tuple, str, bytes)):
        return f"{kind} of {len(value)}"
    return kind
