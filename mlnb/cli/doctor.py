"""``mlnb doctor``: what works on a target, found out by doing it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mlnb.api import Run
from mlnb.api.submit import submit
from mlnb.errors import MlnbError
from mlnb.targets import target
from mlnb.targets.config import runs_root, runtime_dir
from mlnb.task import Resources, Task
from mlnb.units import say_size, say_time

_SCRIPT = """\
import os, sys
try:
    import torch
    print("torch", torch.__version__, "cuda" if torch.cuda.is_available() else "cpu")
except ImportError as error:
    print("torch missing:", error)
print("python", sys.version.split()[0])
print("threads", os.environ["OMP_NUM_THREADS"])
import mlnb
mlnb.log(check=1.0)
"""

_PATIENCE = 60.0


@dataclass(frozen=True)
class Check:
    """One thing that was tried: whether it works, and what was found."""

    name: str
    ok: bool
    found: str


def checks(name: str, say: Callable[[str, bool, str], None] | None) -> Iterator[Check]:
    """Try everything on the target ``name``; each check is said (if ``say``) and yielded as it ends."""
    for check in _checks(name):
        if say is not None:
            say(check.name, check.ok, check.found)
        yield check


def _checks(name: str) -> Iterator[Check]:
    place = target(name)
    yield Check("run directories", *_folder(lambda: str(runs_root())))
    yield Check("sockets and locks", *_folder(lambda: str(runtime_dir())))
    there = place.resources()
    yield Check("cores and GPUs", True, f"{there.get('cpus')} cores, {len(there.get('gpus', ()))} GPUs")
    began = time.monotonic()
    try:
        offer = place.offer(Resources(gpus=min(1, len(there.get("gpus", ())))))
        run = Run(submit(Task(script=_SCRIPT), {}, place, offer, name="doctor", env={}))
        yield Check("submit", True, f"{run.id} in {say_time(time.monotonic() - began)}")
        run.wait(_PATIENCE)
    except (MlnbError, TimeoutError) as error:
        yield Check("a tiny run", False, str(error))
        return
    yield Check(
        "a tiny run", run.state == "succeeded", f"{run.state} {run.reason} in {say_time(time.monotonic() - began)}"
    )
    said = run.logs()
    for word in ("torch", "python", "threads"):
        found = next((line for line in said.splitlines() if line.startswith(word)), "")
        yield Check(word, bool(found) and "missing" not in found, found.removeprefix(word).strip())
    yield Check("metrics", "check" in run.series(), "came back" if "check" in run.series() else "none came back")


def _folder(find: Callable[[], str]) -> tuple[bool, str]:
    import shutil
    from pathlib import Path

    try:
        path = Path(find())
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = path / ".doctor"
        probe.write_bytes(b"x")
        probe.unlink()
        return True, f"{path}, {say_size(shutil.disk_usage(path).free)} free"
    except (OSError, MlnbError) as error:
        return False, str(error)
