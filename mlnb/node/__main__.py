"""``python -m mlnb.node RUN_DIR``: the node program, one a node.

An old Python has to be able to read this, and be told that it is too old: see ``mlnb.node.requirements``.
"""

import argparse
import sys
from pathlib import Path

from mlnb.node import requirements


def main() -> int:
    """Parse the command line and run the node."""
    parser = argparse.ArgumentParser(prog="python -m mlnb.node", description="Run one node of a run.")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--node", type=int, default=0)
    parser.add_argument("--attempt", type=int, default=1)
    options = parser.parse_args()

    missing = requirements.missing()
    if missing is not None:
        return requirements.refuse(missing, options.run_dir, options.node, options.attempt)

    from mlnb.node.program import NodeProgram
    from mlnb.rundir import RunDir

    return NodeProgram(RunDir(options.run_dir), options.node, options.attempt).main()


if __name__ == "__main__":
    sys.exit(main())
