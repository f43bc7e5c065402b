"""Runs that tests left running: they would hold this session's cores, and later tests would wait for them."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path
from typing import Any

from mlnb.node.process.identity import is_alive, send_signal, wait_for_exit

PATIENCE = 20.0
"""Seconds for a run that was cancelled to end, on a loaded machine."""


def end_runs_left(runtime: Path) -> list[str]:
    """End the local target's runs that still hold or wait for cores. Returns their ids, and what was left of each."""
    end = time.monotonic() + PATIENCE
    while (left := _alive(runtime)) and time.monotonic() < end:
        time.sleep(0.05)
    for ticket in left:
        for number in (signal.SIGTERM, signal.SIGKILL):
            send_signal(ticket["pid"], ticket["identity"], number)
            if wait_for_exit(ticket["pid"], ticket["identity"], PATIENCE):
                break
    return [f"{t['run']} ({'running' if t['granted'] else 'waiting'}, {t['cpus']} cores)" for t in left]


def _alive(runtime: Path) -> list[dict[str, Any]]:
    try:
        tickets = json.loads((runtime / "slots.json").read_text())
    except (OSError, ValueError):
        return []
    return [ticket for ticket in tickets if is_alive(ticket["pid"], ticket["identity"])]
