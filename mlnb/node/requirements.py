"""Check that this Python can run the node program; if not, write a result that says why.

Python 3.6 has to parse this file, ``__main__`` and the packages above them, since an image or a machine may have an old
Python. So: no ``from __future__ import annotations``, newer annotations in quotes, no newer syntax.
"""

import importlib.util
import json
import os
import sys
import time
import uuid
from pathlib import Path

OLDEST = (3, 10)


def missing(version: "tuple[int, ...]" = sys.version_info[:3]) -> "str | None":
    """What is missing, as one line for people; ``None`` if nothing is.

    ``MLNB_IMAGE`` names the container image that this runs in, if any.
    """
    image = os.environ.get("MLNB_IMAGE")
    where = f"the image {image}" if image else "this machine"
    installed = ".".join(str(number) for number in version)
    if version[:2] < OLDEST:
        return f"{where} has Python {installed} as {sys.executable}: mlnb needs {OLDEST[0]}.{OLDEST[1]} or newer"
    if importlib.util.find_spec("torch") is None:
        return f"{where} has no torch in {sys.executable} (Python {installed})"
    return None


def refuse(reason: str, run_dir: Path, node: "int | None", attempt: "int | None") -> int:
    """Print why this run can't start, and write it as the run's result. Returns the exit code.

    Node 0 writes the result, or any node that doesn't know its index: all would write the same.
    """
    sys.stderr.write(f"mlnb: {reason}\n")
    if not node:
        result = {
            "state": "failed",
            "reason": reason,
            "exit_code": 1,
            "attempt": attempt or 1,
            "ended": time.time(),
            "error": None,
            "notes": [],
            "peak_memory": None,
            "seconds": None,
        }
        temporary = run_dir / f".result.json.{uuid.uuid4().hex}.tmp"
        temporary.write_text(json.dumps(result, indent=1) + "\n")
        temporary.replace(run_dir / "result.json")
    return 1
