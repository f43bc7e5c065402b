"""Makes cells wait for the outputs of runs: a cell that reads one waits for its run, every other cell runs at once.

An AST transformer puts one call before such a cell, so that the waiting is part of the cell's own execution: an
interrupt stops the waiting (never the run), and a run that failed stops the cell. What a run returns stays expected
until it is bound: neither an interrupt nor an error while it is loaded changes that.
"""

from __future__ import annotations

import ast
import dis
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from types import CodeType
from typing import Any

from IPython.display import DisplayHandle

from mlnb.api import Run
from mlnb.api.read.describe import end_sentence
from mlnb.capture import Captured
from mlnb.capture.names.analysis import analyse, global_reads, inside_magic
from mlnb.errors import Detached, MlnbError, RunFailed
from mlnb.notebook.view.live_outputs import LiveOutputs, has_front_end
from mlnb.notebook.waiting.claim import Claim, new_claim
from mlnb.notebook.waiting.graph import reach
from mlnb.notebook.waiting.reads import reads_of
from mlnb.render.summary import status_line
from mlnb.rundir import FINAL
from mlnb.units import format_time, state_phrase

Reads = Mapping[str, Collection[str]]
"""Of which runs (by id) a cell reads outputs, and which names; maybe none, where it reaches an object by another."""


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
        self._pending: list[Claim] = []
        self._bound_by_cell: set[str] = set()
        self._own_files: set[str] = set()

    def add(self, run: Run, names: set[str], captured: Captured) -> None:
        """Expect ``names`` and files from ``run``, made of ``captured``, and the names no longer from earlier runs."""
        self.forget(names)
        self._pending.append(new_claim(run, names, self._shell.user_ns, captured))

    def forget(self, names: set[str]) -> None:
        """Expect ``names`` from no run any more, since they were assigned later."""
        for pending in self._pending:
            pending.forget(names)

    def read_by(self, source: str | ast.Module) -> Reads:
        """The runs whose outputs a cell reads, itself or through whatever leads to them."""
        if not self._pending:
            return {}
        try:
            tree = ast.parse(source) if isinstance(source, str) else source
            reads = reads_of(tree, self._shell.user_ns)
            found = {pending.run.id: pending.read_by(reads, self._own_files) for pending in self._pending}
        except SyntaxError:
            raise
        except Exception:  # noqa: BLE001 - objects of the session failed: wait for all, rather than read old values
            return self.all_reads()
        return {run: names for run, names in found.items() if names is not None}

    def all_reads(self) -> Reads:
        """What a cell reads that reads everything."""
        return {pending.run.id: set(pending.names) for pending in self._pending}

    def collect(self, reads: Reads) -> None:
        """Wait for the runs of ``reads``, and bind their outputs.

        Raises
        ------
        Detached
            if the waiting or the loading was interrupted.
        RunFailed
            if a run did not succeed. Its names keep their values, and no later cell waits for them.
        MlnbError
            if outputs can't be loaded. They are still expected.
        """
        for pending in [pending for pending in self._pending if pending.run.id in reads]:
            self._collect(pending, set(reads[pending.run.id]))

    def collect_run(self, run: Run) -> None:
        """Wait for ``run`` and bind its outputs; see :meth:`collect`."""
        self.collect({run.id: ()})

    def drop(self, run: Run) -> None:
        """Expect nothing from ``run`` any more, since it was resumed."""
        self._pending = [pending for pending in self._pending if pending.run.id != run.id]

    def expects(self, run: Run) -> bool:
        """Whether ``run`` may still give something to the session."""
        return any(pending.run is run for pending in self._pending) and _state(run) not in FINAL - {"succeeded"}

    def has_finished(self) -> bool:
        """Whether a run has succeeded whose outputs the session does not have yet."""
        return any(_state(pending.run) == "succeeded" for pending in self._pending)

    def collect_finished(self) -> None:
        """Bind the outputs of runs that have succeeded since the last cell. One that can't be loaded stops no cell."""
        for pending in list(self._pending):
            state = _state(pending.run)
            if state == "succeeded":
                try:
                    self._bind(pending)
                except Detached:
                    raise
                except MlnbError as error:
                    if pending.last_error != str(error):
                        print(f"mlnb: {error}")
                    pending.last_error = str(error)
            elif state in FINAL and not pending.names and not pending.changed.objects:
                self._pending.remove(pending)

    # while a cell runs (mlnb.notebook.waiting.hook)

    def may_wait(self) -> bool:
        """Whether there is a run to wait for."""
        return bool(self._pending)

    def before_use(self, kind: str, path: str, folder: str) -> None:
        """Wait for the runs that may write what the cell is about to use; see :meth:`collect`."""
        needed = [claim.run.id for claim in self._pending if claim.files.concerns(kind, path, folder, self._own_files)]
        self._collect_within_cell(dict.fromkeys(needed, ()))
        if kind == "write" and self._pending:
            self._own_files |= {path, str(Path(path).parent)}

    def before_code(self, code: CodeType) -> None:
        """Wait for the runs whose outputs the cell is about to read by ``eval`` or ``exec``; see :meth:`collect`."""
        assigned = {step.argval for step in dis.get_instructions(code) if step.opname == "STORE_NAME"}
        reached = reach(global_reads(code) - assigned, self._shell.user_ns)
        reads = {claim.run.id: claim.reached_by(reached) for claim in self._pending}
        self._collect_within_cell({run: names for run, names in reads.items() if names is not None})

    def _collect_within_cell(self, reads: Reads) -> None:
        if reads:
            for pending in self._pending:  # what the cell has assigned until now
                pending.forget_assigned(self._shell.user_ns)
            self.collect(reads)

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
        for pending in self._pending:
            pending.forget_assigned(self._shell.user_ns)

    def _collect(self, pending: Claim, read: set[str]) -> None:
        run = pending.run
        try:
            state = self._wait(run)
        except KeyboardInterrupt:
            raise Detached(_detached(run)) from None
        if _is_removed(run):
            self._give_up(pending)
            return
        if state == "succeeded":
            self._bind(pending)
            return
        self._pending.remove(pending)
        self._live_outputs.refresh(run)
        names = pending.names & read
        if run.cancelled_here:  # the user knows
            print(f"mlnb: Run {run.name} was cancelled. {_unchanged(names)}")
            return
        ended = end_sentence(run.name, run.state, run.reason, run.task.resources.world_size)
        raise RunFailed(f"{ended} {self._unchanged(names)}")

    def _give_up(self, pending: Claim) -> None:
        """Expect nothing more of a run that was removed."""
        self._pending.remove(pending)
        print(f"mlnb: Run {pending.run.name} was removed before its results were loaded: {_unchanged(pending.names)}")

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

    def _bind(self, pending: Claim) -> None:
        """Bind the outputs of a run that has succeeded. They stay expected until they are bound.

        Raises
        ------
        Detached
            if it was interrupted.
        MlnbError
            if they can't be loaded.
        """
        run, notes = pending.run, list[str]()
        try:
            task = run.task
            if task.outputs or task.inputs or task.deletes or task.returns_more or task.seed is None:
                names = pending.names | pending.maybe_changed
                notes = run.deliver(self._shell.user_ns, names, pending.newer).notes
        except KeyboardInterrupt:
            raise Detached(f"Stopped loading the results of {run.name}. Run this cell again to load them.") from None
        except Exception as error:
            if _is_removed(run):
                self._give_up(pending)
                return
            reason = str(error) if isinstance(error, MlnbError) else f"{type(error).__name__}: {error}"
            raise MlnbError(
                f"The results of run {run.name} can't be loaded now: {reason.rstrip('.')}. Run this cell again to try "
                f"again, or call mlnb.runs[{run.id!r}].remove() to do without them."
            ) from error
        self._pending.remove(pending)
        self._live_outputs.refresh(run)
        for note in notes:
            print(f"mlnb: {note}")

    def _wait(self, run: Run) -> str:
        """Wait for the end of ``run``; returns its state. Shows under the cell that it waits, if that takes a while."""
        began, pause = time.monotonic(), 0.02
        handle, shown, text = DisplayHandle(), False, ""
        try:
            while (state := _state(run)) not in FINAL and not _is_removed(run):
                time.sleep(pause)
                pause = min(0.2, pause * 1.3)
                text, before = f"Waiting for run {_status(run)}", text
                if shown and text != before:
                    handle.update({"text/plain": text}, raw=True)
                elif not shown and time.monotonic() - began > 0.3:
                    shown = True  # set first: an interrupt must not leave "Waiting" in the output
                    handle.display({"text/plain": text}, raw=True)
        finally:
            if shown:
                waited = f"Waited {format_time(time.monotonic() - began)} for run {run.name} ({_state(run)})"
                handle.update({"text/plain": waited}, raw=True)
        return state


