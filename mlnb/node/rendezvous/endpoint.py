"""Where the coordinator listens, if the target has said so: then the nodes need no file in common to find each other.

``MLNB_RENDEZVOUS`` is ``HOST:PORT``, an address or a name that resolves on every node. The token that all nodes show
comes from the run's key (:mod:`mlnb.manifest`), so that it travels over no network.
"""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlnb import manifest
from mlnb.errors import UsageError
from mlnb.rundir import Attempt

VARIABLE = "MLNB_RENDEZVOUS"


@dataclass(frozen=True)
class Endpoint:
    """Where the coordinator of one attempt listens, and the token that its workers must know."""

    host: str
    port: int
    token: str = field(repr=False)


def endpoint_of(attempt: Attempt, environ: Mapping[str, str]) -> Endpoint | None:
    """The endpoint that the target has set; ``None`` where the nodes share the run directory.

    Raises
    ------
    UsageError
        if it is not ``HOST:PORT``, or the run has no key.
    """
    value = environ.get(VARIABLE)
    if not value:
        return None
    host, colon, port = value.rpartition(":")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 65536:
        raise UsageError(f"{VARIABLE}={value}: it must be HOST:PORT, with a port from 1 to 65535")
    key = environ.get(manifest.VARIABLE)
    if key is None:
        raise UsageError(f"{VARIABLE} needs {manifest.VARIABLE}, by which the nodes of a run know each other")
    token = hmac.new(bytes.fromhex(key), f"rendezvous of attempt {attempt.number}".encode(), "sha256").hexdigest()
    return Endpoint(host.strip("[]"), int(port), token)
