"""A queue for this machine's CPU cores and GPUs: one user's runs get them first come, first served.

The queue is one small JSON file under a lock. Each entry names the process that holds it or waits for it, so the
resources of a dead process are free at once. If the file is deleted, as happens in temporary folders, live processes
add their entries again.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

from mlnb.errors import StorageError
from mlnb.node.process.identity import is_alive, process_identity
from mlnb.rundir import select_fields, storage_errors


@dataclass
class Ticket:
    """One run's entry: what it asks for, the process that waits or holds, and what was granted."""

    run: str
    cpus: int
    gpus: int
    pid: int
    identity: str
    granted: bool = False
    devices: tuple[str, ...] = ()


class LocalQueue:
    """The queue of one user on one machine.

    Parameters
    ----------
    folder
        holds the queue's two files.
    cpus
        all cores that can be granted.
    gpus
        all GPUs that can be granted, as named in ``CUDA_VISIBLE_DEVICES``.
    """

    def __init__(self, folder: Path, cpus: int, gpus: tuple[str, ...] = ()) -> None:
        self._state = folder / "slots.json"
        self._lock = folder / "slots.lock"
        self.cpus, self.gpus = cpus, gpus
        self._own_ticket: Ticket | None = None

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> LocalQueue:
        """The queue that :attr:`mlnb.runinfo.NodeSettings.queue` describes."""
        return cls(Path(settings["folder"]), settings["cpus_total"], tuple(settings["gpus_total"]))

    @contextlib.contextmanager
    def _tickets(self) -> Iterator[list[Ticket]]:
        with storage_errors(self._lock, "MLNB_RUNTIME"), self._opened() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            tickets = self._read()
            before = json.dumps([asdict(ticket) for ticket in tickets])
            tickets[:] = [ticket for ticket in tickets if is_alive(ticket.pid, ticket.identity)]
            if self._own_ticket is not None and all(ticket.run != self._own_ticket.run for ticket in tickets):
                tickets.append(self._own_ticket)
            yield tickets
            after = json.dumps([asdict(ticket) for ticket in tickets])
            if after != before:
                temporary = self._state.with_suffix(".tmp")
                temporary.write_text(after)
                temporary.replace(self._state)

    def _opened(self) -> IO[str]:
        with contextlib.suppress(FileExistsError):
            self._lock.parent.mkdir(mode=0o700)
        return self._lock.open("a")

    def _read(self) -> list[Ticket]:
        try:
            rows = json.loads(self._state.read_bytes())
        except (OSError, ValueError):
            return []
        return [Ticket(**{**select_fields(Ticket, row), "devices": tuple(row["devices"])}) for row in rows]

    def enqueue(self, run: str, cpus: int, gpus: int, pid: int, identity: str) -> None:
        """Add ``run`` at the end, in the name of process ``pid``, which is to :meth:`take_over`. A run is added once.

        The entry is there as long as that process lives. So it has to be one that ends when the run has ended.
        """
        with self._tickets() as tickets:
            if all(ticket.run != run for ticket in tickets):  # its node program may have added it already
                tickets.append(Ticket(run, min(cpus, self.cpus), gpus, pid, identity))

    def take_over(self, run: str, cpus: int, gpus: int) -> None:
        """Make this process the owner of ``run``'s entry; add one at the end if there is none."""
        pid = os.getpid()
        identity = process_identity(pid) or ""
        with self._tickets() as tickets:
            for ticket in tickets:
                if ticket.run == run:
                    ticket.pid, ticket.identity = pid, identity
                    break
            else:
                ticket = Ticket(run, min(cpus, self.cpus), gpus, pid, identity)
                tickets.append(ticket)
        self._own_ticket = ticket

    def acquire(self, run: str) -> tuple[str, ...] | None:
        """Grant ``run`` what it asks for, if it is next. Returns its GPUs (maybe none), ``None`` if it must wait."""
        with self._tickets() as tickets:
            for ticket in tickets:
                if ticket.run == run and ticket.granted:
                    return self._grant(ticket)
                if ticket.granted:
                    continue
                free = self._free(tickets)
                if ticket.cpus > free[0] or ticket.gpus > len(free[1]):
                    return None  # strictly in order: no run overtakes the first that waits
                if ticket.run == run:
                    ticket.granted, ticket.devices = True, tuple(free[1][: ticket.gpus])
                    return self._grant(ticket)
                return None  # another run is next, and will take them
        return None

    def _grant(self, ticket: Ticket) -> tuple[str, ...]:
        if self._own_ticket is not None and self._own_ticket.run == ticket.run:
            self._own_ticket = ticket
        return ticket.devices

    def restore(self) -> None:
        """Add this process's entry again if the file was deleted."""
        own = self._own_ticket
        if own is not None and all(ticket.run != own.run for ticket in self._read()):
            with contextlib.suppress(OSError, StorageError), self._tickets():
                pass

    def available(self) -> tuple[int, list[str]]:
        """How many cores no run holds, and which GPUs."""
        return self._free([ticket for ticket in self._read() if is_alive(ticket.pid, ticket.identity)])

    def _free(self, tickets: list[Ticket]) -> tuple[int, list[str]]:
        held = [ticket for ticket in tickets if ticket.granted]
        taken = {device for ticket in held for device in ticket.devices}
        return self.cpus - sum(ticket.cpus for ticket in held), [gpu for gpu in self.gpus if gpu not in taken]

    def release(self, run: str) -> None:
        """Remove ``run``'s entry, and so free what it holds."""
        self._own_ticket = None
        with (
            contextlib.suppress(OSError, StorageError),
            self._tickets() as tickets,
        ):  # a dead process's entry is ignored anyway
            tickets[:] = [ticket for ticket in tickets if ticket.run != run]

    def waiting_for(self, run: str) -> tuple[int, list[str]] | None:
        """How many runs wait ahead of ``run``, and which runs hold resources; ``None`` if ``run`` doesn't wait."""
        tickets = [t for t in self._read() if is_alive(t.pid, t.identity)]
        waiting = [t.run for t in tickets if not t.granted]
        if run not in waiting:
            return None
        return waiting.index(run), [t.run for t in tickets if t.granted]
