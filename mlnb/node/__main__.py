"""``python -m mlnb.node RUN_DIR``: the node program, one a node.

An old Python has to be able to read this, and be told that it is too old: see ``mlnb.node.requirements``. So what this
needs of mlnb is imported behind that.
"""

import argparse
import sys
from pathlib import Path

from mlnb.node import requirements


def main() -> int:
    """Parse the command line and run the node."""
    parser = argparse.ArgumentParser(prog="python -m mlnb.node", description="Run one node of a run.")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--node", type=int, help="which node this is, from 0; by default the environment tells")
    parser.add_argument("--attempt", type=int, default=1, help="the attempt that the job was submitted for, from 1")
    parser.add_argument(
        "--restarts", type=int, help="how often the system has started the job before; by default the environment tells"
    )
    options = parser.parse_args()
    missing = requirements.missing()
    if missing is not None:
        return requirements.refuse(missing, options.run_dir, options.node, options.attempt)

    from mlnb.errors import UsageError
    from mlnb.node.attempt import job_environment
    from mlnb.node.attempt import lock as attempt_lock
    from mlnb.rundir import RunDir, read_json, read_json_fresh
    from mlnb.task import Resources

    run_dir = RunDir(options.run_dir)
    resources = (read_json(run_dir.task) or {}).get("resources", {})
    try:
        node = job_environment.node_index(options.node, int(resources.get("nodes", Resources.nodes)))
        attempt = options.attempt + job_environment.restart_count(options.restarts)
        job_environment.deadline()
    except UsageError as error:
        parser.error(str(error))
    while True:
        over = (read_json_fresh(run_dir.result) or {}) if attempt > options.attempt else {}
        if over.get("attempt", 0) >= options.attempt:
            return int(over["state"] != "succeeded")  # its job was queued again as it ended: nothing is left to do
        files = run_dir.attempt(attempt)
        other = attempt_lock.acquire(files, node)
        if other is None:
            break
        if attempt_lock.owner_is_alive(files, node, other):
            sys.exit(f"mlnb: {attempt_lock.conflict_message(files, other)}")
        attempt += 1  # its job was started again by a system that doesn't count

    from mlnb.node.program import NodeProgram

    return NodeProgram(run_dir, node, attempt).main()


if __name__ == "__main__":
    sys.exit(main())
