"""Send one request over a Unix socket, to a process of the same user, and read the answer; each is a line of JSON."""

from __future__ import annotations

import json
import os
import socket
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def send_request(path: Path, request: Mapping[str, Any], timeout: float) -> dict[str, Any]:
    """Send ``request`` to the process that listens on ``path``, and return its answer.

    Raises
    ------
    OSError
        if no process of this user listens, or none answers within ``timeout`` seconds.
    """
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(timeout)
        client.connect(str(path))
        if not is_same_user(client):  # the folder of the socket was deleted, and made again by another user
            raise PermissionError(f"a process of another user listens on {path}")
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


def is_same_user(connection: socket.socket) -> bool:
    """Whether the process at the other end of a Unix socket belongs to the same user (unix(7), ``SO_PEERCRED``)."""
    if not hasattr(socket, "SO_PEERCRED"):  # elsewhere the folder's mode 0700 protects the socket
        return True
    data = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return bool(struct.unpack("3i", data)[1] == os.getuid())
