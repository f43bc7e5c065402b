"""``mlnb doctor``: what works on a target, found out by doing it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlnb.api import Run
from mlnb.api.submit.submit import submit
from mlnb.errors import MlnbError
from mlnb.targets.base import Placement, Target
from mlnb.targets.config.paths import runs_root, runtime_dir
from mlnb.targets.registry import target
from mlnb.task import Resources, Task
from mlnb.units import format_size, format_time

_SCRIPT = """\
import json, os, sys
told = {"python": sys.version.split()[0], "threads": os.environ["OMP_NUM_THREADS"],
        "visible": os.environ.get("CUDA_VISIBLE_DEVICES")}
try:
    import torch
    told["torch"] = torch.__version__
    told["cuda"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
except ImportError as error:
    told["missing"] = str(error)
print(json.dumps(told))
import mlnb
mlnb.log(check=1.0)
"""

_MEETING = """\
import torch, torch.distributed as dist
dist.init_process_group("gloo")
one = torch.ones(1)
dist.all_reduce(one)
print(int(one))
"""

_QUEUE = 120.0
"""Seconds that a run may wait in the queue until that is said."""

_PATIENCE = 120.0
"""Seconds from its start until it has to have ended."""

_STEP = 0.2


@dataclass(frozen=True)
class Check:
    """One thing that was tried: whether it works (``None``: that can't be told yet), and what was found."""

    name: str
    ok: bool | None
    found: str


def checks(name: str, say: Callable[[str, bool | None, str], None] | None) -> Iterator[Check]:
    """Try everything on the target ``name``; each check is said (if ``say``) and yielded as it ends."""
    for check in _checks(name):
        if say is not None:
            say(check.name, check.ok, check.found)
        yield check


def _checks(name: str) -> Iterator[Check]:
    place = target(name)
    folders = [
        Check("run directories", *_folder(lambda: str(runs_root()))),
        Check("sockets and locks", *_folder(lambda: str(runtime_dir()))),
    ]
    yield from folders
    try:
        there = place.resources()
    except MlnbError as error:
        yield Check("commands", False, str(error))
        return
    gpus = len(there.get("gpus", ()))
    nodes = int(there.get("nodes", 1))
    machines = f"{nodes} nodes, " if nodes > 1 else ""
    yield Check("cores and GPUs", True, f"{machines}{there.get('cpus', 'unknown')} cores, {gpus} GPUs")
    if not all(check.ok for check in folders):
        return  # a run would fail for the same reason
    run = yield from _tiny(place, Resources(gpus=None, time=300))
    if run is None:
        return
    yield from _told(run)
    if nodes > 1:
        yield from _meeting(place)


def _tiny(place: Target, asked: Resources) -> Generator[Check, None, Run | None]:
    """Submit a tiny run and wait for its end; the run, if it got so far."""
    began = time.monotonic()
    try:
        run = _submitted(place, _SCRIPT, asked)
        yield Check("submit", True, f"{run.id} in {format_time(time.monotonic() - began)}")
    except MlnbError as error:
        yield Check("a tiny run", False, str(error))
        return None
    if (left := _left(run)) is not None:
        yield Check("a tiny run", *left)
        return None
    took = format_time(time.monotonic() - began)
    yield Check("a tiny run", run.state == "succeeded", f"{run.state} {run.reason} in {took}".replace("  ", " "))
    return run


def _told(run: Run) -> Iterator[Check]:
    """What the tiny run saw over there."""
    seen = run.phase.number > 0 and bool(run.phase.state)
    where = f"{run.dir} is seen by {run.phase.host or 'the node'}"
    yield Check("shared directory", seen, where if seen else f"the node has written nothing into {run.dir}")
    try:
        told: dict[str, Any] = json.loads(run.logs(stream="out").splitlines()[-1])
    except (ValueError, IndexError):
        told = {}
    image = run.about.get("image")
    if image:
        yield Check("container", bool(told), str(image))
    yield Check("torch", "torch" in told, str(told.get("torch") or told.get("missing") or "nothing was printed"))
    yield Check("python", "python" in told, str(told.get("python", "nothing was printed")))
    yield Check("threads", "threads" in told, str(told.get("threads", "nothing was printed")))
    if run.task.resources.gpus:
        # the allocation is the target's part, a driver and a CUDA build of torch the node's and the image's
        cards = ", ".join(told.get("cuda") or ()) or "torch sees none (no driver, or a torch without CUDA)"
        yield Check("GPU", bool(told.get("visible")), f"CUDA_VISIBLE_DEVICES={told.get('visible')}; {cards}")
    yield Check("metrics", "check" in run.series(), "came back" if "check" in run.series() else "none came back")


def _meeting(place: Target) -> Iterator[Check]:
    """Two nodes find each other."""
    began = time.monotonic()
    try:
        run = _submitted(place, _MEETING, Resources(nodes=2, cpus=1, time=300))
    except MlnbError as error:
        yield Check("two nodes meet", False, str(error))
        return
    if (left := _left(run)) is not None:
        yield Check("two nodes meet", *left)
        return
    met = run.state == "succeeded" and run.logs(stream="out").strip() == "2"
    found = f"in {format_time(time.monotonic() - began)}" if met else f"{run.state} {run.reason}"
    yield Check("two nodes meet", met, found)


def _left(run: Run) -> tuple[bool | None, str] | None:
    """What is to be said of a run that does not end; ``None`` when it has. One that only waits is left in the queue."""
    asked, began = time.monotonic(), None
    while not run.done:
        now = time.monotonic()
        if began is None and run.state != "pending":
            began = now
        if began is None and now - asked > _QUEUE:
            return None, f"waits: {run.reason}; mlnb show {run.id} tells how it goes, mlnb cancel {run.id} ends it"
        if began is not None and now - began > _PATIENCE:
            why = run.reason or "no reason is known"
            found = f"still {run.state} {format_time(now - began)} after its start: {why}"
            try:
                run.cancel()
            except MlnbError as error:
                found += f"; {error}"
            return False, f"{found}; {run.dir} has what it left"
        time.sleep(_STEP)
    return None


def _submitted(place: Target, script: str, asked: Resources) -> Run:
    offer = place.offer(asked, Placement("doctor"))
    return Run(submit(Task(script=script), {}, place, offer, name="doctor", env={}))


def _folder(find: Callable[[], str]) -> tuple[bool, str]:
    try:
        path = Path(find())
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = path / ".doctor"
        probe.write_bytes(b"x")
        probe.unlink()
        return True, f"{path}, {format_size(shutil.disk_usage(path).free)} free"
    except (OSError, MlnbError) as error:
        return False, str(error)
