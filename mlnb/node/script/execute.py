"""Executes the program of a rank: first what comes before the cell, then the cell, with ``await`` at top level."""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from mlnb.node.data.kinds.code import future_flags
from mlnb.node.rank import display
from mlnb.task import Task

after_cell: list[Callable[[], None]] = []
"""Called when the cell has run to its end."""


def execute(task: Task, filename: str, namespace: dict[str, Any], before_cell: Callable[[], None]) -> None:
    """Run the program. If the last line of a cell is an expression, display its value, as a notebook does.

    Parameters
    ----------
    filename
        the name of the code's file.
    namespace
        of ``__main__``.
    before_cell
        called when the statements before the cell have run.
    """
    tree = ast.parse(task.script, filename)
    cell = task.segments[-1].start if task.segments else 1
    header = [node for node in tree.body if node.lineno < cell]
    body = [node for node in tree.body if node.lineno >= cell]
    last = body.pop() if task.interactive and body and isinstance(body[-1], ast.Expr) else None
    flags = future_flags(tree)
    runner = _Runner(filename, namespace, flags | (ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if task.interactive else 0))
    try:
        runner.run(ast.Module(header, []))
        before_cell()
        runner.run(ast.Module(body, []))
        if isinstance(last, ast.Expr):
            value = runner.run(ast.Expression(last.value))
            if value is not None:
                display.display(value)
        for call in after_cell:
            call()
    finally:
        runner.close()


class _Runner:
    """Runs parts of a program, in one event loop if they wait for something."""

    def __init__(self, filename: str, namespace: dict[str, Any], flags: int) -> None:
        self._filename, self._namespace, self._flags = filename, namespace, flags
        self._loop: asyncio.AbstractEventLoop | None = None

    def run(self, tree: ast.Module | ast.Expression) -> Any:
        """Run statements, or an expression; returns the expression's value."""
        mode = "eval" if isinstance(tree, ast.Expression) else "exec"
        code = compile(tree, self._filename, mode, self._flags, dont_inherit=True)
        value = eval(code, self._namespace)  # noqa: S307 - the user's program
        if not code.co_flags & inspect.CO_COROUTINE:
            return value
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            asyncio.set_event_loop(self._loop)
        return self._loop.run_until_complete(value)

    def close(self) -> None:
        """End what still runs in the event loop."""
        if self._loop is None:
            return
        tasks = asyncio.all_tasks(self._loop)
        for task in tasks:
            task.cancel()
        if tasks:
            self._loop.run_until_complete(asyncio.wait(tasks, timeout=1))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()
