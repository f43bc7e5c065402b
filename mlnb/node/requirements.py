"""What the node program needs of the Python that runs it, and a result that says so where it is missing.

This file, ``__main__`` and the packages above them have to be read by whatever Python an image or a machine has, down
to 3.6: no ``from __future__ import annotations``, annotations newer than that in quotes, and nothing newer at all.
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
    """What is missing, as one line; ``None`` if nothing is.

    ``MLNB_IMAGE`` names the image that this runs in, if it is one.
    """
    image = os.environ.get("MLNB_IMAGE")
    where = f"the image {image}" if image else "this machine"
    said = ".".join(str(number) for number in version)
    if version[:2] < OLDEST:
        return f"{where} has Python {said} as {sys.executable}: mlnb needs {OLDEST[0]}.{OLDEST[1]} or newer"
    if importlib.util.find_spec("torch") is None:
        return f"{where} has no torch in {sys.executable} (Python {said})"
    return None


def refuse(reason: str, run_dir: Path, node: "int | None", attempt: "int | None") -> int:
    """Say why this run can't be: on the standard error and as the run's result; the exit code.

    The result is written by node 0, or by any that isn't told which it is: all of them would write the same.
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
        beside = run_dir / f".result.json.{uuid.uuid4().hex}.tmp"
        beside.write_text(json.dumps(result, indent=1) + "\n")
        beside.replace(run_dir / "result.json")
    return 1
