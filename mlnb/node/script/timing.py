"""What ``%time``, ``%%time`` and ``%timeit`` are in a run."""

from __future__ import annotations

import importlib
import os
import timeit as standard
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter
from typing import Any, TypeVar

from mlnb.node.script import execute

_Value = TypeVar("_Value")
_UNITS = ((1.0, "s"), (1e-3, "ms"), (1e-6, "μs"), (1e-9, "ns"))


class Timer:
    """Measures time from its creation; as a context manager it prints the times at the end of the block."""

    def __init__(self) -> None:
        self._cpu, self._wall = os.times(), perf_counter()

    def __enter__(self) -> None:
        self._cpu, self._wall = os.times(), perf_counter()

    def __exit__(self, *error: object) -> None:
        self.show()

    def value(self, value: _Value) -> _Value:
        """Print the times that ``value``, which was computed since the timer was made, took; return it."""
        self.show()
        return value

    def loop(self, items: Iterable[_Value]) -> Iterator[_Value]:
        """Iterate, and print at the end the times that the loop took."""
        try:
            yield from items
        finally:
            self.show()

    def show(self) -> None:
        """Print the times."""
        wall, cpu = perf_counter() - self._wall, os.times()
        user, system = cpu.user - self._cpu.user, cpu.system - self._cpu.system
        print(f"CPU times: user {_format(user)}, sys: {_format(system)}, total: {_format(user + system)}")
        print(f"Wall time: {_format(wall)}")


def time_cell() -> None:
    """Print the times of the whole cell at its end."""
    execute.after_cell.append(Timer().show)


def timeit(
    code: Callable[[], Any] | str,
    names: Mapping[str, Any] | None = None,
    number: int | None = None,
    repeat: int = 7,
    *,
    quiet: bool = False,
    gives_result: bool = False,
) -> Any:
    """Print how long ``code`` takes: a function, or statements with ``names``. Return IPython's result on request."""
    timer = standard.Timer(code, globals={**globals(), **(names or {})})
    number = number or timer.autorange()[0]
    seconds = [total / number for total in timer.repeat(repeat, number)]
    mean = sum(seconds) / repeat
    deviation = (sum((value - mean) ** 2 for value in seconds) / repeat) ** 0.5
    runs, loops = f"{repeat} run{'s' * (repeat > 1)}", f"{number:,} loop{'s' * (number > 1)} each"
    if not quiet:
        print(f"{_format(mean)} ± {_format(deviation)} per loop (mean ± std. dev. of {runs}, {loops})")
    if gives_result:
        ipython = importlib.import_module("IPython.core.magics.execution")
        totals = [each * number for each in seconds]
        return ipython.TimeitResult(number, repeat, min(seconds), max(seconds), totals, 0.0, 3)
    return None


def _format(seconds: float) -> str:
    """A time with three digits, as ``1.25 ms``."""
    if seconds >= 60:
        return f"{int(seconds // 60)}min {seconds % 60:.0f}s"
    factor, unit = next(((factor, unit) for factor, unit in _UNITS if seconds >= factor), _UNITS[-1])
    return f"{seconds / factor:.3g} {unit}" if seconds else "0 ns"
