"""What the benchmarks share: repeated timing and a table with ratios."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

UNITS = {"µs": 1e6, "ms": 1e3, "s": 1.0}


@dataclass
class Row:
    """One thing that was measured, in seconds."""

    name: str
    seconds: list[float]
    note: str = ""


@dataclass
class Table:
    """Things measured side by side; the first is ours, the ratios are to the row named ``peer``."""

    title: str
    unit: str
    reach: str
    rows: list[Row] = field(default_factory=list)
    peer: str = ""

    def add(self, name: str, seconds: list[float], note: str = "") -> None:
        """Add a row and say it."""
        self.rows.append(Row(name, seconds, note))
        scale = UNITS[self.unit]
        print(f"  {name:<44} {statistics.median(seconds) * scale:10.3f} {self.unit}", flush=True)

    def markdown(self) -> str:
        """The table as Markdown: min, median, max and, of the medians, the ratio to the peer."""
        scale = UNITS[self.unit]
        peer = next((row for row in self.rows if row.name == self.peer), None)
        lines = [f"### {self.title}", "", f"To reach: {self.reach}.", ""]
        ratio = f" | ratio to {self.peer}" if peer else ""
        lines += [f"| | min | median | max | n{ratio} |", f"|---|---:|---:|---:|---:{'|---:' if peer else ''}|"]
        for row in self.rows:
            low, mid, high = min(row.seconds), statistics.median(row.seconds), max(row.seconds)
            cells = [f"{value * scale:.3g} {self.unit}" for value in (low, mid, high)]
            last = f" | {mid / statistics.median(peer.seconds):.3g}" if peer else ""
            lines.append(f"| {row.name} | {' | '.join(cells)} | {len(row.seconds)}{last} |")
        lines += [f"\n{row.name}: {row.note}." for row in self.rows if row.note]
        return "\n".join(lines) + "\n"


def times(call: Callable[[], object], repeat: int) -> list[float]:
    """Seconds of each of ``repeat`` calls."""
    found = []
    for _ in range(repeat):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return found
