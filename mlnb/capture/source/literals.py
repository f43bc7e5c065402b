"""Literals: plain values written as source code, as a person would write them."""

from __future__ import annotations

import builtins
import enum
import math
import pathlib
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import PosixPath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import Any

LIMIT = 2048
"""Characters: longer values are sent as data."""

_DEPTH = 40
"""Containers within each other: deeper values are sent as data."""

MUTABLE = (list, dict, set, bytearray)
"""Mutable types that can be written as source."""

_PATHS = (PosixPath, WindowsPath, PurePosixPath, PureWindowsPath)


@dataclass
class Literal:
    """A value written as source code.

    Attributes
    ----------
    text
        an expression.
    classes
        the script's names of the classes in it (enumerations), without attributes.
    library_names
        the built-in and imported names in it, with what they stand for.
    imports
        import statements it needs.
    containers
        ``id`` of the mutable containers in the value.
    """

    text: str
    classes: set[str] = field(default_factory=set)
    library_names: dict[str, Any] = field(default_factory=dict)
    imports: set[str] = field(default_factory=set)
    containers: set[int] = field(default_factory=set)

    def is_shadowed(self, namespace: Mapping[str, Any]) -> bool:
        """Whether a built-in or imported name in it stands for something else in ``namespace``."""
        return any(namespace.get(name, value) is not value for name, value in self.library_names.items())


class _TooLong(Exception):
    """The value takes more than :data:`LIMIT` characters."""


class _NotLiteral(Exception):
    """The value can't be written as source."""


def literal(value: Any, name_of: Callable[[Any], str | None] = lambda _: None) -> Literal | None:
    """Write ``value`` as an expression whose value is equal to it.

    Parameters
    ----------
    name_of
        the name of a class in the script, for members of enumerations; ``None`` if it has none.

    Returns
    -------
    Literal or None
        ``None`` if the value can't be written, is longer than :data:`LIMIT`, or holds one container twice.
    """
    writer = _Writer(name_of)
    try:
        text = writer.write(value)
    except (_NotLiteral, _TooLong):
        return None
    return Literal(text, writer.classes, writer.library_names, writer.imports, writer.containers)


class _Writer:
    """Writes a value, and collects what the text needs: the fields of :class:`Literal`."""

    def __init__(self, name_of: Callable[[Any], str | None]) -> None:
        self._name_of = name_of
        self._length = self._depth = 0
        self.classes: set[str] = set()
        self.library_names: dict[str, Any] = {}
        self.imports: set[str] = set()
        self.containers: set[int] = set()

    def write(self, value: Any) -> str:
        self._depth += 1
        text = self._write(value)
        self._depth -= 1
        self._length += len(text) if not isinstance(value, (tuple, frozenset, slice, *MUTABLE)) else 2
        if self._length > LIMIT:
            raise _TooLong
        return text

    def _write(self, value: Any) -> str:
        kind = type(value)
        if kind in (str, bytes, bytearray, int):
            _check_length(value)
        if value is None or value is ... or kind in (bool, int, str, bytes):
            return repr(value)
        for kinds, write in (
            ((float,), self._float),
            ((complex,), self._complex),
            ((tuple, frozenset, *MUTABLE), self._container),
            ((range, slice), self._range),
            (_PATHS, self._path),
        ):
            if kind in kinds:
                return write(value)
        return self._member(value) if isinstance(value, enum.Enum) else self._torch(value)

    def _range(self, value: range | slice) -> str:
        name = self._built_in(type(value))
        return f"{name}({self.write(value.start)}, {self.write(value.stop)}, {self.write(value.step)})"

    def _float(self, value: float) -> str:
        if math.isfinite(value):
            return repr(value)
        if math.isnan(value) and math.copysign(1, value) < 0:
            raise _NotLiteral
        return f'{self._built_in(float)}("{value}")'

    def _complex(self, value: complex) -> str:
        return f"{self._built_in(complex)}({self._float(value.real)}, {self._float(value.imag)})"

    def _container(self, value: Any) -> str:
        if len(value) > LIMIT:
            raise _TooLong
        kind = type(value)
        if self._depth > _DEPTH:
            raise _TooLong  # Python's parser has a limit, too
        if kind in MUTABLE:
            if id(value) in self.containers:
                raise _NotLiteral  # one container twice: the source would create two
            self.containers.add(id(value))
        if kind is bytearray:
            return f"{self._built_in(bytearray)}({bytes(value)!r})"
        if kind is dict:
            return "{" + ", ".join(f"{self.write(k)}: {self.write(v)}" for k, v in value.items()) + "}"
        items = [self.write(item) for item in value]
        if kind is list:
            return f"[{', '.join(items)}]"
        if kind is tuple:
            return f"({', '.join(items)}{',' if len(items) == 1 else ''})"
        items.sort()
        if kind is set and items:
            return f"{{{', '.join(items)}}}"
        name = self._built_in(kind)
        return f"{name}({{{', '.join(items)}}})" if items else f"{name}()"

    def _built_in(self, kind: type) -> str:
        """The name of a built-in type."""
        self.library_names[kind.__name__] = vars(builtins)[kind.__name__]
        return kind.__name__

    def _path(self, value: Any) -> str:
        name = "Path" if type(value) in (PosixPath, WindowsPath) else type(value).__name__
        self.imports.add(f"from pathlib import {name}")
        self.library_names[name] = vars(pathlib)[name]
        return f"{name}({str(value)!r})"

    def _member(self, value: enum.Enum) -> str:
        kind = type(value)
        name = self._name_of(kind)
        if name is None or not value.name or kind.__members__.get(value.name) is not value:
            raise _NotLiteral
        self.classes.add(name.split(".")[0])
        return f"{name}.{value.name}"

    def _torch(self, value: Any) -> str:
        torch = sys.modules.get("torch")
        if torch is None:
            raise _NotLiteral
        if type(value) is torch.device:
            text = f"torch.device({str(value)!r})"
        elif type(value) in (torch.dtype, torch.layout, torch.memory_format):
            text = str(value)
        elif type(value) is torch.Size:
            text = f"torch.Size({self._container(tuple(value))})"
        else:
            raise _NotLiteral
        self.imports.add("import torch")
        self.library_names["torch"] = torch
        return text


def _check_length(value: str | bytes | bytearray | int) -> None:
    if (value.bit_length() if isinstance(value, int) else len(value)) > LIMIT:
        raise _TooLong
