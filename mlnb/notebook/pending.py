"""Outputs that are still being made: a cell that reads one waits for its run, every other cell runs freely.

An AST transformer puts one call in front of such a cell, so that the waiting is part of the cell's own execution:
an interrupt stops the waiting (never the run), and a run that failed stops the cell.
"""

from __future__ import annotations

import ast
import re
import time
from dataclasses import dataclass, field
from typing import Any

from IPython.display import DisplayHandle

from mlnb.api import Run
from mlnb.capture.names.analysis import analyse, inside_magic, reach
from mlnb.errors import Detached, MlnbError, RunFailed
from mlnb.notebook.live_outputs import LiveOutputs
from mlnb.render.summary import status_line
from mlnb.units import format_time, state_phrase


@dataclass
class PendingOutputs:
    """What a run still owes the session.

    Attributes
    ----------
    names
        what a later cell waits for.
    perhaps
        what comes back too if the run turns out to have changed it; nobody waits for it.
    before
        the session's values of all these at submission: another one means that something later has given it.
    """

    run: Run
    names: set[str]
    perhaps: set[str] = field(default_factory=set)
    before: dict[str, Any] = field(default_factory=dict)


class PendingRuns:
    """The runs whose outputs the session has not got yet, oldest first.

    Parameters
    ----------
    shell
        the IPython shell whose namespace takes the outputs.
    views
        the views to bring up to date while a cell waits.
    """

    def __init__(self, shell: Any, views: LiveOutputs) -> None:
        self._shell, self._views = shell, views
        self._owed: list[PendingOutputs] = []
        self._binds: set[str] = set()

    def add(self, run: Run, names: set[str]) -> None:
        """Remember that ``run`` will bring ``names``; it is the newest word on them."""
        perhaps = set(run.task.inputs) - names
        self.forget(names)
        space = self._shell.user_ns
        before = {name: space[name] for name in names | perhaps if name in space}
        self._owed.append(PendingOutputs(run, names, perhaps, before))

    def forget(self, names: set[str]) -> None:
        """Drop the claim of earlier runs on ``names``: something later has given them a value."""
        for owed in self._owed:
            owed.names -= names
            owed.perhaps -= names

    def read_by(self, source: str | ast.Module) -> set[str]:
        """The pending names that a cell reads, itself or through the notebook's functions it calls."""
        waiting = set().union(*(owed.names for owed in self._owed)) if self._owed else set()
        if not waiting:
            return set()
        tree = ast.parse(source) if isinstance(source, str) else source
        loads = set(analyse(tree).loads) | words_of_magics(tree)
        try:
            return waiting & (loads | reach(loads, self._shell.user_ns))
        except Exception:  # noqa: BLE001 - code of the session's objects; rather wait for all than read what is old
            return waiting

    def collect(self, names: set[str]) -> None:
        """Wait for the runs that owe ``names`` and bind what they bring.

        Raises
        ------
        Detached
            if the waiting was interrupted.
        RunFailed
            if a run did not succeed; its names are as they were, and are waited for no more.
        """
        for owed in [owed for owed in self._owed if owed.names & names]:
            self._collect(owed, names)

    def collect_run(self, run: Run) -> None:
        """Wait for ``run`` and bind what it brings; see :meth:`collect`."""
        for owed in [owed for owed in self._owed if owed.run is run]:
            self._collect(owed, set())

    def drop(self, run: Run) -> None:
        """Wait no more for what ``run`` owes: another attempt of it, or of its work, is about to owe it."""
        self._owed = [owed for owed in self._owed if owed.run.id != run.id]

    def has_finished(self) -> bool:
        """Whether a run has succeeded whose outputs the session hasn't got."""
        return any(owed.run.state == "succeeded" for owed in self._owed)

    def collect_finished(self) -> None:
        """Bind what runs have brought that succeeded meanwhile."""
        for owed in list(self._owed):
            if owed.run.state == "succeeded":
                self._settle(owed)
            elif owed.run.done and not owed.names:
                self._owed.remove(owed)

    def will_bind(self, tree: ast.Module) -> None:
        """Remember what the cell that is about to run binds in any case."""
        for statement in inside_magic(tree).body:
            if not isinstance(statement, _PERHAPS):
                self._binds |= analyse(ast.Module([statement], [])).stores

    def after_cell(self, result: Any) -> None:
        """Drop the claims on what the cell that has just run has given a value."""
        binds, self._binds = self._binds, set()
        if result.success:
            self.forget(binds)
        for owed in self._owed:
            for name in [*owed.names, *owed.perhaps]:
                if self._shell.user_ns.get(name, _NOTHING) is not owed.before.get(name, _NOTHING):
                    owed.names.discard(name)
                    owed.perhaps.discard(name)

    def _collect(self, owed: PendingOutputs, read: set[str]) -> None:
        run = owed.run
        try:
            self._wait(run)
        except KeyboardInterrupt:
            raise Detached(
                f"run {run.name} goes on without this cell. Run this cell again to wait for it; "
                f"mlnb.runs[{run.name!r}].cancel() would end it"
            ) from None
        if run.state != "succeeded":
            self._owed.remove(owed)
            self._views.refresh(run)
            if run.cancelled_here:  # the person knows, and goes on on purpose
                print(f"mlnb: {run.name} was cancelled; {', '.join(sorted(owed.names & read))} as before it")
                return
            ended = f"{run.name} ({run.id}) {state_phrase(run.state)}: {run.reason.rstrip('.')}"
            raise RunFailed(f"{ended}. {self._unchanged(owed.names & read)}")
        self._settle(owed)

    def _unchanged(self, names: set[str]) -> str:
        """What it means for the cell that a run did not bring ``names``, which it reads."""
        there = sorted(name for name in names if name in self._shell.user_ns)
        lacking = sorted(names - set(there))
        said = ["It has changed nothing in this session"]
        if there:
            said.append(f"run this cell again to go on with {', '.join(there)} as before the run")
        if lacking:
            said.append(f"{', '.join(lacking)} {'are' if len(lacking) > 1 else 'is'} still not defined")
        return "; ".join(said) + "."

    def _settle(self, owed: PendingOutputs) -> None:
        self._owed.remove(owed)
        run = owed.run
        self._views.refresh(run)
        if not run.task.outputs and not run.task.inputs:
            return
        for note in run.deliver(self._shell.user_ns, owed.names | owed.perhaps).notes:
            print(f"mlnb: {note}")

    def _wait(self, run: Run) -> None:
        began, pause = time.monotonic(), 0.02
        view, shown, text = DisplayHandle(), False, ""
        try:
            while not run.done:
                time.sleep(pause)
                pause = min(0.2, pause * 1.3)
                text, before = f"waiting for {status_line(run)}", text
                if shown and text != before:
                    view.update({"text/plain": text}, raw=True)
                elif not shown and time.monotonic() - began > 0.3:
                    shown = True  # before it is: an interrupt may come at any moment, and must not leave it as it is
                    view.display({"text/plain": text}, raw=True)
        finally:
            if shown:
                waited = f"waited {format_time(time.monotonic() - began)} for {run.name}"
                view.update({"text/plain": f"{waited}, which {state_phrase(run.state)}"}, raw=True)


