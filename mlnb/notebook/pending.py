"""Makes cells wait for the outputs of runs: a cell that reads one waits for its run, every other cell runs at once.

An AST transformer puts one call before such a cell, so that the waiting is part of the cell's own execution: an
interrupt stops the waiting (never the run), and a run that failed stops the cell.
"""

from __future__ import annotations

import ast
import re
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from IPython.display import DisplayHandle

from mlnb.api import Run
from mlnb.api.read.describe import end_sentence
from mlnb.capture.names.analysis import analyse, inside_magic, reach
from mlnb.errors import Detached, MlnbError, RunFailed
from mlnb.notebook.live_outputs import LiveOutputs, has_front_end
from mlnb.render.summary import status_line
from mlnb.units import format_time, state_phrase


@dataclass
class PendingOutputs:
    """The outputs of one run that the session does not have yet.

    Attributes
    ----------
    names
        the names that a later cell waits for.
    maybe_changed
        inputs that are returned, too, if the run has changed them; no cell waits for these.
    before
        the session's values of these names at submission. If one differs now, a later cell has assigned the name.
    """

    run: Run
    names: set[str]
    maybe_changed: set[str] = field(default_factory=set)
    before: dict[str, Any] = field(default_factory=dict)


class PendingRuns:
    """The runs whose outputs the session does not have yet, oldest first.

    Parameters
    ----------
    shell
        the IPython shell in whose namespace outputs are bound.
    live_outputs
        updated when a cell has waited for a run.
    """

    def __init__(self, shell: Any, live_outputs: LiveOutputs) -> None:
        self._shell, self._live_outputs = shell, live_outputs
        self._pending: list[PendingOutputs] = []
        self._bound_by_cell: set[str] = set()

    def add(self, run: Run, names: set[str]) -> None:
        """Expect ``names`` from ``run``, and no longer from earlier runs."""
        maybe_changed = set(run.task.inputs) - names
        self.forget(names)
        namespace = self._shell.user_ns
        before = {name: namespace[name] for name in names | maybe_changed if name in namespace}
        self._pending.append(PendingOutputs(run, names, maybe_changed, before))

    def forget(self, names: set[str]) -> None:
        """Expect ``names`` from no run any more, since they were assigned later."""
        for outputs in self._pending:
            outputs.names -= names
            outputs.maybe_changed -= names

    def read_by(self, source: str | ast.Module) -> set[str]:
        """The pending names that a cell reads, itself or through the notebook's functions that it calls."""
        pending = set().union(*(outputs.names for outputs in self._pending)) if self._pending else set()
        if not pending:
            return set()
        tree = ast.parse(source) if isinstance(source, str) else source
        loads = set(analyse(tree).loads) | identifiers_in_magics(tree)
        try:
            return pending & (loads | reach(loads, self._shell.user_ns))
        except Exception:  # noqa: BLE001 - code of the session's objects failed: wait for all, rather than read old values
            return pending

    def collect(self, names: set[str]) -> None:
        """Wait for the runs that return ``names``, and bind their outputs.

        Raises
        ------
        Detached
            if the waiting was interrupted.
        RunFailed
            if a run did not succeed. Its names keep their values, and no later cell waits for them.
        """
        for outputs in [outputs for outputs in self._pending if outputs.names & names]:
            self._collect(outputs, names)

    def collect_run(self, run: Run) -> None:
        """Wait for ``run`` and bind its outputs; see :meth:`collect`."""
        for outputs in [outputs for outputs in self._pending if outputs.run is run]:
            self._collect(outputs, set())

    def drop(self, run: Run) -> None:
        """Expect nothing from ``run`` any more, since it is about to be resumed."""
        self._pending = [outputs for outputs in self._pending if outputs.run.id != run.id]

    def has_finished(self) -> bool:
        """Whether a run has succeeded whose outputs the session does not have yet."""
        return any(outputs.run.state == "succeeded" for outputs in self._pending)

    def collect_finished(self) -> None:
        """Bind the outputs of runs that have succeeded since the last cell."""
        for outputs in list(self._pending):
            if outputs.run.state == "succeeded":
                self._bind(outputs)
            elif outputs.run.done and not outputs.names:
                self._pending.remove(outputs)

    def will_bind(self, tree: ast.Module) -> None:
        """Record the names that the next cell will certainly bind."""
        for statement in inside_magic(tree).body:
            if not isinstance(statement, _CONDITIONAL):
                self._bound_by_cell |= analyse(ast.Module([statement], [])).stores

    def after_cell(self, result: Any) -> None:
        """Stop expecting names that the cell has bound itself, after it has run."""
        bound, self._bound_by_cell = self._bound_by_cell, set()
        if result.success:
            self.forget(bound)
        for outputs in self._pending:
            for name in [*outputs.names, *outputs.maybe_changed]:
                if self._shell.user_ns.get(name, _UNBOUND) is not outputs.before.get(name, _UNBOUND):
                    outputs.names.discard(name)
                    outputs.maybe_changed.discard(name)

    def _collect(self, outputs: PendingOutputs, read: set[str]) -> None:
        run = outputs.run
        try:
            self._wait(run)
        except KeyboardInterrupt:
            raise Detached(_detached(run)) from None
        if run.state == "succeeded":
            self._bind(outputs)
            return
        self._pending.remove(outputs)
        self._live_outputs.refresh(run)
        names = outputs.names & read
        if run.cancelled_here:  # the user knows
            print(f"mlnb: Run {run.name} was cancelled. {_listing(sorted(names))} {_be(names)} unchanged.")
            return
        ended = end_sentence(run.name, run.state, run.reason, run.task.resources.world_size)
        raise RunFailed(f"{ended} {self._unchanged(names)}")

    def _unchanged(self, names: set[str]) -> str:
        """What the failure of their run means for a cell that reads ``names``."""
        old = sorted(name for name in names if name in self._shell.user_ns)
        undefined = sorted(names - set(old))
        sentences = ["Your session is unchanged."]
        if old:
            sentences.append(f"Run this cell again to continue with the old {_listing(old)}.")
        if undefined:
            sentences.append(f"{_listing(undefined)} {_be(undefined)} still not defined.")
        return " ".join(sentences)

    def _bind(self, outputs: PendingOutputs) -> None:
        """Bind the outputs of a run that has succeeded."""
        self._pending.remove(outputs)
        run = outputs.run
        self._live_outputs.refresh(run)
        if not run.task.outputs and not run.task.inputs:
            return
        for note in run.deliver(self._shell.user_ns, outputs.names | outputs.maybe_changed).notes:
            print(f"mlnb: {note}")

    def _wait(self, run: Run) -> None:
        """Wait for the end of ``run``; shows under the cell that it waits, if that takes a while."""
        began, pause = time.monotonic(), 0.02
        handle, shown, text = DisplayHandle(), False, ""
        try:
            while not run.done:
                time.sleep(pause)
                pause = min(0.2, pause * 1.3)
                text, before = f"Waiting for run {status_line(run)}", text
                if shown and text != before:
                    handle.update({"text/plain": text}, raw=True)
                elif not shown and time.monotonic() - began > 0.3:
                    shown = True  # set first: an interrupt must not leave "Waiting" in the output
                    handle.display({"text/plain": text}, raw=True)
        finally:
            if shown:
                waited = f"Waited {format_time(time.monotonic() - began)} for run {run.name} ({run.state})"
                handle.update({"text/plain": waited}, raw=True)


