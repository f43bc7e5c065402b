"""Formats numbers for people; ``labextension/chart/format.ts`` formats them the same.

Both are tested against ``tests/render/formats.json``. Sizes, times and counts are in :mod:`mlnb.units`, which
lower layers need, too. Halves are rounded away from zero, as JavaScript does.
"""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Context, Decimal

from mlnb.units import fixed, format_size, format_step, format_time

__all__ = [
    "format_cores",
    "format_percent",
    "format_power",
    "format_rate",
    "format_size",
    "format_step",
    "format_step_time",
    "format_time",
    "format_time_left",
    "format_value",
]

_MINUS = "\u2212"


def format_value(value: float) -> str:
    """A metric's value with four significant digits: ``0.1235``, ``643000``, ``1.23e-5``, ``NaN``, ``∞``."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "∞" if value > 0 else f"{_MINUS}∞"
    sign = _MINUS if value < 0 else ""
    size = Decimal(abs(float(value)))
    if size != 0 and (size < Decimal("1e-3") or size >= 1_000_000):
        rounded = _significant(size, 3)
        exponent = rounded.adjusted()
        return f"{sign}{rounded.scaleb(-exponent):.2f}e{exponent}"
    plain = f"{_significant(size, 4):f}"
    return sign + (plain.rstrip("0").rstrip(".") if "." in plain else plain)


def format_step_time(seconds: float) -> str:
    """Seconds that one step takes, with three significant digits: ``12.3 ms``, ``1.11 s``."""
    if not math.isfinite(seconds):
        return format_value(seconds)
    if seconds >= 59.5:
        return format_time(seconds)
    factor, unit = (1, "s") if seconds >= 0.9995 else (1000, "ms") if seconds >= 0.0009995 else (1_000_000, "µs")
    rounded = _significant(Decimal(float(seconds)) * factor, 3)
    return f"{rounded:.{max(0, 2 - rounded.adjusted())}f} {unit}"


def format_rate(count: float) -> str:
    """A count per second: ``3.4``, ``12 345``."""
    return format_step(math.floor(count + 0.5)) if count >= 99.95 else fixed(count, 1)


def format_time_left(seconds: float) -> str:
    """An estimated duration, without more precision than an estimate has: ``40 s``, ``4 min``, ``2 h 5 min``."""
    if seconds < 59.5:
        return f"{max(1, math.floor(seconds + 0.5))} s"
    hours, minutes = divmod(math.floor(seconds / 60 + 0.5), 60)
    if hours == 0:
        return f"{minutes} min"
    return f"{hours} h {minutes} min" if minutes else f"{hours} h"


def format_cores(count: float) -> str:
    """Cores in use: ``3.4 cores``."""
    return f"{fixed(count, 1)} cores"


def format_percent(percent: float) -> str:
    """A utilisation in percent: ``87 %``."""
    return f"{fixed(percent, 0)} %"


def format_power(watts: float) -> str:
    """A power draw: ``231 W``."""
    return f"{fixed(watts, 0)} W"


def _significant(value: Decimal, digits: int) -> Decimal:
    return Context(prec=digits, rounding=ROUND_HALF_UP).plus(value)
