"""The ranks of a plain loop as a group whose collectives first check that all ranks have come to the same line.

Before each collective a rank sends a header to the next rank, and compares it with that of the rank before: what it is
about to do and in which line, its batch, its steps, its learning rate. Ranks that differ end with an error that names
both lines, instead of waiting for each other for ever. Each rank compares with one other only, which costs as little
for many ranks as for two, and still finds every difference, for the ranks form a ring.

The group is not torch's default process group. Code that asks ``torch.distributed.is_initialized()`` sees what it would
see in one process, and may make a group of its own.
"""

from __future__ import annotations

import os
import pickle
import struct
import sys
import threading
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from types import CodeType, FrameType
from typing import Any

import torch
from torch.distributed import distributed_c10d

from mlnb.node import torch_private
from mlnb.node.parallel import store
from mlnb.node.parallel.together import own_reads
from mlnb.node.parallel.together.ring import Ring
from mlnb.node.rank.loss_names import own_frame

_TIMEOUT = timedelta(days=7)
"""As long as another rank may be at work, as on a validation of its own; one that has ended is noticed at once."""

_NUMBERS = struct.Struct("=4qd")
_START, _TEXT = own_reads.SIZE, own_reads.SIZE + _NUMBERS.size
_HEADER = 352
"""Bytes of a header: numbers that were read, which may differ; then numbers and the text of the call site."""

_ENDED = "the end of its program"

_GRACE = 5.0
"""Seconds for which a rank that lost another one waits to be ended: the other's error says what went wrong."""

LineOf = Callable[[FrameType], str]
"""Names the line that a frame executes."""

current: RankGroup | None = None
"""The group of this rank, once a plain loop has begun."""


class RanksDiverged(RuntimeError):
    """The ranks of a plain loop have gone apart."""


@dataclass
class CallSite:
    """What a rank is about to do, and in which line of the code."""

    text: str
    number: int
    header: bytearray


@dataclass
class Progress:
    """How far this rank has come; the same on all ranks wherever they meet."""

    batches: int = 0
    steps: int = 0
    rate: float = 0.0
    meetings: int = 0
    """How many collectives it has begun."""


