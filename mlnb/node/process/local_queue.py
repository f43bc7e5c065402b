"""Cores and GPUs of this machine, handed out first come, first served, to one user's runs.

One small JSON file under a lock. Every entry names the process that holds or awaits it, so what dead processes
held is free again without anyone's tidying up. Where the file is lost, as from a folder for what is temporary that is
cleared now and then, those that live say again what they hold.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

from mlnb.errors import StorageError
from mlnb.node.process.identity import is_alive, process_identity
from mlnb.rundir import select_fields, storage_errors


@dataclass
class Ticket:
    """One run's place: what it asks for, who waits or holds, what it was granted."""

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
        where its two files are.
    cpus
        cores there are to hand out.
    gpus
        GPUs there are, by the names that CUDA_VISIBLE_DEVICES takes.
    """

    def __init__(self, folder: Path, cpus: int, gpus: tuple[str, ...] = ()) -> None:
        self._state = folder / "slots.json"
        self._lock = folder / "slots.lock"
        self.cpus, self.gpus = cpus, gpus
        self._mine: Ticket | None = None

    @contextlib.contextmanager
    def _tickets(self) -> Iterator[list[Ticket]]:
        with storage_errors(self._lock, "MLNB_RUNTIME"), self._opened() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            tickets = self._read()
            before = json.dumps([asdict(ticket) for ticket in tickets])
            tickets[:] = [ticket for ticket in tickets if is_alive(ticket.pid, ticket.identity)]
            if self._mine is not None and all(ticket.run != self._mine.run for ticket in tickets):
                tickets.append(self._mine)
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
        """Take a place at the end, held by the process ``pid`` until :meth:`take_over`; once a run."""
        with self._tickets() as tickets:
            if all(ticket.run != run for ticket in tickets):  # its node program may have been faster
                tickets.append(Ticket(run, min(cpus, self.cpus), gpus, pid, identity))

    def take_over(self, run: str, cpus: int, gpus: int) -> None:
        """Make this process the holder of ``run``'s place; take one at the end if there is none."""
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
        self._mine = ticket

    def acquire(self, run: str) -> tuple[str, ...] | None:
        """What ``run`` was granted (GPU names; empty where it asked for none), or ``None``: not its turn yet."""
        with self._tickets() as tickets:
            for ticket in tickets:
                if ticket.run == run and ticket.granted:
                    return self._grant(ticket)
                if ticket.granted:
                    continue
                free = self._free(tickets)
                if ticket.cpus > free[0] or ticket.gpus > len(free[1]):
                    return None  # strictly in order: nobody overtakes the first that waits
                if ticket.run == run:
                    ticket.granted, ticket.devices = True, tuple(free[1][: ticket.gpus])
                    return self._grant(ticket)
                return None  # whose turn it is will take it
        return None

    def _grant(self, ticket: Ticket) -> tuple[str, ...]:
        if self._mine is not None and self._mine.run == ticket.run:
            self._mine = ticket
        return ticket.devices

    def restore(self) -> None:
        """Say again what this process has claimed, and what of it was granted, if the file has been lost."""
        mine = self._mine
        if mine is not None and all(ticket.run != mine.run for ticket in self._read()):
            with contextlib.suppress(OSError, StorageError), self._tickets():
                pass

    def available(self) -> tuple[int, list[str]]:
        """How many cores no run holds, and which GPUs."""
        return self._free([ticket for ticket in self._read() if is_alive(ticket.pid, ticket.identity)])

    def _free(self, tickets: list[Ticket]) -> tuple[int, list[str]]:
        held = [ticket for ticket in tickets if ticket.granted]
        taken = {device for ticket in held for device in ticket.devices}
        return self.cpus - sum(ticket.cpus for ticket in held), [g for g in self.gpus if g not in taken]

    def release(self, run: str) -> None:
        """Give back what ``run`` holds or awaits."""
        self._mine = None
        with contextlib.suppress(OSError, StorageError), self._tickets() as tickets:  # of the dead it is free anyway
            tickets[:] = [ticket for ticket in tickets if ticket.run != run]

    def waiting_for(self, run: str) -> tuple[int, list[str]] | None:
        """How many runs wait before ``run``, and which runs hold something; ``None`` if it doesn't wait."""
        tickets = [t for t in self._read() if is_alive(t.pid, t.identity)]
        waiting = [t.run for t in tickets if not t.granted]
        if run not in waiting:
            return None
        return waiting.index(run), [t.run for t in tickets if t.granted]
