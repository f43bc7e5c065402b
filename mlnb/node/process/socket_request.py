"""Send one request over a Unix socket and read the answer; each is a line of JSON."""

from __future__ import annotations

import json
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def send_request(path: Path, request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """Send ``request`` to the process that listens on ``path``, and return its answer.

    Raises
    ------
    OSError
        if no process listens, or none answers within ``timeout`` seconds.
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(timeout)
        client.connect(str(path))
        client.sendall(json.dumps(dict(request)).encode() + b"\n")
        with client.makefile("rb") as file:
            line = file.readline()
    try:
        answer = json.loads(line)
    except ValueError:
        raise ConnectionAbortedError(f"no answer on {path}") from None
    if not isinstance(answer, dict):
        raise ConnectionAbortedError(f"{answer!r} on {path} is no answer")
    return answer
