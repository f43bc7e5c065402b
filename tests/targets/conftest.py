"""Sites that are made up, in the form in which SLURM 22.05.8 prints its own; no SLURM is needed for them."""

from __future__ import annotations

import os
from pathlib import Path

import dask
import pytest

from mlnb.errors import UsageError
from mlnb.rundir import RunDir
from mlnb.targets.base import Target
from mlnb.targets.registry import target
from tests.option_line import parse
from tests.scripts import write_command

CPU = "NodeName=c{} CPUTot=64 ActiveFeatures=(null) Gres=(null) RealMemory=250000 State=IDLE Partitions=cpu"
GPU = (
    "NodeName=g{} CPUEfctv=124 CPUTot=128 ActiveFeatures=a100 Gres=gpu:a100:8(S:0-1) RealMemory=499200 "
    "MemSpecLimit=16384 State=IDLE Partitions=gpu"
)
NODES = "\n".join([CPU.format(1), CPU.format(2), GPU.format(1), GPU.format(2)])
IN_CPU = "PartitionName=cpu Default=YES DefaultTime=01:00:00 MaxTime=1-00:00:00 Nodes=c[1-2] State=UP"
IN_GPU = "PartitionName=gpu Default=NO DefaultTime=NONE MaxTime=UNLIMITED Nodes=g[1-2] State=UP"
PARTITIONS = f"{IN_CPU}\n{IN_GPU}"


class Site:
    """A site whose ``scontrol`` prints this."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        answer = f'case "$*" in *"show node"*) cat "{folder}/node";; *) cat "{folder}/partition";; esac'
        write_command(folder, "scontrol", answer)
        self.has()

    def has(self, nodes: str = NODES, partitions: str = PARTITIONS) -> None:
        """Have these nodes and partitions from now on."""
        (self._folder / "node").write_text(nodes)
        (self._folder / "partition").write_text(partitions)

    def job(self, line: str = "", **settings: object) -> tuple[list[str], str]:
        """The submission's directives for a ``%%train`` line, and the plan."""
        place, options = self._target(settings), parse(f"--on slurm {line}")
        offer = place.offer(options.resources(), options.placement("x"))
        shown = place.preview(RunDir(self._folder / "RUN"), offer).splitlines()
        return [text.removeprefix("#SBATCH ") for text in shown if text.startswith("#SBATCH ")], "; ".join(
            offer.summary_lines
        )

    def refusal(self, line: str = "", **settings: object) -> str:
        """The line by which it is refused."""
        with pytest.raises(UsageError) as caught:
            self.job(line, **settings)
        assert "\n" not in str(caught.value)
        return str(caught.value)

    def _target(self, settings: dict[str, object]) -> Target:
        with dask.config.set({"mlnb": {"targets": {"slurm": settings}}}):
            return target("slurm")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    folder = tmp_path / "commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return Site(folder)
