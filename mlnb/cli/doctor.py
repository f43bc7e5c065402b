"""``mlnb doctor``: checks a target, with a tiny run among others."""

from __future__ import annotations

import contextlib
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
from mlnb.targets.registry import target
from mlnb.task import Resources, Task
from mlnb.units import format_size, format_time
from mlnb.workspace import Workspace

_SCRIPT = """\
import json, os, sys
found = {"python": sys.version.split()[0], "threads": os.environ["OMP_NUM_THREADS"],
         "visible": os.environ.get("CUDA_VISIBLE_DEVICES")}
try:
    import torch
    found["torch"] = torch.__version__
    found["cuda"] = [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())]
except ImportError as error:
    found["missing"] = str(error)
print(json.dumps(found))
import mlnb
mlnb.log(check=1.0)
"""

_ALL_REDUCE = """\
import torch, torch.distributed as dist
dist.init_process_group("gloo")
one = torch.ones(1)
dist.all_reduce(one)
print(int(one))
"""

_QUEUE_TIMEOUT = 120.0
"""Seconds to wait for a run to start; after that it is left in the queue."""

_RUN_TIMEOUT = 120.0
"""Seconds from its start until a run must have ended."""

_INTERVAL = 0.2

ALL_GOOD = "All good. Try %%train."


@dataclass(frozen=True)
class Check:
    """One check and its result.

    Attributes
    ----------
    ok
        whether it works; ``None`` if that is not known yet.
    detail
        what was found, or what is wrong, in one line.
    """

    name: str
    ok: bool | None
    detail: str


Report = Callable[[str, bool | None, str], None]


def checks(name: str, workspace: Workspace, report: Report | None) -> Iterator[Check]:
    """Check everything on the target ``name``; each check is passed to ``report`` (if given) and yielded as it ends.

    Raises
    ------
    UsageError
        if there is no such target.
    """
    for check in _checks(name, workspace):
        if report is not None:
            report(check.name, check.ok, check.detail)
        yield check


def _checks(name: str, workspace: Workspace) -> Iterator[Check]:
    chosen = target(name, workspace)
    folders = [
        Check("run folder", *_folder(lambda: workspace.root)),
        Check("runtime folder", *_folder(workspace.runtime_dir)),
    ]
    yield from folders
    try:
        resources = chosen.resources()
    except MlnbError as error:
        yield Check("commands", False, str(error))
        return
    gpus = len(resources.get("gpus", ()))
    nodes = int(resources.get("nodes", 1))
    machines = f"{nodes} nodes, " if nodes > 1 else ""
    yield Check("cores and GPUs", True, f"{machines}{resources.get('cpus', 'unknown')} cores, {gpus} GPUs")
    if not all(check.ok for check in folders):
        return  # a run would fail for the same reason
    run = yield from _test_run(chosen, Resources(gpus=None, time=300))
    if run is None:
        return
    yield from _results(run)
    _remove(run)
    if nodes > 1:
        yield from _two_nodes(chosen)


def _test_run(chosen: Target, resources: Resources) -> Generator[Check, None, Run | None]:
    """Submit a tiny run and wait for its end; returns the run, or ``None`` if it did not end in time."""
    began = time.monotonic()
    try:
        run = _submit(chosen, _SCRIPT, resources)
        yield Check("submit", True, f"{run.id}, in {format_time(time.monotonic() - began)}")
    except MlnbError as error:
        yield Check("test run", False, str(error))
        return None
    if (unfinished := _wait(run)) is not None:
        yield Check("test run", *unfinished)
        return None
    reason = f": {run.reason}" if run.reason else ""
    detail = f"{run.state} after {format_time(time.monotonic() - began)}{reason}"
    yield Check("test run", run.state == "succeeded", detail)
    return run


