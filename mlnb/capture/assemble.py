"""Assembly: the program, its data streams, its outputs and the plan, from what a slice has collected."""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

from mlnb.capture.cell.reading import CellSource
from mlnb.capture.names.analysis import future_features
from mlnb.capture.names.arguments import changed_by_calls
from mlnb.capture.names.state_changes import definitions_changed
from mlnb.capture.outputs import default_outputs, is_array
from mlnb.capture.reasons import Reason
from mlnb.capture.script import HEADER, Script, Statement, order
from mlnb.capture.session import Captured, PlanItem
from mlnb.capture.ship.contents import Content
from mlnb.capture.ship.loading import check_loads
from mlnb.capture.ship.streams import DataStream, write
from mlnb.capture.slice import Slice
from mlnb.capture.source.definition import names_of
from mlnb.capture.source.imports import import_lines, submodules
from mlnb.capture.source.modules import LocalModules
from mlnb.capture.source.nodes import defined_names, handler_names
from mlnb.node.data import objects
from mlnb.node.data.asking import attribute
from mlnb.node.data.process_state import ProcessState
from mlnb.node.data.settings import setting_statements
from mlnb.node.script.module_values import NAME as MODULE_VALUES

DATA_IMPORT = "from mlnb.node.data.inputs import session_data as _session_data"
MADE_ANEW_IMPORT = "from mlnb.node.data.inputs import made_anew as _made_anew"


def assemble(
    source: CellSource,
    slice_: Slice,
    modules: LocalModules,
    files: dict[str, Content],
    outputs: Sequence[str],
    futures: list[str],
    process: ProcessState,
) -> Captured:
    """The captured cell.

    Parameters
    ----------
    files
        path in the run directory → files that the user listed (``--in``).
    outputs
        names that the user listed (``--out``); empty to determine them from the code.
    futures
        the ``from __future__`` features of the session.
    process
        the state of the session's process.
    """
    session = slice_.session
    steps, streams, labels = _order_steps(slice_)
    futures = list(dict.fromkeys([*futures, *future_features(source.tree)]))
    for name, (_, value) in slice_.literals.items():
        labels.add_literal(name, value)
    sent = {**_session_definitions(slice_), **slice_.references.generated}
    for name, definition in sent.items():
        labels.add_state(name, definition, {id(value): other for other, value in sent.items()})
    script = _write_script(source, slice_, steps, futures, bool(streams))
    inputs = [name for name in slice_.data if session.has(name)]
    inputs += [name for name, (written, _) in slice_.literals.items() if written.containers]
    returned = tuple(outputs) or tuple(_default_outputs(source, slice_, sent))
    return Captured(
        script=script.text,
        segments=tuple(script.segments),
        streams=tuple(streams),
        files={**modules.contents, **files},
        module_folders=modules.folders,
        inputs=tuple(inputs),
        outputs=returned,
        deletes=tuple(sorted(source.names.deletes | set(filter(session.has, handler_names(source.tree))))),
        labels=labels,
        items=tuple(_plan_items(slice_, modules, streams, files)),
        notes=tuple(dict.fromkeys([*slice_.notes, *modules.notes])),
        bindings={**sent, **slice_.made_anew.values},
        process=process,
        changed_modules=tuple(_changed_modules(source, slice_, modules)),
    )


