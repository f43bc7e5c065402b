"""Describes in sentences how a run ended, and who stopped it."""

from __future__ import annotations

import getpass
import re

from mlnb.units import state_phrase


def stopped_by(by: str) -> str:
    """``stopped by you``, or ``stopped by alice on node3`` if it was another user.

    Parameters
    ----------
    by
        ``USER on HOST``, from ``cancel.json``.
    """
    return "stopped by you" if by.split(" on ", 1)[0] == getpass.getuser() else f"stopped by {by}"


def readable_reason(reason: str) -> str:
    """A reason that the node program wrote, with ``you`` in place of the reader's user name."""
    match = re.fullmatch(r"cancelled by (\S.*)", reason)
    return stopped_by(match[1]) if match else reason


def append_reason(reason: str, more: str) -> str:
    """``reason``, then ``more``: as a new sentence if it begins with a capital, else after a semicolon."""
    if not more:
        return reason
    return f"{reason}. {more}" if more[0].isupper() else f"{reason}; {more}"


def end_sentence(name: str, state: str, reason: str, world_size: int) -> str:
    """How a run ended, as in ``Run fails failed in cell [6], line 4: ValueError: x``, with a full stop.

    It names the rank that failed if there are several.
    """
    reason = reason.rstrip(".")
    match = re.fullmatch(r"rank (\d+) in (.+)", reason) if state == "failed" else None
    if match:
        rank = f" on rank {match[1]}" if world_size > 1 else ""
        return f"Run {name} failed{rank} in {match[2]}."
    if state in ("failed", "succeeded"):
        return f"Run {name} {state}{': ' if reason else ''}{reason}."
    return f"Run {name} {state_phrase(state)}{': ' if reason else ''}{reason}."