def _detached(run: Run) -> str:
    stop = "click Stop on its card" if has_front_end() else f"call mlnb.runs[{run.name!r}].cancel()"
    return (
        f"Stopped waiting; {run.name} {state_phrase(run.state).replace('is ', 'is still ', 1)}. "
        f"Run this cell again to wait, or {stop} to end it."
    )


def _listing(names: Sequence[str]) -> str:
    """``a``, ``a and b``, ``a, b and c``."""
    return " and ".join([*([", ".join(names[:-1])] if names[1:] else []), *names[-1:]])


def _be(names: Collection[str]) -> str:
    return "are" if len(names) > 1 else "is"


_CONDITIONAL = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.Match)
"""Statements that may end without binding the names in them."""

_UNBOUND = object()


class WaitTransformer(ast.NodeTransformer):
    """Puts a call that waits before cells that read a pending output."""

    def __init__(self, pending: PendingRuns) -> None:
        self._pending = pending

    def visit_Module(self, node: ast.Module) -> ast.Module:
        """See :class:`ast.NodeTransformer`."""
        if magic_name(node) == "train":  # %%train itself waits, after it has checked its options
            return node
        names = self._pending.read_by(node)
        self._pending.will_bind(node)
        if names or self._pending.has_finished():
            call = f"__import__('mlnb.notebook.pending', fromlist=['x']).before_cell({sorted(names)!r})"
            wait = ast.parse(call).body
            for part in ast.walk(wait[0]):
                ast.copy_location(part, node.body[0] if node.body else wait[0])
            start = _leading(node.body)
            node.body[start:start] = wait
        return node


def magic_name(node: ast.Module) -> str | None:
    """The name of the cell magic that a (transformed) cell calls, if that is all it does."""
    if len(node.body) != 1 or not isinstance(node.body[0], ast.Expr):
        return None
    call = node.body[0].value
    is_magic = isinstance(call, ast.Call) and getattr(call.func, "attr", "") == "run_cell_magic" and call.args
    if not is_magic or not isinstance(call, ast.Call):
        return None
    name = call.args[0].value if isinstance(call.args[0], ast.Constant) else None
    return name if isinstance(name, str) else None


def identifiers_in_magics(tree: ast.Module) -> set[str]:
    """Identifiers in the lines that a cell passes to IPython: ``f`` and ``x`` in ``%timeit f(x)``."""
    identifiers: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _LINE_ARGUMENTS:
            for argument in node.args[: _LINE_ARGUMENTS[node.func.attr]]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    identifiers.update(re.findall(r"[^\W\d]\w*", argument.value))
    return identifiers


_LINE_ARGUMENTS = {"run_line_magic": 2, "run_cell_magic": 2, "system": 1, "getoutput": 1}
"""Methods of the shell that a transformed cell calls, and how many of their arguments are a line."""


def _leading(body: list[ast.stmt]) -> int:
    """The number of statements that must stay first: ``__future__`` imports."""
    count = 0
    for statement in body:
        if not (isinstance(statement, ast.ImportFrom) and statement.module == "__future__"):
            break
        count += 1
    return count


current: PendingRuns | None = None


def before_cell(names: list[str]) -> None:
    """Runs before a cell: wait for the outputs it reads, and bind those of runs that have succeeded.

    Raises
    ------
    MlnbError
        if the extension is not loaded, the waiting was interrupted, or a run did not succeed.
    """
    if current is None:
        raise MlnbError("mlnb is not loaded in this kernel. Run %load_ext mlnb.")
    current.collect(set(names))
    current.collect_finished()
