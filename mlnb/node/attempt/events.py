"""What one node program writes about its run: events, heartbeat, result. It never fails for want of disk space."""

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
from mlnb.rundir import Attempt, write_json

HEARTBEAT = 2.0
"""Seconds between heartbeats."""

INTERRUPTED = "interrupted"
"""The last event of an attempt that ended for reasons that are not the run's, and leaves no result: the job is to be
queued again, and goes on from a checkpoint in another attempt."""

_RESERVE = 16384


class Events:
    """The files of one node in one attempt.

    A little space is kept back from the start, so that even on a full disk the result can be written.
    """

    def __init__(self, attempt: Attempt, node: int) -> None:
        self._attempt, self._node = attempt, node
        attempt.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._reserve = attempt.path / f".node-{node}.reserve"
        with contextlib.suppress(OSError):
            self._reserve.write_bytes(b"\0" * _RESERVE)
        self._file = os.open(attempt.events(node), os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._beat = 0.0

    def add(self, event: str, **values: Any) -> None:
        """Append one event; what the disk does not take is left out."""
        line = json.dumps({"t": time.time(), "event": event, **values}) + "\n"
        with contextlib.suppress(OSError):
            os.write(self._file, line.encode())
        if event in ("ended", INTERRUPTED):
            self._write_beat(ended=True)

    def beat(self) -> None:
        """Say that this node program lives, if it is time again."""
        now = time.monotonic()
        if now - self._beat >= HEARTBEAT:
            self._beat = now
            self._write_beat()

    @contextlib.contextmanager
    def beating(self) -> Iterator[None]:
        """Beat from a thread meanwhile: for what may take minutes and is no loop, as an import from a slow disk."""
        over = threading.Event()

        def beats() -> None:
            while not over.wait(HEARTBEAT / 2):
                self.beat()

        thread = threading.Thread(target=beats, name="mlnb-beat", daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def _write_beat(self, *, ended: bool = False) -> None:
        with contextlib.suppress(OSError, StorageError):
            said = {"t": time.time(), "pid": os.getpid(), **({"ended": True} if ended else {})}
            write_json(self._attempt.heartbeat(self._node), said)

    def result(self, path: Path, value: dict[str, Any], patience: float = 60.0) -> None:
        """Write the result; on a full disk use the space kept back, and try again for ``patience`` seconds."""
        self._reserve.unlink(missing_ok=True)
        end = time.monotonic() + patience
        while True:
            try:
                return write_json(path, value)
            except (OSError, StorageError):
                if time.monotonic() > end:
                    raise
                time.sleep(1.0)
