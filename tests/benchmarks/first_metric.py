"""From submitting to the first metric in the reader's hands, beside other launchers of the same training."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

from mlnb.targets import warm
from mlnb.targets.local import Local
from mlnb.task import Resources
from mlnb.workspace import Workspace

from .firsts import PRINTS, first_metric
from .timing import Table


def measure(folder: Path) -> Table:
    """Seconds from submit to the first loss."""
    table = Table(
        "Submit to first metric, local target",
        "s",
        "with the fork server at most 0.15 s, without it at most import torch + 0.5 s",
        peer="torchrun, 2 ranks",
    )
    workspace = Workspace.of_process()
    warm.start(workspace)
    local = Local("local", {}, workspace)
    first_metric(local, Resources(ranks=1))
    table.add("mlnb with fork server, 1 rank", [first_metric(local, Resources(ranks=1)) for _ in range(15)])
    table.add("mlnb with fork server, 2 ranks", [first_metric(local, Resources(ranks=2)) for _ in range(15)])
    cold = Local("local", {"warm": False}, workspace)
    table.add("mlnb without fork server, 1 rank", [first_metric(cold, Resources(ranks=1)) for _ in range(5)])
    table.add("mlnb without fork server, 2 ranks", [first_metric(cold, Resources(ranks=2)) for _ in range(5)])
    table.add(
        "import torch, alone",
        [_command([sys.executable, "-c", "import torch; print('loss', flush=True)"]) for _ in range(5)],
    )
    script = folder / "train.py"
    script.write_text(PRINTS)
    run = [sys.executable, "-m", "torch.distributed.run"]
    table.add("torchrun, 1 rank", [_command([*run, "--nproc-per-node", "1", str(script)]) for _ in range(3)])
    table.add("torchrun, 2 ranks", [_command([*run, "--nproc-per-node", "2", str(script)]) for _ in range(3)])
    if importlib.util.find_spec("submitit"):
        table.add("submitit local, 1 process", [_submitit(folder, script) for _ in range(3)])
    return table


def _command(command: list[str]) -> float:
    began = time.perf_counter()
    env = {**os.environ, "WORLD_SIZE": "1"} if "-c" in command else {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=env) as process:
        for line in process.stdout or ():
            if line.startswith("loss"):
                break
        took = time.perf_counter() - began
        process.wait()
    return took


def _submitit(folder: Path, script: Path) -> float:
    import submitit

    executor = submitit.AutoExecutor(folder=folder / "submitit", cluster="local")
    executor.update_parameters(timeout_min=5)
    began = time.perf_counter()
    job = executor.submit(
        submitit.helpers.CommandFunction([sys.executable, str(script)], env={"WORLD_SIZE": "1"}, verbose=False)
    )
    output = Path(str(job.paths.stdout))
    while not (output.exists() and "loss" in output.read_text()) and not job.done():
        time.sleep(0.005)
    took = time.perf_counter() - began
    job.wait()
    return took
