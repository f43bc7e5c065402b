"""The entry point of capture: :func:`capture` makes a program of a cell and what it needs of its session."""

from __future__ import annotations

import ast
from collections.abc import Sequence
from pathlib import Path

from mlnb.capture.assemble import assemble
from mlnb.capture.at_hand import AtHand, looks_names_up
from mlnb.capture.cell import reading
from mlnb.capture.names.analysis import CellNames, future_features, reach
from mlnb.capture.reasons import Need, Reason
from mlnb.capture.replay.add import add_replayed, libraries
from mlnb.capture.session import Captured, Session
from mlnb.capture.ship.contents import Content, FileContent
from mlnb.capture.ship.process import session_state
from mlnb.capture.slice import Slice
from mlnb.capture.source.history import SourceHistory
from mlnb.capture.source.modules import LocalModules, imported_roots, imports_by_name, roots_in_strings
from mlnb.capture.source.nodes import parse
from mlnb.errors import CannotShip
from mlnb.node.data.asking import has_attribute
from mlnb.node.data.kinds.mapped_files import one_look


@one_look()
def capture(
    cell: str,
    session: Session,
    *,
    label: str = "cell",
    first_line: int = 2,
    include: Sequence[str] = (),
    outputs: Sequence[str] = (),
) -> Captured:
    """Make a cell, with what it needs of its session, a program that other processes can run.

    Parameters
    ----------
    cell
        the cell's body, below its ``%%train`` line, as the user wrote it.
    session
        the session.
    label
        what to call the cell in messages, as ``cell [5]``.
    first_line
        the cell's line of the body's first line.
    include
        names, files and folders to send even if the cell doesn't mention them; such a name may hold a credential.
    outputs
        names whose values the run returns; determined from the code if empty.

    Raises
    ------
    CannotShip
        if the cell can't be a program, or needs something that can't be sent. Nothing is written in that case.
    """
    futures = _session_futures(session)
    source = reading.read(cell, session, label, first_line, "annotations" in futures)
    included, files, trusted_modules = _sort_included(include, session)
    modules = LocalModules(session.cwd, trusted_modules)
    history = SourceHistory(session.history, session.transform, session.executed)
    slice_ = Slice(session, history, modules, included, _assigned_first(source.names, session))
    names = source.names
    for name in sorted(names.loads, key=lambda name: (names.lines[name], name)):
        slice_.need(name, Reason(source.line(name)), _need_of(name, names))
    for name in sorted(names.annotation_names | names.deletes):
        slice_.need(name, Reason(None), Need.OPTIONAL)
    for name in included:
        slice_.need(name, Reason(None))
    for root in sorted(imported_roots(source.tree)):
        modules.add(root)
    slice_.dotted_names |= names.dotted_names
    slice_.resolve()
    if looks_names_up([source.tree, *(definition.origin.node for definition in slice_.definitions.values())]):
        AtHand(slice_).add()
        slice_.resolve()
    add_replayed(slice_, history, modules, source)
    for definition in slice_.definitions.values():
        for root in sorted(imported_roots(definition.origin.node)):
            modules.add(root)
    code = [source.tree, *(definition.origin.node for definition in slice_.definitions.values()), *modules.trees()]
    code += [ast.Constant(value) for _, value in slice_.literals.values() if isinstance(value, str)]
    if any(map(imports_by_name, code)):
        for root in sorted(set().union(*map(roots_in_strings, code))):
            modules.add(root)
    process, notes = session_state(code, libraries(slice_, modules, source))
    for note in notes:
        slice_.note(note)
    return assemble(source, slice_, modules, files, outputs, futures, process)


def _need_of(name: str, names: CellNames) -> Need:
    """Whether the cell can do without a name that it reads."""
    if name in names.certain:
        return Need.REQUIRED
    return Need.OPTIONAL if name in names.possibly_assigned else Need.DEFERRED


def _sort_included(include: Sequence[str], session: Session) -> tuple[list[str], dict[str, Content], list[str]]:
    """Sort ``--in`` into names, files to send, and modules whose source may hold credentials."""
    names: list[str] = []
    files: dict[str, Content] = {}
    modules: list[str] = []
    for item in include:
        path = session.cwd / item
        if item.isidentifier() and session.has(item):
            names.append(item)
            value = session.namespace[item]
            if has_attribute(value, "__path__") or has_attribute(value, "__file__"):
                modules.append(value.__name__.split(".")[0])
        elif path.is_file():
            files[_run_path(path, session.cwd)] = FileContent(path)
            modules += [str(path.resolve()), path.stem]
        elif path.is_dir():
            for inner in sorted(path.rglob("*")):
                if inner.is_file() and "__pycache__" not in inner.parts:
                    files[_run_path(inner, session.cwd)] = FileContent(inner)
        else:
            raise CannotShip(f"--in {item}: neither a variable of this session nor a file under {session.cwd}.")
    return names, files, modules


def _run_path(path: Path, cwd: Path) -> str:
    """A file's path in the run directory."""
    try:
        return f"files/{path.resolve().relative_to(cwd.resolve())}"
    except ValueError:
        raise CannotShip(
            f"--in {path}: only files under {cwd} can be sent, since they keep their path relative to it."
        ) from None


def _assigned_first(names: CellNames, session: Session) -> set[str]:
    """Names that functions of the session read, but only after the cell has definitely assigned them."""
    reached: set[str] = set()
    unassigned: set[str] = set(names.loads)
    reads: dict[str, frozenset[str]] = {}
    for name in names.loads:
        through = reach([name], session.namespace, reads) - {name}
        reached |= through
        unassigned |= through - names.assigned_before.get(name, frozenset())
    return reached - unassigned


def _session_futures(session: Session) -> list[str]:
    """The ``from __future__`` features that the session's cells have switched on; they stay on."""
    trees = [parse(text) for text in session.history if "__future__" in text]
    return list(dict.fromkeys(feature for tree in trees if tree for feature in future_features(tree)))
