"""Outputs that are still being made: a cell that reads one waits for its run, every other cell runs freely.

An AST transformer puts one call in front of such a cell, so that the waiting is part of the cell's own execution:
an interrupt stops the waiting (never the run), and a run that failed stops the cell.
"""

from __future__ import annotations

import ast
import time
from dataclasses import dataclass
from typing import Any

from IPython.display import display

from mlnb.api import Run
from mlnb.api.bind import deliver
from mlnb.api.units import say_time
from mlnb.capture.names import analyse, reach
from mlnb.errors import Detached, MlnbError, RunFailed
from mlnb.notebook.view import Views, line


@dataclass
class Owed:
    """What a run still owes the session."""

    run: Run
    names: set[str]


class Pending:
    """The runs whose outputs the session has not got yet, oldest first.

    Parameters
    ----------
    shell
        the IPython shell whose namespace takes the outputs.
    views
        the views to bring up to date while a cell waits.
    """

    def __init__(self, shell: Any, views: Views) -> None:
        self._shell, self._views = shell, views
        self._owed: list[Owed] = []

    def add(self, owed: Owed) -> None:
        """Remember what ``owed.run`` will bring; it is the newest word on those names."""
        self.forget(owed.names)
        self._owed.append(owed)

    def forget(self, names: set[str]) -> None:
        """Drop the claim of earlier runs on ``names``: something later has given them a value."""
        for owed in self._owed:
            owed.names -= names

    def read_by(self, source: str | ast.Module) -> set[str]:
        """The pending names that a cell reads, itself or through the notebook's functions it calls."""
        waiting = set().union(*(owed.names for owed in self._owed)) if self._owed else set()
        if not waiting:
            return set()
        loads = set(analyse(source).loads)
        return waiting & (loads | reach(loads, self._shell.user_ns))

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
            try:
                self._wait(owed.run)
            except KeyboardInterrupt:
                run = owed.run
                raise Detached(
                    f"run {run.name} goes on without this cell. mlnb.runs[{run.name!r}].cancel() would end it; "
                    "run this cell again to wait for it"
                ) from None
            self._settle(owed)

    def collect_finished(self) -> None:
        """Bind what runs have brought that succeeded meanwhile."""
        for owed in list(self._owed):
            if owed.run.state == "succeeded":
                self._settle(owed)

    def _settle(self, owed: Owed) -> None:
        self._owed.remove(owed)
        run = owed.run
        self._views.refresh(run)
        if run.state != "succeeded":
            raise RunFailed(
                f"{run.name} ({run.id}) is {run.state}: {run.reason}. It has changed nothing in this session: "
                f"run this cell again to go on with {', '.join(sorted(owed.names))} as they were before."
            )
        for note in deliver(run, self._shell.user_ns, owed.names).notes:
            print(f"mlnb: {note}")  # noqa: T201 - the cell's own output

    def _wait(self, run: Run) -> None:
        if run.done:
            return
        began, pause, shown = time.monotonic(), 0.02, None
        while not run.done:
            time.sleep(pause)
            pause = min(0.2, pause * 1.3)
            if time.monotonic() - began > 0.3:
                text = {"text/plain": f"waiting for {line(run)}"}
                if shown is None:
                    shown = display(text, raw=True, display_id=True)
                elif shown is not None:
                    shown.update(text, raw=True)
        if shown is not None:
            waited = say_time(time.monotonic() - began)
            shown.update({"text/plain": f"waited {waited} for {run.name}: {run.state}"}, raw=True)


class Waiter(ast.NodeTransformer):
    """Puts the waiting in front of cells that read a pending output."""

    def __init__(self, pending: Pending) -> None:
        self._pending = pending

    def visit_Module(self, node: ast.Module) -> ast.Module:  # noqa: N802 - ast's naming
        """See :class:`ast.NodeTransformer`."""
        if magic_name(node) == "train":  # it waits itself, once its options are known to be right
            return node
        names = self._pending.read_by(node)
        found = analyse(node)
        self._pending.forget(set(found.stores) - set(found.loads))
        call = f"__import__('mlnb.notebook.pending', fromlist=['x']).before_cell({sorted(names)!r})"
        if names or self._pending._owed:
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
    return call.args[0].value if isinstance(call.args[0], ast.Constant) else None


def _leading(body: list[ast.stmt]) -> int:
    """Statements that must stay first: a docstring and ``__future__`` imports."""
    count = 0
    for statement in body:
        if not (isinstance(statement, ast.ImportFrom) and statement.module == "__future__"):
            break
        count += 1
    return count


current: Pending | None = None


def before_cell(names: list[str]) -> None:
    """Called in front of a cell: wait for what it reads, bind what has come."""
    if current is None:
        raise MlnbError("mlnb is not loaded in this kernel: %load_ext mlnb")
    current.collect(set(names))
    current.collect_finished()
