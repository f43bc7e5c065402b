"""Loading 105 MB of weights into an existing module, beside the ways others bring them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import torch
from safetensors.torch import load_file

from mlnb.api import Run
from mlnb.api.results.session import SessionLink
from mlnb.api.submit.submit import submit
from mlnb.capture import Session, capture
from mlnb.targets.registry import target
from mlnb.task import Resources, Task

from .timing import Table, times


def measure(folder: Path) -> Table:
    """Seconds until the module of this process holds the run's weights."""
    table = Table(
        "Loading 105 MB of weights into an existing module",
        "ms",
        "at most 1.2 × safetensors' own load and copy",
        peer="safetensors load_file + load_state_dict",
    )
    model = torch.nn.Sequential(*[torch.nn.Linear(1620, 1620) for _ in range(10)])
    namespace = {"model": model, "torch": torch}
    cell = "with torch.no_grad():\n    for p in model.parameters():\n        p.add_(1.0)"
    captured = capture(cell, Session(namespace), label="cell [1]")
    place = target("local")
    task = Task(
        script=captured.script,
        segments=captured.segments,
        outputs=captured.outputs,
        inputs=captured.inputs,
        interactive=True,
    )
    run = Run(submit(task, captured.hashed_contents(), place, place.offer(Resources()), name="weights", env={}))
    run.attach(SessionLink(captured.labels, {}))
    before = float(model[0].weight[0, 0])
    run.wait(60)
    if run.state != "succeeded":
        raise RuntimeError(run.reason)
    pointer = model[0].weight.data_ptr()
    table.add("mlnb, in place", times(lambda: run.deliver(namespace), 15))
    if model[0].weight.data_ptr() != pointer or abs(float(model[0].weight[0, 0]) - before - 1) > 1e-6:
        raise RuntimeError("the live module does not hold the weights")
    file = run.dir / "outputs" / "model.safetensors"
    size = sum(p.nbytes for p in model.parameters()) / 1e6
    table.rows[0].note = f"{size:.0f} MB in {len(list(model.parameters()))} tensors, from the page cache"
    table.add(table.peer, times(lambda: model.load_state_dict(load_file(file)), 15))
    torch.save(model.state_dict(), folder_file := run.dir / "peer.pt")
    table.add("torch.load + load_state_dict", times(lambda: model.load_state_dict(torch.load(folder_file)), 15))
    if importlib.util.find_spec("distributed"):
        from distributed import Client

        with Client(n_workers=1, threads_per_worker=1, dashboard_address=None, processes=True) as client:
            future = client.submit(torch.load, str(folder_file))
            future.result()
            table.add(
                "dask gather + load_state_dict",
                times(
                    lambda: model.load_state_dict(
                        client.gather(client.submit(torch.load, str(folder_file), pure=False))
                    ),
                    5,
                ),
            )
    return table