def _results(run: Run) -> Iterator[Check]:
    """Check what the tiny run found on its node, and that its files and metrics are visible here."""
    started = run.progress.number > 0 and bool(run.progress.state)
    visible = f"run folder visible from {run.progress.host or 'the node'}"
    yield Check("files", started, visible if started else f"the node has written nothing into {run.dir}")
    try:
        printed: dict[str, Any] = json.loads(run.logs(stream="out").splitlines()[-1])
    except (ValueError, IndexError):
        printed = {}
    image = run.info.placement.get("image")
    if image:
        yield Check("container", bool(printed), str(image))
    no_output = "the run printed nothing"
    yield Check("torch", "torch" in printed, str(printed.get("torch") or printed.get("missing") or no_output))
    yield Check("python", "python" in printed, str(printed.get("python", no_output)))
    yield Check("threads", "threads" in printed, str(printed.get("threads", no_output)))
    if run.task.resources.gpus:
        # the target's part is the allocation; driver and CUDA build of torch are the node's and the image's
        models = ", ".join(printed.get("cuda") or ()) or "torch finds no GPU (no driver, or a torch without CUDA)"
        yield Check("GPU", bool(printed.get("visible")), f"CUDA_VISIBLE_DEVICES={printed.get('visible')}; {models}")
    received = "check" in run.series()
    yield Check("metrics", received, "metrics received" if received else "no metrics received")


def _two_nodes(chosen: Target) -> Iterator[Check]:
    """Check that processes on two nodes can connect."""
    name, began = "two nodes", time.monotonic()
    try:
        run = _submit(chosen, _ALL_REDUCE, Resources(nodes=2, cpus=1, time=300))
    except MlnbError as error:
        yield Check(name, False, str(error))
        return
    if (unfinished := _wait(run)) is not None:
        yield Check(name, *unfinished)
        return
    connected = run.state == "succeeded" and run.logs(stream="out").strip() == "2"
    took = format_time(time.monotonic() - began)
    yield Check(name, connected, f"connected, after {took}" if connected else f"{run.state}: {run.reason}")
    _remove(run)


def _wait(run: Run) -> tuple[bool | None, str] | None:
    """Wait for the end of a run. Returns ``None``, or result and detail of the check if it does not end in time.

    A run that does not start is left in the queue; a run that has started is cancelled.
    """
    submitted, started = time.monotonic(), None
    while not run.done:
        now = time.monotonic()
        if started is None and run.state != "pending":
            started = now
        if started is None and now - submitted > _QUEUE_TIMEOUT:
            reason = run.reason or "no reason is known"
            return None, f"still pending: {reason}. `mlnb show {run.id}` shows it, `mlnb cancel {run.id}` ends it"
        if started is not None and now - started > _RUN_TIMEOUT:
            reason = run.reason or "no reason is known"
            detail = f"still {run.state} {format_time(now - started)} after its start: {reason}"
            try:
                run.cancel()
            except MlnbError as error:
                detail += f"; {error}"
            return False, f"{detail}. See {run.dir}"
        time.sleep(_INTERVAL)
    return None


def _submit(chosen: Target, script: str, resources: Resources) -> Run:
    offer = chosen.offer(resources, Placement("doctor"))
    fields = {"hidden": True}
    run_dir = submit(Task(script=script), {}, chosen, offer, name="doctor", env={}, info_fields=fields)
    return Run(run_dir, chosen.workspace)


def _remove(run: Run) -> None:
    """Delete a run that has succeeded; others are kept, so that one can look at them."""
    if run.state == "succeeded":
        with contextlib.suppress(MlnbError, OSError):
            run.remove()


def _folder(find: Callable[[], Path]) -> tuple[bool, str]:
    """Whether a folder can be written; and its path and free space, or the error."""
    try:
        path = find()
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        probe = path / ".doctor"
        probe.write_bytes(b"x")
        probe.unlink()
        return True, f"{path}, {format_size(shutil.disk_usage(path).free)} free"
    except (OSError, MlnbError) as error:
        return False, str(error)
