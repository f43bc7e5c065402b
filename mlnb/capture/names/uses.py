"""What code does to names outside of it: the result of looking at a piece of code."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Facts:
    """What code does to names outside of it.

    Attributes
    ----------
    loads
        names read when the code runs, with the first line that does.
    later
        names read by functions that it defines, when these are called.
    stores, deletes
        names it binds and unbinds.
    changes
        names whose value it changes by its syntax: ``x[0] = …``, ``x.a = …``, ``x += …``, ``x.add_(…)``.
    touches
        names whose value it may change: a method is called on it, it is passed as an argument.
    chains
        dotted names that it reads, as ``scipy.signal.firwin``.
    aliases
        ``(a, b)`` where changing ``a`` changes ``b``.
    hints
        names in annotations that are never evaluated, unless someone asks for type hints.
    past
        names that a class's body reads and binds: it reads the globals', whatever a function around it binds.
    """

    loads: dict[str, int] = field(default_factory=dict)
    later: dict[str, int] = field(default_factory=dict)
    stores: set[str] = field(default_factory=set)
    deletes: set[str] = field(default_factory=set)
    changes: set[str] = field(default_factory=set)
    touches: set[str] = field(default_factory=set)
    chains: set[str] = field(default_factory=set)
    aliases: set[tuple[str, str]] = field(default_factory=set)
    hints: set[str] = field(default_factory=set)
    past: dict[str, int] = field(default_factory=dict)

    def spread(self) -> None:
        """Carry changes over to what is known by another name."""
        for known in (self.changes, self.touches):
            while more := {b for a, b in self.aliases if a in known} - known:
                known |= more

    def without(self, local: set[str]) -> Facts:
        """The facts about names other than ``local``."""
        return Facts(
            {name: line for name, line in self.loads.items() if name not in local},
            {name: line for name, line in self.later.items() if name not in local},
            self.stores - local,
            self.deletes - local,
            self.changes - local,
            self.touches - local,
            {chain for chain in self.chains if chain.split(".")[0] not in local},
            {(a, b) for a, b in self.aliases if a not in local and b not in local},
            self.hints - local,
            dict(self.past),
        )

    def effects(self, other: Facts) -> None:
        """Add what ``other`` changes."""
        self.changes |= other.changes
        self.touches |= other.touches
        self.chains |= other.chains
        self.aliases |= other.aliases
        self.hints |= other.hints
        for name, line in other.past.items():
            first(self.past, name, line)


def first(lines: dict[str, int], name: str, line: int) -> None:
    """Note ``line`` as one that has ``name``, if it comes before the one known."""
    lines[name] = min(line, lines.get(name, line))
