"""Reads what the newest attempt of a run has displayed."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

from mlnb.rundir import RunDir

_SHORT = 4096
"""Bytes of a file that holds little more than a line of text."""


def figures(run: RunDir) -> list[Path]:
    """Pictures, in order."""
    attempts = run.attempts()
    return sorted(attempts[-1].figures.glob("*.png")) if attempts else []


def displays(run: RunDir) -> list[dict[str, Any]]:
    """Everything displayed, in order: pictures, tables and others, each as a MIME bundle of JSON values."""
    attempts = run.attempts()
    paths = sorted(attempts[-1].figures.glob("[0-9]*.*")) if attempts else []
    return [bundle for bundle in map(_bundle, paths) if bundle]


def texts(run: RunDir) -> list[str]:
    """What is displayed as text alone, in order, as progress bars are; cheap, whatever else is displayed."""
    attempts = run.attempts()
    paths = sorted(attempts[-1].figures.glob("[0-9]*.json")) if attempts else []
    bundles = [_bundle(path, at_most=_SHORT) for path in paths]
    return [str(bundle["text/plain"]) for bundle in bundles if bundle.keys() == {"text/plain"}]


def _bundle(path: Path, at_most: int | None = None) -> dict[str, Any]:
    try:
        if at_most is not None and path.stat().st_size > at_most:
            return {}
        content = path.read_bytes()
        if path.suffix == ".png":
            return {"image/png": base64.b64encode(content).decode()}
        data = json.loads(content)["data"]
    except (OSError, ValueError, KeyError, TypeError):  # it was just cleared, or isn't a display
        return {}
    return data if isinstance(data, dict) else {}
