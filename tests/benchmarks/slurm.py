"""On a real SLURM (``make slurm``): submit to first metric, news from a node, a gang, and what SLURM is asked."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from mlnb.api import Run
from mlnb.api.read.state import observe
from mlnb.notebook.view.live_outputs import LiveOutputs
from mlnb.task import Resources

from .firsts import PRINTS, first_metric, start
from .timing import Table

_TICKS = """\
import time, mlnb
for step in range(200):
    mlnb.log(sent=time.time())
    time.sleep(0.037)
"""

_REPEAT = 11


def there() -> bool:
    """Whether there is a SLURM to measure on."""
    if shutil.which("sinfo") is None:
        return False
    return subprocess.run(["sinfo"], capture_output=True, timeout=30, check=False).returncode == 0


def measure(folder: Path) -> list[Table]:
    """Four tables; the pairs are measured alternately."""
    folder.chmod(0o755)
    return [_first(folder), _gang(folder), _news(), _commands(folder)]


def _first(folder: Path) -> Table:
    table = Table("Submit to first metric, SLURM", "s", "at most 1.1 of raw sbatch", peer="sbatch, without mlnb")
    ours, raw = [], []
    for _ in range(_REPEAT):
        ours.append(_ours(Resources(gpus=1, cpus=1)))
        raw.append(_sbatch(folder, ["--gres=gpu:1", "--cpus-per-task=1"], f"{sys.executable} train.py", PRINTS))
    table.add("mlnb", ours)
    table.add("sbatch, without mlnb", raw)
    table.pair("mlnb / sbatch", ours, raw)
    return table


def _gang(folder: Path) -> Table:
    table = Table("Two nodes: submit to first step, SLURM", "s", "at most 0.7 of srun torchrun", peer="srun torchrun")
    torchrun = (
        f"export GLOO_SOCKET_IFNAME=lo; srun {sys.executable} -m torch.distributed.run --nnodes 2 --nproc-per-node 1 "
        "--rdzv-backend c10d --rdzv-endpoint 127.0.0.1:$((20000 + SLURM_JOB_ID % 10000)) --rdzv-id $SLURM_JOB_ID "
        "train.py"
    )
    ours, peers = [], []
    for _ in range(_REPEAT):
        ours.append(_ours(Resources(nodes=2, cpus=1)))
        peers.append(_sbatch(folder, ["--nodes=2", "--ntasks-per-node=1"], torchrun, PRINTS))
    table.add("mlnb --nodes 2", ours)
    table.add("srun torchrun", peers)
    table.pair("mlnb / srun torchrun", ours, peers)
    return table


def _news() -> Table:
    table = Table("Delay from a metric on a node to the notebook, SLURM", "s", "at most 0.5 s in 95 % of cases")
    run = start("slurm", _TICKS, Resources(cpus=1))
    late: list[float] = []
    while not run.done or len(late) < 200:
        now = time.time()
        series = run.series().get("sent")
        late += [now - float(sent) for sent in (series.value[len(late) :] if series else ())]
        if run.done and series is not None and len(late) == len(series):
            break
        time.sleep(LiveOutputs.INTERVAL)
    late.sort()
    table.add("until the reader of the view has it", late, f"95 % within {late[int(0.95 * len(late))]:.3f} s")
    return table


def _commands(folder: Path) -> Table:
    """The scheduler commands that 40 running runs cause while three sessions observe them."""
    table = Table("Scheduler commands while 40 runs are running", "s", "at most 2 per minute for all runs")
    seconds = 60.0
    dense = ["PartitionName=dense", "Nodes=ALL", "OverSubscribe=FORCE:4"]  # four jobs a core
    subprocess.run(["scontrol", "create", *dense], check=True, timeout=30)
    try:
        script, asked = "import time\ntime.sleep(600)", Resources(cpus=1, memory=2**28)
        runs = [start("slurm", script, asked, "dense") for _ in range(_RUNS)]
        while not all(run.progress.state == "running" for run in runs):
            time.sleep(0.5)
        observations, commands = _observed(runs, seconds, folder)
        for run in runs:
            run.cancel()
        for run in runs:
            run.wait(60)
        _drained()
    finally:
        subprocess.run(["scontrol", "delete", dense[0]], check=False, timeout=30)
    table.add(f"observing {len(runs)} runs in three sessions", observations, f"{commands} commands in {seconds:.0f} s")
    return table


_RUNS = 40


def _observed(runs: list[Run], seconds: float, folder: Path) -> tuple[list[float], int]:
    """Look at ``runs`` as three notebooks do: how long each look took, and how many commands that cost."""
    shims, count = folder / "shims", folder / "count"
    shims.mkdir()
    for name in ("squeue", "scontrol", "sacct", "sinfo", "sbatch", "scancel"):
        real = shutil.which(name)
        if real is not None:
            (shims / name).write_text(f'#!/bin/sh\necho {name} >> {shlex.quote(str(count))}\nexec {real} "$@"\n')
            (shims / name).chmod(0o755)
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{shims}:{before}"
    try:
        looks = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            began = time.perf_counter()
            for _ in range(3):  # notebooks
                observe([run.observable for run in runs])
            looks.append(time.perf_counter() - began)
            time.sleep(0.5)
    finally:
        os.environ["PATH"] = before
    return looks, len(count.read_text().splitlines()) if count.exists() else 0


def _ours(asked: Resources) -> float:
    took = first_metric("slurm", asked)
    _drained()
    return took


def _sbatch(folder: Path, options: list[str], command: str, script: str) -> float:
    place = Path(tempfile.mkdtemp(dir=folder))
    (place / "train.py").write_text(script)
    (place / "job").write_text(f"#!/bin/bash\ncd {shlex.quote(str(place))}\n{command}\n")
    out = place / "out"
    began = time.perf_counter()
    env = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": "1", "PYTHONUNBUFFERED": "1"}
    words = ["sbatch", "-J", "bench", *options, f"--output={out}", str(place / "job")]
    subprocess.run(words, env=env, capture_output=True, check=True, timeout=60)
    while not (out.exists() and "loss" in out.read_text()):
        if time.perf_counter() - began > 120:
            raise RuntimeError(out.read_text() if out.exists() else "the job did not start")
        time.sleep(0.002)
    took = time.perf_counter() - began
    _drained()
    return took


def _drained() -> None:
    """Wait until no job is left: the next is to find free nodes."""
    while subprocess.run(
        ["squeue", "--me", "-h", "-n", "bench"], capture_output=True, check=True, timeout=30
    ).stdout.strip():
        time.sleep(0.1)