def _changed_modules(source: CellSource, slice_: Slice, modules: LocalModules) -> Iterator[str]:
    """The names of local modules, of the session and imported by the cell, whose attributes the cell assigns."""
    imported = {name: item.module for name, item in slice_.imports.items()}
    for node in source.tree.body:
        if isinstance(node, ast.Import):
            imported |= {alias.asname or alias.name.split(".")[0]: alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported |= {alias.asname or alias.name: node.module or "" for alias in node.names}
    for name, module in imported.items():
        if name in source.names.mutated and module.split(".")[0] in modules.sizes:
            yield name


def _session_definitions(slice_: Slice) -> dict[str, Any]:
    names = slice_.session.namespace
    sent_as_data = [name for name, value in slice_.data.items() if isinstance(value, (FunctionType, type))]
    return {name: names[name] for name in [*slice_.definitions, *sent_as_data] if slice_.session.has(name)}


# ---- the program


def _order_steps(slice_: Slice) -> tuple[list[Statement | str], list[DataStream], objects.Labels]:
    """The program's steps before the cell (a string is one that loads a data stream), the streams and their labels."""
    labels = objects.Labels()
    streams: list[DataStream] = []
    earlier = dict(slice_.made_anew.names)
    steps: list[Statement | str] = []
    for step in order(slice_.statements, list(slice_.data), lambda name: _required_by_data(slice_, name)):
        if isinstance(step, Statement):
            steps.append(step)
            continue
        values = {name: slice_.data[name] for name in step}
        if slice_.single_stream is not None and list(slice_.single_stream[0].values) == step:
            stream, labels = slice_.single_stream
        else:
            stream = slice_.pickle(len(streams), values, labels, earlier)
            _note_split_objects(slice_, stream, streams)
        _check_loads(slice_, stream, streams, earlier)
        earlier.update({id(value): name for name, value in values.items()})
        targets = ", ".join(values) + ("," if len(values) == 1 else "")
        steps.append(f"{targets} = _session_data({len(streams)})")
        streams.append(stream)
    return steps, streams, labels


def _check_loads(slice_: Slice, stream: DataStream, before: list[DataStream], earlier: dict[int, str]) -> None:
    """Refuse what can be pickled, but not loaded again."""
    main = {**slice_.session.namespace, **slice_.references.generated}
    loaded = {**slice_.made_anew.values, **{name: value for other in before for name, value in other.values.items()}}

    def dump_alone(name: str) -> DataStream:
        return slice_.pickle(0, {name: slice_.data[name]}, objects.Labels(), earlier)

    check_loads(stream, main, loaded, slice_.reasons, dump_alone)


def _required_by_data(slice_: Slice, name: str) -> Collection[str]:
    """The names that must be defined before the data of ``name`` can be loaded."""
    required: set[str] = set()

    def reference(obj: Any) -> str | None:
        referred = slice_.references.reference(obj, Reason(None, name))
        if referred:
            required.add(referred.split(".")[0])
        return referred

    made_anew = slice_.made_anew.names

    def visit(_: str, obj: Any) -> None:
        if id(obj) in made_anew:
            required.add(made_anew[id(obj)])

    write(0, {name: slice_.data[name]}, objects.Labels(), reference, visit, made_anew)
    return required


def _note_split_objects(slice_: Slice, stream: DataStream, earlier: list[DataStream]) -> None:
    """Tell the user if data that a definition requires share objects with data that can only be loaded later."""
    has_common = any(stream.containers & other.containers for other in earlier)
    if has_common or stream.sink.shared_names:
        names = ", ".join(sorted(stream.sink.shared_names)) or ", ".join(stream.values)
        slice_.note(f"{names}: objects shared with data that a definition needs are separate copies in the run")


def _write_script(
    source: CellSource, slice_: Slice, steps: list[Statement | str], futures: list[str], has_data: bool
) -> Script:
    script = Script()
    script.add_lines([HEADER.rstrip("\n")])
    if futures:
        script.add_lines([f"from __future__ import {', '.join(futures)}"])
    script.add_gap()
    settings = setting_statements()
    own_imports = import_lines(slice_.imports.values())
    extra_imports = {f"import {name}" for name in submodules(slice_.dotted_names, slice_.session.namespace)}
    extra_imports |= slice_.extra_imports
    extra_imports |= {DATA_IMPORT} if has_data else set()
    extra_imports |= {MADE_ANEW_IMPORT} if slice_.made_anew.names else set()
    extra_imports |= {f"import {text.split('.')[0]}" for text in settings}
    script.add_lines([*own_imports, *sorted(extra_imports - set(own_imports))])
    script.add_gap()
    script.add_lines(settings)
    script.add_gap()
    _add_steps(script, steps)
    script.add_gap()
    script.add_lines(slice_.deferred_statements)
    if anew := ", ".join(f"{name}={name}" for name in slice_.made_anew.values):
        script.add_lines([f"_made_anew({anew})"])
    script.add_gap(2)
    script.add_lines([f"# {source.label}"])
    script.add_cell(source.script(), source.label, source.line_offset + 1)
    return script


def _add_steps(script: Script, steps: list[Statement | str]) -> None:
    """Add steps, with empty lines between groups: two around blocks, one between definitions and values."""
    previous = ""
    for step in steps:
        kind = "definition" if isinstance(step, Statement) and step.label else "value"
        if isinstance(step, Statement) and len(step.lines) > 1:
            kind = "block"
        if kind == "block" or kind != previous:
            script.add_gap(2 if "block" in (kind, previous) else 1)
        if isinstance(step, Statement):
            script.add_statement(step)
        else:
            script.add_lines([step])
        previous = kind


# ---- what the run returns


def _default_outputs(source: CellSource, slice_: Slice, sent: Mapping[str, Any]) -> list[str]:
    mutated, maybe_mutated = set(source.names.mutated), set(source.names.maybe_mutated)
    assigned = set(source.names.stores | source.names.deletes)
    for definition in slice_.definitions.values():
        node = definition.origin.node
        if isinstance(node, ast.stmt):
            names = names_of(node)
            mutated |= names.mutated
            maybe_mutated |= names.maybe_mutated
            assigned |= names.stores - set(defined_names(node))  # by the global statements of its functions
    captured = {**slice_.data, **{name: value for name, (_, value) in slice_.literals.items()}}
    captured = {name: value for name, value in captured.items() if slice_.session.has(name)}
    trees = [source.tree, *(definition.origin.node for definition in slice_.definitions.values())]
    if any(is_array(value) for value in captured.values()):  # of others it is enough that they are arguments
        mutated |= changed_by_calls(trees)
    changed = [name for name in definitions_changed(sent, trees) if slice_.session.has(name)]
    return list(dict.fromkeys([*default_outputs(assigned, captured, mutated, maybe_mutated), *changed]))


# ---- the plan


def _plan_items(
    slice_: Slice, modules: LocalModules, streams: list[DataStream], files: dict[str, Content]
) -> Iterator[PlanItem]:
    for name, imported in slice_.imports.items():
        yield PlanItem(name, "import", 0, imported.text)
    for name, definition in slice_.definitions.items():
        if slice_.session.has(name):
            yield PlanItem(name, "definition", 0, definition.origin.cell.label)
    for name, (written, _) in slice_.literals.items():
        yield PlanItem(name, "value", 0, written.text if len(written.text) <= 60 else written.text[:57] + "...")
    for stream in streams:
        for name, value in stream.values.items():
            if name == MODULE_VALUES:
                continue
            in_files = {Path(m.span.path).name for m in stream.sink.maps if m.name == name and not m.is_copied}
            detail = ", ".join([_describe(value), *(f"left in {file}" for file in sorted(in_files))])
            yield PlanItem(name, "data", stream.sink.sizes.get(name, 0), detail)
    for name, size in modules.sizes.items():
        yield PlanItem(name, "module", size, "a local module")
    for name, paths in slice_.module_values.items():
        yield PlanItem(name, "values", 0, f"{', '.join(paths)}: as in this session")
    for cell, text in slice_.replayed:
        yield PlanItem(text, "statement", 0, f"runs again, as in {cell}")
    for path, content in files.items():
        yield PlanItem(path.removeprefix("files/"), "file", content.size, "")


def _describe(value: Any) -> str:
    """A value's type, with its shape or length."""
    kind = type(value).__name__
    shape = attribute(value, "shape", None)
    if isinstance(shape, tuple):
        return f"{kind} {'x'.join(str(size) for size in shape)} {attribute(value, 'dtype', '')}".rstrip()
    if isinstance(value, (list, dict, set, tuple, str, bytes)):
        return f"{kind} of {len(value)}"
    return kind
