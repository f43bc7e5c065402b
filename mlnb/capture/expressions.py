"""Expressions for live values that have no name of their own: what a script writes where the session has them."""

from __future__ import annotations

import types
from typing import Any, Protocol

from mlnb.capture.reasons import Need, Reason
from mlnb.capture.references import References
from mlnb.capture.session import Session
from mlnb.capture.ship import streams
from mlnb.capture.ship.checks import ShippingChecks
from mlnb.capture.ship.refusals import unshippable_reason
from mlnb.capture.source.literals import literal
from mlnb.errors import CannotShip


class Collector(Protocol):
    """What collects what a cell needs (:class:`mlnb.capture.slice.Slice`)."""

    data: dict[str, Any]
    extra_imports: set[str]
    session: Session
    references: References
    checks: ShippingChecks

    def need(self, name: str, reason: Reason, how: Need = Need.REQUIRED) -> None:
        """The script needs ``name``."""


class Expressions:
    """Writes values as expressions, and has ``collector`` collect what these need."""

    def __init__(self, collector: Collector) -> None:
        self._collector = collector

    def of_attribute(self, generated: str, value: Any, reason: Reason) -> str:
        """An expression for a value that is assigned to an attribute, maybe a method or property of a class."""
        for wrapper in (staticmethod, classmethod):
            if isinstance(value, wrapper):
                return f"{wrapper.__name__}({self.of_attribute(generated, value.__func__, reason)})"
        if isinstance(value, property):
            accessors = enumerate((value.fget, value.fset, value.fdel))
            texts = [self.of_attribute(f"{generated}{i}", accessor, reason) for i, accessor in accessors]
            return f"property({', '.join(texts)})"
        # not through the class: the attribute that holds the function there is what is being assigned
        return self.of(generated, value, reason, through_class=False)

    def of(self, generated: str, value: Any, reason: Reason, *, through_class: bool = True) -> str:
        """An expression for a live value that has no name of its own; ``generated``, its name, if it becomes data.

        Parameters
        ----------
        through_class
            whether ``Class.attribute`` will do for a function.
        """
        if isinstance(value, (types.FunctionType, type)):
            name = self._collector.references.name_of(value, reason, through_class=through_class)
            if name is not None:
                return name
        names = self._collector.references.session_names(value)
        if names and type(value) not in (*streams.PLAIN, str, bytes):
            self._collector.need(names[0], reason)
            return names[0]
        self._collector.checks.check_name(generated, value, reason)
        written = literal(value)
        if (
            written is not None
            and not written.containers
            and not written.is_shadowed(self._collector.session.namespace)
        ):
            self._collector.checks.check(generated, value, reason)
            self._collector.extra_imports |= written.imports
            return written.text
        unshippable = unshippable_reason(value)
        if unshippable:
            raise CannotShip(f"{reason.through}{Reason(reason.line)} holds {unshippable}")
        self._collector.data[generated] = value
        return generated