def _state(run: Run) -> str:
    """The state of ``run``. An error while it is read is no state: it is read again later."""
    try:
        return run.state
    except Exception:  # noqa: BLE001 - as of a file system that fails for a while
        return "pending"


def _is_removed(run: Run) -> bool:
    """Whether the run's directory was deleted. A file system that is away is no proof of it."""
    try:
        return not run.dir.exists() and run.dir.parent.exists()
    except OSError:
        return False


def _status(run: Run) -> str:
    try:
        return status_line(run)
    except Exception as error:  # noqa: BLE001 - whatever its files hold
        return f"{run.name}: it can't be read now ({error})"


def _unchanged(names: Collection[str]) -> str:
    return f"{_listing(sorted(names))} {_be(names)} unchanged." if names else "the session is unchanged."


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


class WaitTransformer(ast.NodeTransformer):
    """Puts a call that waits before cells that read a pending output."""

    def __init__(self, pending: PendingRuns) -> None:
        self._pending = pending

    def visit_Module(self, node: ast.Module) -> ast.Module:
        """See :class:`ast.NodeTransformer`."""
        if magic_name(node) == "train":  # %%train itself waits, after it has checked its options
            return node
        try:
            reads = self._pending.read_by(node)
            self._pending.will_bind(node)
            needed = bool(reads) or self._pending.has_finished()
        except Exception:  # noqa: BLE001 - IPython would remove a transformer that raises
            reads, needed = self._pending.all_reads(), True
        if needed:
            listed = {run: sorted(names) for run, names in reads.items()}
            call = f"__import__('mlnb.notebook.waiting.pending', fromlist=['x']).before_cell({listed!r})"
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


def _leading(body: list[ast.stmt]) -> int:
    """The number of statements that must stay first: ``__future__`` imports."""
    count = 0
    for statement in body:
        if not (isinstance(statement, ast.ImportFrom) and statement.module == "__future__"):
            break
        count += 1
    return count


current: PendingRuns | None = None


def before_cell(reads: Reads) -> None:
    """Runs before a cell: wait for the outputs it reads, and bind those of runs that have succeeded.

    Raises
    ------
    MlnbError
        if the extension is not loaded, the waiting was interrupted, or a run did not succeed.
    """
    if current is None:
        raise MlnbError("mlnb is not loaded in this kernel. Run %load_ext mlnb.")
    current.collect(reads)
    current.collect_finished()