_PERHAPS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.Match)
"""Statements that may leave unbound what they bind."""

_NOTHING = object()


class WaitTransformer(ast.NodeTransformer):
    """Puts the waiting in front of cells that read a pending output."""

    def __init__(self, pending: PendingRuns) -> None:
        self._pending = pending

    def visit_Module(self, node: ast.Module) -> ast.Module:
        """See :class:`ast.NodeTransformer`."""
        if magic_name(node) == "train":  # it waits itself, once its options are known to be right
            return node
        names = self._pending.read_by(node)
        self._pending.will_bind(node)
        if names or self._pending.has_finished():
            call = f"__import__('mlnb.notebook.pending', fromlist=['x']).before_cell({sorted(names)!r})"
            wait = ast.parse(call).body
            for part in ast.walk(wait[0]):
                ast.copy_location(part, node.body[0] if node.body else wait[0])
            head = _leading(node.body)
            node.body[head:head] = wait
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


def words_of_magics(tree: ast.Module) -> set[str]:
    """The words of the lines that a cell hands to IPython: code in ``%timeit f(x)``, ``{x}`` in ``!echo {x}``."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in _HANDED:
            for argument in node.args[: _HANDED[node.func.attr]]:
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    found.update(re.findall(r"[^\W\d]\w*", argument.value))
    return found


_HANDED = {"run_line_magic": 2, "run_cell_magic": 2, "system": 1, "getoutput": 1}
"""Methods of the shell that a transformed cell calls, and how many of their arguments are a line."""


def _leading(body: list[ast.stmt]) -> int:
    """Statements that must stay first: a docstring and ``__future__`` imports."""
    count = 0
    for statement in body:
        if not (isinstance(statement, ast.ImportFrom) and statement.module == "__future__"):
            break
        count += 1
    return count


current: PendingRuns | None = None


def before_cell(names: list[str]) -> None:
    """Called in front of a cell: wait for what it reads, bind what has come."""
    if current is None:
        raise MlnbError("mlnb is not loaded in this kernel: %load_ext mlnb")
    current.collect(set(names))
    current.collect_finished()