class RankGroup:
    """The ranks that train one model together.

    Parameters
    ----------
    rank, world
        which rank this is, of how many.
    describe
        names the line that a frame executes.
    progress
        how far this rank has come.
    add_note
        adds a note to the run's result.
    """

    def __init__(
        self,
        rank: int,
        world: int,
        describe: LineOf,
        progress: Progress,
        add_note: Callable[[str], None],
    ) -> None:
        self.rank, self.world, self._describe, self._progress = rank, world, describe, progress
        self.store = store.connect("mlnb", rank, _TIMEOUT)
        start = self._describe_start()
        for other, text in enumerate(store.exchange(self.store, rank, world, start)):
            if text == _ENDED:
                raise RanksDiverged(_apart(_both((rank, start), (other, _ENDED))))
        self._group = torch_private.hidden_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", self.store, rank, world, _TIMEOUT
        )
        self._sites: dict[tuple[str, CodeType | None, int], CallSite] = {}
        self._ring = Ring(rank, world, self.store, os.environ["MLNB_MASTER_ADDR"])
        self._received = bytearray(_HEADER)
        self._site = self.call_site("the start of the training", None)
        self._error: str | None = None
        self._thread = threading.get_ident()  # which has begun the last collective
        self.reads = own_reads.OwnReads(describe, world, add_note)
        """The numbers that the code has read."""

    @property
    def batches(self) -> int:
        """How many batches of its own this rank has begun."""
        return self._progress.batches

    def _describe_start(self) -> str:
        frame = own_frame(sys._getframe(1))
        return "the start of the training" + (f" in {self._describe(frame)}" if frame is not None else "")

    # Where the ranks are

    def call_site(self, operation: str, frame: FrameType | None) -> CallSite:
        """The call site of ``operation``: the line of the user's code that has led to ``frame``."""
        key = (operation, frame.f_code, frame.f_lasti) if frame is not None else (operation, None, 0)
        site = self._sites.get(key)
        if site is None:
            own = own_frame(frame)
            if own is not frame and own is not None:
                return self.call_site(operation, own)
            text = f"{operation} in {self._describe(own)}" if own is not None else operation
            encoded = text.encode()[: _HEADER - _TEXT]
            header = bytearray(_HEADER)
            header[_TEXT : _TEXT + len(encoded)] = encoded
            site = CallSite(text, zlib.crc32(encoded), header)
            self._sites[key] = site
        return site

    def begin(self, site: CallSite, detail: int = 0) -> None:
        """Tell the next rank what this one is about to do; :meth:`verify` must follow before anything is waited for.

        ``detail`` is a number that must be the same on all ranks as well.
        """
        if threading.get_ident() != self._thread:
            self._change_thread(site)
        if self._error is not None:
            raise RanksDiverged(self._error)
        progress = self._progress
        progress.meetings += 1
        _NUMBERS.pack_into(site.header, _START, site.number, progress.batches, progress.steps, detail, progress.rate)
        self.reads.begin(site.header)
        self._site = site
        try:
            self._ring.send(site.header)
        except OSError as error:
            raise self._lost(error) from error

    def _change_thread(self, site: CallSite) -> None:
        """Another thread begins a collective. If the last one still runs code of the user, no order is sure."""
        frame = sys._current_frames().get(self._thread)
        if frame is not None and self._thread != threading.main_thread().ident and own_frame(frame) is not None:
            self._error = (
                f"two threads train at once: one is at {site.text}, another has come to {self._site.text}. The ranks "
                "can't know which belongs to which: train in one thread, or pass --parallel none"
            )
        self._thread = threading.get_ident()

    def verify(self) -> None:
        """Wait until the rank before has come to its next collective.

        Raises
        ------
        RanksDiverged
            if that is another one, or in another state.
        """
        try:
            self._ring.receive(self._received, self._tell_waiting)
        except OSError as error:
            raise self._lost(error) from error
        if self._received == self._site.header:
            return
        self.reads.compare(self._received)
        if self._received[_START:] != self._site.header[_START:]:
            self._error = self._explain()
            raise RanksDiverged(self._error)

    def _tell_waiting(self) -> None:
        before = (self.rank - 1) % self.world
        print(f"mlnb: rank {self.rank} waits for rank {before} at {self._site.text}", file=sys.stderr, flush=True)

    def meet(self, site: CallSite, detail: int = 0) -> None:
        """:meth:`begin` and :meth:`verify`: go on as soon as the rank before is here, too."""
        self.begin(site, detail)
        self.verify()

    def _explain(self) -> str:
        other = (self.rank - 1) % self.world
        theirs, ours = (_NUMBERS.unpack_from(header, _START) for header in (self._received, self._site.header))
        text = self._received[_TEXT:].rstrip(b"\0").decode(errors="replace")
        ranks = sorted([(other, theirs, text), (self.rank, ours, self._site.text)])
        (a, first, text_a), (b, second, text_b) = ranks
        if first[0] != second[0]:
            what = _both((a, text_a), (b, text_b))
        elif first[1] != second[1]:
            what = f"at {text_a} rank {a} has come to batch {first[1]}, rank {b} to batch {second[1]}"
        elif first[2] != second[2]:
            what = f"at {text_a} rank {a} has made {first[2]} steps of optimizers, rank {b} {second[2]}"
        elif first[4] != second[4]:
            what = f"at {text_a} the learning rate is {first[4]:g} on rank {a}, {second[4]:g} on rank {b}"
        else:
            what = f"{text_a} needs other tensors on rank {a} than on rank {b}"
        return _apart(what)

    # Collectives: each after a verified call site

    def all_reduce(self, tensor: torch.Tensor) -> Any:
        """Begin to add up ``tensor`` over the ranks, in place; wait for what is returned by :meth:`wait`."""
        return self._group.allreduce([tensor])

    def wait(self, work: Any) -> None:
        """Wait for a collective."""
        self._wait(work)

    def broadcast(self, tensor: torch.Tensor) -> None:
        """Give all ranks the value that ``tensor`` has on rank 0."""
        options = distributed_c10d.BroadcastOptions()
        options.rootRank, options.rootTensor = 0, 0
        self._wait(self._group.broadcast([tensor], options))

    def gather_tensor(self, tensor: torch.Tensor) -> list[torch.Tensor]:
        """Return each rank's ``tensor``, which is on the CPU and of one shape on all."""
        gathered = [torch.empty_like(tensor) for _ in range(self.world)]
        self._wait(self._group.allgather([gathered], [tensor]))
        return gathered

    def gather(self, value: object) -> list[Any]:
        """Return each rank's ``value``, pickled."""
        data = pickle.dumps(value)
        sizes = [int(size) for size in self.gather_tensor(torch.tensor([len(data)]))]
        padded = torch.zeros(max(sizes), dtype=torch.uint8)
        padded[: len(data)] = torch.frombuffer(bytearray(data), dtype=torch.uint8)
        parts = self.gather_tensor(padded)
        return [pickle.loads(part[:size].numpy().tobytes()) for part, size in zip(parts, sizes, strict=True)]

    def any_of(self, flag: bool, site: CallSite) -> bool:
        """Whether ``flag`` is true on any rank."""
        self.meet(site)
        return any(bool(one) for one in self.gather_tensor(torch.tensor([flag])))

    def end(self) -> None:
        """Wait for the other ranks at the end of the program; one that still trains is named."""
        self.meet(self.call_site(_ENDED, None))

    def fail(self, error: BaseException) -> None:
        """Do not go on after an error between :meth:`begin` and :meth:`verify`: others wait for what will not come."""
        self._error = f"rank {self.rank} failed at {self._site.text} ({type(error).__name__}: {error}), others did not"

    def _wait(self, work: Any) -> None:
        try:
            work.wait()
        except RuntimeError as error:
            raise self._lost(error) from error

    def _lost(self, error: Exception) -> RuntimeError:
        time.sleep(_GRACE)
        return RuntimeError(f"rank {self.rank} was at {self._site.text} when it lost another rank ({error})")


def end_without_group(rank: int, world: int) -> None:
    """Wait for the other ranks at the end of a program that has trained nothing.

    Raises
    ------
    RanksDiverged
        if another rank trains.
    """
    try:
        others = store.exchange(store.connect("mlnb", rank, _TIMEOUT), rank, world, _ENDED)
    except torch.distributed.DistError:
        return  # the others have ended, too
    for other, text in enumerate(others):
        if text != _ENDED:
            raise RanksDiverged(_apart(_both((rank, _ENDED), (other, text))))


def _both(*ranks: tuple[int, str]) -> str:
    """Where two ranks are, the same whichever of them tells it."""
    (first, here), (second, there) = sorted(ranks)
    return f"rank {first} is at {here}, rank {second} at {there}"


def _apart(what: str) -> str:
    return (
        f"the ranks have gone apart: {what}. Each rank sees its own part of the data, so what decides must be the "
        "same on all: a loss read by .item(), gradients, a validation loop under torch.no_grad()."
    )
