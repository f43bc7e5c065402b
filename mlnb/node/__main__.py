"""``python -m mlnb.node RUN_DIR``: start the node program, once per node.

An old Python has to parse this file, so that it can report that it is too old: see ``mlnb.node.requirements``. The
other modules of mlnb are imported after that check.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mlnb.node import requirements

if TYPE_CHECKING:
    from mlnb.rundir import RunDir


def main() -> int:
    """Parse the command line and run the node."""
    parser = argparse.ArgumentParser(prog="python -m mlnb.node", description="Run one node of a run.")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--node", type=int, help="index of this node, from 0; default: from the environment")
    parser.add_argument("--attempt", type=int, default=1, help="attempt that the job was submitted for, from 1")
    parser.add_argument(
        "--restarts", type=int, help="how often the job was started before; default: from the environment"
    )
    parser.add_argument("--queue", type=json.loads, help="the pool's queue for cores and GPUs, as JSON")
    options = parser.parse_args()
    missing = requirements.missing()
    if missing is not None:
        return requirements.refuse(missing, options.run_dir, options.node, options.attempt)

    from mlnb.errors import UsageError
    from mlnb.node.attempt import job_environment
    from mlnb.rundir import RunDir, read_json
    from mlnb.task import Resources

    run_dir = RunDir(options.run_dir)
    resources = (read_json(run_dir.task) or {}).get("resources", {})
    try:
        node = job_environment.node_index(options.node, int(resources.get("nodes", Resources.nodes)))
        restarts = job_environment.restart_count(options.restarts)
        job_environment.job_end()
    except UsageError as error:
        parser.error(str(error))
    attempt = lock_attempt(run_dir, node, options.attempt, restarts)

    from mlnb.node.program import NodeProgram

    return NodeProgram(run_dir, node, attempt, first=options.attempt, queue=options.queue).main()


def lock_attempt(run_dir: "RunDir", node: int, submitted: int, restarts: int) -> int:
    """Lock the attempt that this program is to run. Returns its number.

    Parameters
    ----------
    submitted
        the attempt that the job was submitted for.
    restarts
        how often the job was started before, as far as its environment tells.

    Raises
    ------
    SystemExit
        if the run has ended already, or another program runs the attempt.
    """
    from mlnb.node.attempt import lock
    from mlnb.rundir import read_json_fresh

    attempt = submitted + restarts
    while True:
        result = (read_json_fresh(run_dir.result) or {}) if attempt > submitted else {}
        if result.get("attempt", 0) >= submitted:  # the job was queued again although the run has ended
            sys.exit(int(result["state"] != "succeeded"))
        files = run_dir.attempt(attempt)
        owner = lock.acquire(files, node)
        if owner is None:
            return attempt
        if lock.owner_is_alive(files, node, owner):
            sys.exit(f"mlnb: {lock.conflict_message(files, owner)}")
        attempt += 1  # the job was started again by a batch system that doesn't count restarts


if __name__ == "__main__":
    sys.exit(main())
