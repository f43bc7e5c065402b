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
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

from mlnb.errors import MlnbError, storage_errors
from mlnb.files import private_folder
from mlnb.node.process.identity import is_alive, process_identity
from mlnb.rundir import select_fields, write_atomic

_VARIABLE = "MLNB_RUNTIME"
"""The environment variable that sets where the queue's folder is."""


@dataclass
class Ticket:
    """One run's entry: what it asks for, the process that waits or holds, and what was granted.

    ``devices`` are the names of its GPUs in its own session. ``ids`` identify them in another session, too, which may
    have other names for the same GPUs.
    """

    run: str
    cpus: int
    gpus: int
    pid: int
    identity: str
    granted: bool = False
    devices: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()

    @property
    def taken(self) -> frozenset[str]:
        """What it holds of GPUs, as ids; as names if nothing else is known."""
        return frozenset(self.ids or self.devices) if self.granted else frozenset()


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
    gpu_ids
        by these names, what identifies each GPU on this machine (:func:`mlnb.node.machine.gpus.physical_ids`).
    """

    def __init__(
        self,
        folder: Path,
        cpus: int,
        gpus: tuple[str, ...] = (),
        gpu_ids: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self._state = folder / "slots.json"
        self._lock = folder / "slots.lock"
        self.cpus, self.gpus = cpus, gpus
        self._gpu_ids = gpu_ids
        self._own_ticket: Ticket | None = None

    @classmethod
    def from_settings(cls, settings: Mapping[str, Any]) -> LocalQueue:
        """The queue that :attr:`mlnb.runinfo.NodeSettings.queue` describes."""
        gpus = tuple(settings["gpus_total"])
        return cls(Path(settings["folder"]), settings["cpus_total"], gpus, settings.get("gpu_ids", {}))

    @contextlib.contextmanager
    def _tickets(self) -> Iterator[list[Ticket]]:
        with storage_errors(self._lock, _VARIABLE), self._opened() as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            tickets = self._read()
            before = json.dumps([asdict(ticket) for ticket in tickets])
            tickets[:] = [ticket for ticket in tickets if is_alive(ticket.pid, ticket.identity)]
            if self._own_ticket is not None and all(ticket.run != self._own_ticket.run for ticket in tickets):
                tickets.append(self._own_ticket)
            yield tickets
            after = json.dumps([asdict(ticket) for ticket in tickets])
            if after != before:
                write_atomic(self._state, after, variable=_VARIABLE)

    def _opened(self) -> IO[str]:
        private_folder(self._lock.parent, _VARIABLE)  # each time: it may have been deleted, and made by another user
        return self._lock.open("a")

    def _read(self) -> list[Ticket]:
        try:
            with self._state.open("rb") as file:
                own = os.fstat(file.fileno()).st_uid == os.getuid()
                return [_ticket(row) for row in json.load(file)] if own else []
        except (OSError, ValueError, TypeError, AttributeError):
            return []

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
                    ticket.ids = tuple(name for device in ticket.devices for name in self._ids(device))
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
            with contextlib.suppress(OSError, MlnbError), self._tickets():
                pass

    def available(self) -> tuple[int, list[str]]:
        """How many cores no run holds, and which GPUs."""
        return self._free([ticket for ticket in self._read() if is_alive(ticket.pid, ticket.identity)])

    def _free(self, tickets: list[Ticket]) -> tuple[int, list[str]]:
        cpus = sum(ticket.cpus for ticket in tickets if ticket.granted)
        taken = frozenset[str]().union(*(ticket.taken for ticket in tickets))
        return self.cpus - cpus, [gpu for gpu in self.gpus if taken.isdisjoint(self._ids(gpu))]

    def _ids(self, gpu: str) -> Sequence[str]:
        return self._gpu_ids.get(gpu) or (gpu,)

    def release(self, run: str) -> None:
        """Remove ``run``'s entry, and so free what it holds."""
        self._own_ticket = None
        with (
            contextlib.suppress(OSError, MlnbError),
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


def _ticket(row: Mapping[str, Any]) -> Ticket:
    lists = {name: tuple(row.get(name, ())) for name in ("devices", "ids")}
    return Ticket(**{**select_fields(Ticket, row), **lists})
