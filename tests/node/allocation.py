"""Several node programs of one run on this machine, started as a batch system starts them on several machines."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from typing import Any

from mlnb.api import Run
from mlnb.api.submit.submit import submit
from mlnb.node.process.identity import process_identity
from mlnb.rundir import RunDir, read_lines
from mlnb.runinfo import NodeSettings
from mlnb.targets.base import Offer
from mlnb.targets.environment import run_environment
from mlnb.targets.local import Local
from mlnb.targets.warm import with_node_zip
from mlnb.task import Resources, Task
from mlnb.workspace import Workspace
from tests.waiting import until

FOREVER = "import time\nprint('on', flush=True)\nwhile True: time.sleep(0.05)"


class ByHand(Local):
    """A target whose node programs the test starts."""

    def submit(self, run: RunDir, env: Mapping[str, str]) -> dict[str, Any]:
        return {"target": "local", "pid": os.getpid(), "identity": process_identity(os.getpid()), "attempt": 1}


class Allocation:
    """A run of ``nodes`` × ``ranks`` and its node programs, which the test starts one by one."""

    def __init__(self, script: str, nodes: int = 2, ranks: int = 1, **about: Any) -> None:
        given = {key: about.pop(key) for key in ("time", "memory") if key in about}
        node = NodeSettings(**{"threads": 1, "grace": 5.0, **about})
        offer = Offer(Resources(nodes, ranks, 0, 1, **given), node=node)
        task = Task(script=script, seed=0)
        self.run = Run(submit(task, {}, ByHand("local", {}, Workspace.of_process()), offer, name="nodes", env={}))
        self.programs: dict[int, subprocess.Popen[bytes]] = {}
        self.inside: dict[int, list[str]] = {}
        """Prefix of a node's command, as ``ip netns exec NAME``."""

    def start(self, *nodes: int, attempt: int = 1, options: tuple[str, ...] = (), **env: str) -> None:
        """Start the programs of these nodes, by default all."""
        for node in nodes or range(self.run.task.resources.nodes):
            program = [sys.executable, "-m", "mlnb.node", str(self.run.dir), "--node", str(node), *options]
            command = [*self.inside.get(node, ()), *program]
            environment = with_node_zip(
                run_environment({"MLNB_HOST": f"host{node}", **env}, self.run.workspace), self.run.directory.node_zip
            )
            with (self.run.dir / f"node-{node}-{attempt}.log").open("wb") as log:
                self.programs[node] = subprocess.Popen(
                    command, env=environment, cwd=self.run.dir, stdout=log, stderr=log, start_new_session=True
                )

    def events(self, node: int = 0, attempt: int = 1) -> list[dict[str, Any]]:
        return read_lines(self.run.directory.attempt(attempt).events(node))

    def event(self, kind: str, node: int = 0, attempt: int = 1) -> dict[str, Any]:
        """Wait for the first event of this kind."""
        return until(lambda: next((event for event in self.events(node, attempt) if event["event"] == kind), None))

    def ranks(self, node: int, attempt: int = 1) -> list[int]:
        """Wait until a node's ranks run; their pids."""
        return list(self.event("running", node, attempt)["ranks"].values())

    def says(self, text: str, rank: int) -> None:
        """Wait until a rank has printed ``text``."""
        until(lambda: text in self.run.logs(rank))

    def codes(self, patience: float = 120.0) -> list[int]:
        """Wait until all programs have ended; their exit codes, in order of the nodes."""
        return [self.programs[node].wait(patience) for node in sorted(self.programs)]

    def output(self) -> str:
        """All events and logs, for the message of a failed test."""
        logs = [path.read_text() for path in sorted(self.run.dir.glob("node-*.log"))]
        events = [str(event) for node in self.programs for event in self.events(node) if event["event"] != "sample"]
        return "\n".join([*events, *logs, *(self.run.logs(rank) for rank in range(self.run.task.resources.world_size))])

    def end(self) -> None:
        """Kill the programs that still run."""
        for program in self.programs.values():
            program.kill()
            program.wait()


Allocate = Callable[..., Allocation]
