"""A real kernel, driven as a front end drives it: cells in, what stands under them out."""

from __future__ import annotations

import os
import queue
import re
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.manager import KernelManager

PATIENCE = 60.0
MIME = "application/vnd.mlnb.run+json"


@dataclass
class Cell:
    """A cell that was sent, and what stands under it (views go on changing after it has ended)."""

    id: str
    status: str = ""
    out: str = ""
    err: str = ""
    displays: list[dict[str, Any]] = field(default_factory=list)
    error: list[str] = field(default_factory=list)
    result: str | None = None
    count: int | None = None
    idle: bool = False
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def message(self) -> str:
        """The cell's error as one line (colours taken off); fails if a traceback is shown."""
        assert self.status == "error", self.text
        shown = re.sub(r"\x1b\[[\d;]*m", "", "\n".join(self.error)).strip()
        assert "Traceback" not in shown, shown
        return shown

    @property
    def text(self) -> str:
        """All that a person reads under the cell, as text."""
        shown = [display["text/plain"] for display in self.displays if "text/plain" in display]
        return "\n".join([self.out, self.err, *shown, self.result or "", *self.error])

    @property
    def view(self) -> dict[str, Any]:
        """The MIME bundle of the run's view."""
        return next(display for display in self.displays if MIME in display)

    @property
    def run(self) -> dict[str, Any]:
        """What the view holds for our renderer: id, name, state, reason, line, metrics."""
        return self.view[MIME]


class Kernel:
    """One kernel and its client."""

    def __init__(self, cwd: Path, runs: Path, ipython: Path) -> None:
        self.cwd, self.runs = cwd, runs
        self.env = {**os.environ, "MLNB_RUNS": str(runs), "IPYTHONDIR": str(ipython)}
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(cwd), env=self.env)
        self.client = self._connect()
        self._cells: dict[str, Cell] = {}
        self._shown: dict[str, tuple[Cell, int]] = {}

    def _connect(self) -> Any:
        client = self.manager.client()
        client.start_channels()
        client.wait_for_ready(timeout=PATIENCE)
        return client

    # cells

    def send(self, code: str, **more: Any) -> Cell:
        """Have a cell run; returns at once."""
        cell = Cell(self.client.execute(code, **more))
        self._cells[cell.id] = cell
        return cell

    def finish(self, cell: Cell) -> Cell:
        """Wait until a cell has ended."""
        self.until(lambda: cell.idle)
        reply = self.client.get_shell_msg(timeout=PATIENCE)
        while reply["parent_header"].get("msg_id") != cell.id:
            reply = self.client.get_shell_msg(timeout=PATIENCE)
        content = reply["content"]
        cell.status, cell.count = content["status"], content.get("execution_count")
        cell.values = content.get("user_expressions") or {}
        return cell

    def run(self, code: str) -> Cell:
        """Run a cell to its end, however it ends."""
        return self.finish(self.send(code, stop_on_error=False))

    def ok(self, code: str) -> Cell:
        """Run a cell that must not fail."""
        cell = self.run(code)
        assert cell.status == "ok", cell.text
        return cell

    def look(self, expression: str) -> str:
        """The ``repr`` of an expression, evaluated without running a cell (so nothing is waited for or bound)."""
        cell = self.finish(self.send("", user_expressions={"x": expression}, store_history=False))
        found = cell.values["x"]
        assert found["status"] == "ok", found
        return str(found["data"]["text/plain"])

    def until(self, condition: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Take what the kernel sends until ``condition`` holds."""
        end = time.monotonic() + patience
        while not condition():
            assert time.monotonic() < end, f"waited in vain for {patience} s\n{self._describe_runs()}"
            try:
                self._take(self.client.get_iopub_msg(timeout=0.05))
            except queue.Empty:
                continue

    def until_waiting(self, cell: Cell) -> None:
        """Wait until a cell says that it waits for a run."""
        self.until(lambda: any(shown.get("text/plain", "").startswith("Waiting for") for shown in cell.displays))

    def _describe_runs(self) -> str:
        """The runs and the end of what each has printed: what a cell may be waiting for."""
        runs = sorted(self.runs.iterdir()) if self.runs.is_dir() else []
        logs = [
            log
            for run in runs
            for log in sorted(run.glob("attempts/*/*.*"))
            if log.suffix in {".log", ".err", ".jsonl"}
        ]
        return "\n".join(f"{log.relative_to(self.runs)}: {log.read_text(errors='replace')[-300:]}" for log in logs)

    def _take(self, message: dict[str, Any]) -> None:
        kind, content = message["msg_type"], message["content"]
        if kind == "update_display_data":
            place = self._shown.get(content["transient"]["display_id"])
            if place is not None:
                place[0].displays[place[1]] = content["data"]
            return
        cell = self._cells.get(message["parent_header"].get("msg_id", ""))
        if cell is None:
            return
        if kind == "stream" and content["name"] == "stdout":
            cell.out += content["text"]
        elif kind == "stream":
            cell.err += content["text"]
        elif kind == "display_data":
            display_id = content.get("transient", {}).get("display_id")
            if display_id:
                self._shown[display_id] = (cell, len(cell.displays))
            cell.displays.append(content["data"])
        elif kind == "execute_result":
            cell.result = content["data"]["text/plain"]
        elif kind == "error":
            cell.error = content["traceback"]
        elif kind == "status":
            cell.idle = content["execution_state"] == "idle"

    # the kernel itself

    def interrupt(self) -> None:
        """What the stop button does."""
        self.manager.interrupt_kernel()

    def restart(self) -> None:
        """What the restart button does."""
        self.client.stop_channels()
        self.manager.restart_kernel(now=False)
        self.client = self._connect()

    def kill(self) -> None:
        """``kill -9``."""
        assert self.manager.provisioner is not None
        os.kill(self.manager.provisioner.pid, signal.SIGKILL)  # type: ignore[attr-defined]

    def complete(self, code: str) -> list[str]:
        """What ``code`` could become: each match put where the front end would put it."""
        content = self._answer(self.client.complete(code, len(code)))["content"]
        return [code[: content["cursor_start"]] + match + code[content["cursor_end"] :] for match in content["matches"]]

    def inspect(self, code: str) -> str:
        """What ``code?`` shows."""
        identity = self.client.inspect(code, len(code))
        return str(self._answer(identity)["content"]["data"].get("text/plain", ""))

    def _answer(self, identity: str) -> dict[str, Any]:
        while True:
            reply = self.client.get_shell_msg(timeout=PATIENCE)
            if reply["parent_header"].get("msg_id") == identity:
                return dict(reply)

    def close(self) -> None:
        """End the kernel."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@contextmanager
def kernel(cwd: Path, runs: Path, ipython: Path) -> Iterator[Kernel]:
    """A kernel for as long as the block lasts."""
    made = Kernel(cwd, runs, ipython)
    try:
        yield made
    finally:
        made.close()
