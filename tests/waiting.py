"""Waiting for a condition, where a test has to: never for a time."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(condition: Callable[[], T], patience: float = 120.0) -> T:
    """What ``condition`` returns as soon as that is true."""
    end = time.monotonic() + patience
    while not (value := condition()):
        assert time.monotonic() < end, f"still not so after {patience} s: {condition}"
        time.sleep(0.01)
    return value
