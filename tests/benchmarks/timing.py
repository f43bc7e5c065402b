"""What the benchmarks share: repeated timing and a table with ratios."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field

UNITS = {"µs": 1e6, "ms": 1e3, "s": 1.0}


@dataclass
class Row:
    """The times of one thing, in seconds."""

    name: str
    seconds: list[float]
    note: str = ""


@dataclass
class Pairs:
    """Two things measured alternately, a moment apart: what slows the machine for longer than that cancels out."""

    name: str
    ours: list[float]
    peers: list[float]

    @property
    def ratios(self) -> list[float]:
        """Of each pair, in order of size."""
        return sorted(one / other for one, other in zip(self.ours, self.peers, strict=True))

    def cells(self) -> list[str]:
        """Min, median, its 95 % confidence interval (of any distribution), max; the ratio of the sums; n."""
        found = self.ratios
        n = len(found)
        off = 0.98 * math.sqrt(n)
        low, high = found[max(0, math.floor(n / 2 - off))], found[min(n - 1, math.ceil(n / 2 + off))]
        sums = sum(self.ours) / sum(self.peers)
        middle = f"{statistics.median(found):.4f}"
        return [f"{found[0]:.3f}", middle, f"{low:.4f}–{high:.4f}", f"{found[-1]:.3f}", f"{sums:.4f}", str(n)]


@dataclass
class Table:
    """Things measured side by side; the first is ours, the ratios are to the row named ``peer``."""

    title: str
    unit: str
    goal: str
    rows: list[Row] = field(default_factory=list)
    peer: str = ""
    pairs: list[Pairs] = field(default_factory=list)

    def add(self, name: str, seconds: list[float], note: str = "") -> None:
        """Add a row and print it."""
        self.rows.append(Row(name, seconds, note))
        scale = UNITS[self.unit]
        print(f"  {name:<44} {statistics.median(seconds) * scale:10.3f} {self.unit}", flush=True)

    def pair(self, name: str, ours: list[float], peers: list[float]) -> None:
        """Add what was measured alternately, and print it."""
        self.pairs.append(Pairs(name, ours, peers))
        print(f"  {name:<44} " + " | ".join(self.pairs[-1].cells()), flush=True)

    def markdown(self) -> str:
        """The table as Markdown: min, median, max and, of the medians, the ratio to the peer; then the pairs."""
        scale = UNITS[self.unit]
        peer = next((row for row in self.rows if row.name == self.peer), None)
        lines = [f"### {self.title}", "", f"Goal: {self.goal}.", ""]
        ratio = f" | ratio to {self.peer}" if peer else ""
        lines += [f"| | min | median | max | n{ratio} |", f"|---|---:|---:|---:|---:{'|---:' if peer else ''}|"]
        for row in self.rows:
            low, mid, high = min(row.seconds), statistics.median(row.seconds), max(row.seconds)
            cells = [f"{value * scale:.3g} {self.unit}" for value in (low, mid, high)]
            last = f" | {mid / statistics.median(peer.seconds):.3g}" if peer else ""
            lines.append(f"| {row.name} | {' | '.join(cells)} | {len(row.seconds)}{last} |")
        lines += [f"\n{row.name}: {row.note}." for row in self.rows if row.note]
        if self.pairs:
            lines += [
                "",
                "| ratio of pairs | min | median | 95 % interval | max | ratio of the sums | pairs |",
            ]
            lines += ["|---|---:|---:|---:|---:|---:|---:|"]
            lines += [f"| {' | '.join([pair.name, *pair.cells()])} |" for pair in self.pairs]
        return "\n".join(lines) + "\n"


def times(call: Callable[[], object], repeat: int) -> list[float]:
    """Seconds of each of ``repeat`` calls."""
    found = []
    for _ in range(repeat):
        began = time.perf_counter()
        call()
        found.append(time.perf_counter() - began)
    return found
