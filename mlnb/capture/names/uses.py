"""NameUses: what a piece of code does to names that are defined outside of it."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class NameUses:
    """What a piece of code does to names that are defined outside of it.

    Attributes
    ----------
    loads
        names it reads when it runs, with the first line that does.
    deferred_loads
        names that functions defined in it read when they are called, with the first line that does.
    stores, deletes
        names it assigns and deletes.
    mutated
        names whose value its syntax changes: ``x[0] = …``, ``x.a = …``, ``x += …``, ``x.add_(…)``.
    maybe_mutated
        names whose value it may change: a method is called on it, it is passed as an argument.
    dotted_names
        dotted names that it reads, such as ``scipy.signal.firwin``.
    aliases
        pairs ``(a, b)``: a change of ``a``'s value is a change of ``b``'s.
    annotation_names
        names in annotations that aren't evaluated, unless something asks for type hints.
    global_loads
        names that a class body both reads and assigns, with the first line that reads them. Such a read skips the
        variables of enclosing functions: it finds the global.
    """

    loads: dict[str, int] = field(default_factory=dict)
    deferred_loads: dict[str, int] = field(default_factory=dict)
    stores: set[str] = field(default_factory=set)
    deletes: set[str] = field(default_factory=set)
    mutated: set[str] = field(default_factory=set)
    maybe_mutated: set[str] = field(default_factory=set)
    dotted_names: set[str] = field(default_factory=set)
    aliases: set[tuple[str, str]] = field(default_factory=set)
    annotation_names: set[str] = field(default_factory=set)
    global_loads: dict[str, int] = field(default_factory=dict)

    @property
    def all_loads(self) -> list[tuple[str, int]]:
        """Names read at once or when a function is called, with their lines."""
        return [*self.loads.items(), *self.deferred_loads.items()]

    def propagate_aliases(self) -> None:
        """Count a change of an alias as a change of what it stands for."""
        for changed in (self.mutated, self.maybe_mutated):
            while more := {original for alias, original in self.aliases if alias in changed} - changed:
                changed |= more

    def without(self, local: set[str]) -> NameUses:
        """The uses of names other than ``local``."""
        return NameUses(
            {name: line for name, line in self.loads.items() if name not in local},
            {name: line for name, line in self.deferred_loads.items() if name not in local},
            self.stores - local,
            self.deletes - local,
            self.mutated - local,
            self.maybe_mutated - local,
            {dotted for dotted in self.dotted_names if dotted.split(".")[0] not in local},
            {(alias, original) for alias, original in self.aliases if alias not in local and original not in local},
            self.annotation_names - local,
            dict(self.global_loads),
        )

    def add_effects(self, other: NameUses) -> None:
        """Add what ``other`` does beyond reading, assigning and deleting names."""
        self.mutated |= other.mutated
        self.maybe_mutated |= other.maybe_mutated
        self.dotted_names |= other.dotted_names
        self.aliases |= other.aliases
        self.annotation_names |= other.annotation_names
        for name, line in other.global_loads.items():
            note_line(self.global_loads, name, line)


def note_line(first_lines: dict[str, int], name: str, line: int) -> None:
    """Record that ``line`` has ``name``, unless an earlier line is recorded."""
    first_lines[name] = min(line, first_lines.get(name, line))
