"""``python -m mlnb.node RUN_DIR``: the node program, one a node."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from mlnb.rundir import RunDir


def main() -> int:
    """Parse the command line and run the node."""
    parser = argparse.ArgumentParser(prog="python -m mlnb.node", description="Run one node of a run.")
    parser.add_argument("run_dir", type=Path)
    parser.add_argument("--node", type=int, default=0)
    parser.add_argument("--attempt", type=int, default=1)
    options = parser.parse_args()

    from mlnb.node.program import NodeProgram

    return NodeProgram(RunDir(options.run_dir), options.node, options.attempt).main()


if __name__ == "__main__":
    sys.exit(main())
