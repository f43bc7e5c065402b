"""Write a node program's events, heartbeat and result. A full disk is no error."""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlnb.errors import StorageError
from mlnb.rundir import Attempt, write_atomic, write_json

HEARTBEAT = 2.0
"""Seconds between heartbeats."""

INTERRUPTED = "interrupted"
"""The last event of an attempt that the batch system interrupted. It leaves no result: the job is queued again, and the
next attempt resumes from a checkpoint."""

_RESERVE = 16384
"""Bytes of disk space reserved for the result."""

_REMOVED = 2.0
"""Seconds after which a folder that is not there counts as removed: network file systems hide names for a moment."""


class Events:
    """Writes the files of one node in one attempt.

    A little disk space is reserved at the start, so that the result can be written even if the disk is full.
    """

    def __init__(self, attempt: Attempt, node: int) -> None:
        self._attempt, self._node = attempt, node
        attempt.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._reserve = attempt.path / f".node-{node}.reserve"
        with contextlib.suppress(OSError):
            self._reserve.write_bytes(b"\0" * _RESERVE)
        self._file = os.open(attempt.events(node), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._last_beat = 0.0

    def add(self, event: str, **values: Any) -> None:
        """Append one event. On a full disk it is dropped."""
        line = json.dumps({"t": time.time(), "event": event, **values}) + "\n"
        with contextlib.suppress(OSError):
            self._append(line.encode())
        if event in ("ended", INTERRUPTED):
            self._write_heartbeat(ended=True)

    def _append(self, line: bytes) -> None:
        """Append a line completely or not at all: the next one would be lost with an incomplete one."""
        written = os.write(self._file, line)
        if written < len(line):
            os.ftruncate(self._file, os.fstat(self._file).st_size - written)

    def beat(self) -> None:
        """Write the heartbeat, if the last one is :data:`HEARTBEAT` seconds old."""
        now = time.monotonic()
        if now - self._last_beat >= HEARTBEAT:
            self._last_beat = now
            self._write_heartbeat()

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Write heartbeats from a thread during a long call, as an import from a slow disk."""
        done = threading.Event()

        def beat_until_done() -> None:
            while not done.wait(HEARTBEAT / 2):
                self.beat()

        thread = threading.Thread(target=beat_until_done, name="mlnb-heartbeat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()

    def _write_heartbeat(self, *, ended: bool = False) -> None:
        with contextlib.suppress(OSError, StorageError):
            beat = {"t": time.time(), "pid": os.getpid(), **({"ended": True} if ended else {})}
            write_json(self._attempt.heartbeat(self._node), beat)

    def write_exit_code(self, path: Path, code: int) -> None:
        """Write the exit code that the job is to have."""
        with contextlib.suppress(OSError, StorageError):
            write_atomic(path, f"{code}\n")

    def write_result(self, path: Path, value: dict[str, Any], timeout: float = 60.0) -> None:
        """Write the result, and wait until it is on the disk: after a power failure, too, the run has ended.

        On a full disk, use the reserved space and try again for ``timeout`` seconds. Without its folder, the run was
        removed: give up much earlier.
        """
        self._reserve.unlink(missing_ok=True)
        began = time.monotonic()
        while True:
            try:
                return write_json(path, value, durable=True)
            except (OSError, StorageError):
                waited = time.monotonic() - began
                if waited > timeout or (waited > _REMOVED and not path.parent.exists()):
                    raise
                time.sleep(1.0)
