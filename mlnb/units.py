"""Parse and format sizes, times, counts and signals as people write them. Standard library only."""

from __future__ import annotations

import math
import re
import signal

_SIZES = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_MINUS, _THIN = "\u2212", "\u202f"  # minus sign, narrow no-break space

_BINARY = {"ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def parse_size(text: str) -> int:
    """Parse a size into bytes: ``24GB``, ``1.5 GiB``, ``500M``; a bare number is in bytes.

    Raises
    ------
    ValueError
        if it can't be parsed; the text says what is allowed.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?)?b?\s*", text, re.IGNORECASE)
    unit = (match[2] or "").lower() if match else ""
    size = int(float(match[1]) * (_BINARY.get(unit) or _SIZES[unit])) if match else 0
    if size == 0:
        raise ValueError("a size like 24GB, 1.5GiB or 500M")
    return size


def parse_time(text: str) -> int:
    """Parse a time into seconds: ``90s``, ``1h30m``, ``1d``, ``02:30:00``, ``1-12:00:00``; a bare number is in minutes.

    Raises
    ------
    ValueError
        if it can't be parsed; the text says what is allowed.
    """
    text = re.sub(r"(?<=\d)\s+(?=[a-z])|(?<=[a-z])\s+(?=\d)", "", text.strip().lower())
    clock = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d{1,2})(?::(\d{1,2}))?", text)
    parts = re.fullmatch(r"(?:(\d+)d)?\s*(?:(\d+)h)?\s*(?:(\d+)m(?:in)?)?\s*(?:(\d+)s)?", text)
    seconds = 0
    if clock:
        days, first, second, third = (int(part or 0) for part in clock.groups())
        inner = first * 3600 + second * 60 + third if clock[4] is not None or clock[1] else first * 60 + second
        seconds = days * 86400 + inner
    elif re.fullmatch(r"\d+", text):
        seconds = int(text) * 60
    elif parts:
        days, hours, minutes, rest = (int(part or 0) for part in parts.groups())
        seconds = days * 86400 + hours * 3600 + minutes * 60 + rest
    if seconds == 0:
        raise ValueError("a time like 90s, 30m, 2h, 1h30m or 02:30:00")
    return seconds


def format_size(count: float) -> str:
    """Format a number of bytes: ``1.5 GB`` (powers of 1000)."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{fixed(count, 0 if unit == 'B' or count >= 99.95 else 1)} {unit}"
        count /= 1000
    return f"{fixed(count, 1)} TB"


def format_time(seconds: float) -> str:
    """Format a number of seconds: ``1 h 30 min``, ``12 s``, ``0.4 s``."""
    if seconds < 59.5:
        return f"{fixed(seconds, 1 if seconds < 9.95 else 0)} s"
    minutes, rest = divmod(math.floor(seconds + 0.5), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s" if minutes < 10 and rest else f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def format_limit(seconds: float) -> str:
    """Format a limit that somebody has set in whole seconds: ``2 s``, ``5 min``."""
    return format_time(seconds) if seconds >= 59.5 else f"{fixed(max(0.0, seconds), 0)} s"


def format_step(step: float) -> str:
    """Format a step or another count, with thin spaces between thousands: ``25 142``."""
    from decimal import Decimal  # late, since a job that starts has nothing to format

    integer = int(step)
    fraction = "" if integer == step else f"{Decimal(str(abs(float(step)))) % 1:f}"[1:]
    return f"{_MINUS if step < 0 else ''}{abs(integer):,}{fraction}".replace(",", _THIN)


def fixed(value: float, digits: int) -> str:
    """Format a number with so many decimals, halves rounded up as by JavaScript's ``toFixed``: both print the same."""
    from decimal import ROUND_HALF_UP, Decimal  # late, since a job that starts has nothing to format

    return f"{Decimal(value).quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):f}"


def signal_name(number: int) -> str:
    """The name of a signal, as ``SIGTERM``; real-time signals, which have none, are numbered."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


def state_phrase(state: str) -> str:
    """A run's state as a verb phrase: ``has failed``, ``is running``."""
    return {"succeeded": "has succeeded", "failed": "has failed", "cancelled": "was cancelled"}.get(
        state, f"is {state}"
    )
