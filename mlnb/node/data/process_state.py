"""Process state: what code may read or change in a process besides objects: generators, settings, variables, places.

A session's process state is sent with a cell, as data. What the cell changes in it comes back.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import pickle
import random
import re
import sys
import warnings
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from mlnb.node.data.settings import setting_statements
from mlnb.node.data.storages import as_bytes, view_of

GENERATORS = frozenset({"random", "numpy", "torch", "cuda"})
"""The parts of the process state that are states of random number generators."""


@dataclass(frozen=True)
class ProcessState:
    """The state of a process, or a part of it.

    Attributes
    ----------
    parts
        name → pickled state of a generator, of the warning filters, of ``sys.argv``, of decimal's
        context, or of the umask.
    settings
        statements that set the settings of torch and numpy.
    environ
        environment variables; an empty value of ``None`` says that one was removed.
    folder
        the current folder; empty if it isn't part of what is described.
    import_path
        what modules are imported from; of changes, what was added: first at its beginning, then at its end.
    kept_back
        the names of environment variables that the process has, and that are not in ``environ``.
    """

    parts: Mapping[str, bytes] = field(default_factory=dict)
    settings: tuple[str, ...] = ()
    environ: Mapping[str, str | None] = field(default_factory=dict)
    folder: str = ""
    import_path: tuple[tuple[str, ...], tuple[str, ...]] = ((), ())
    kept_back: tuple[str, ...] = ()

    def write(self, path: Path) -> None:
        """Write it to a file that only this user can read."""
        path.write_bytes(self.dump())
        path.chmod(0o600)

    def dump(self) -> bytes:
        """It as bytes."""
        return pickle.dumps(
            (dict(self.parts), self.settings, dict(self.environ), self.folder, self.import_path, self.kept_back), 4
        )

    @classmethod
    def load(cls, data: bytes) -> ProcessState:
        """The inverse of :meth:`dump`. Only for data whose writer is trusted."""
        return cls(*pickle.loads(data))

    def changes_since(self, before: ProcessState) -> ProcessState:
        """The parts, settings and variables that differ from those of ``before``."""
        removed = dict.fromkeys(name for name in before.environ if name not in self.environ)
        return ProcessState(
            {name: data for name, data in self.parts.items() if before.parts.get(name) != data},
            tuple(text for text in self.settings if text not in before.settings),
            {**{n: v for n, v in self.environ.items() if before.environ.get(n) != v}, **removed},
            self.folder if self.folder != before.folder else "",
            _added(self.import_path[0], before.import_path[0]),
        )

    def __bool__(self) -> bool:
        return bool(self.parts or self.settings or self.environ or self.folder or any(self.import_path))


def read() -> ProcessState:
    """The state of this process, with its whole environment."""
    parts = {"random": pickle.dumps(random.getstate(), 4), "torch": _pickled_tensor(torch.get_rng_state())}
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        parts["numpy"] = pickle.dumps(numpy.random.get_state(legacy=False), 4)
    if torch.cuda.is_initialized():
        parts["cuda"] = pickle.dumps([_pickled_tensor(state) for state in torch.cuda.get_rng_state_all()], 4)
    parts["warnings"] = pickle.dumps([data for entry in warnings.filters if (data := _pickled(entry))], 4)
    if sys.argv[1:] != sys.orig_argv[len(sys.orig_argv) - len(sys.argv) + 1 :]:
        parts["arguments"] = pickle.dumps(list(map(str, sys.argv)), 4)  # not those that this process was started with
    if (mask := _umask()) is not None:
        parts["umask"] = pickle.dumps(mask, 4)
    if "decimal" in sys.modules:
        context = sys.modules["decimal"].getcontext()
        parts["decimal"] = pickle.dumps({name: getattr(context, name) for name in _OF_DECIMAL}, 4)
    settings = tuple(setting_statements(defaults=True))
    return ProcessState(parts, settings, dict(os.environ), _current_folder(), (tuple(map(str, sys.path)), ()))


def apply(state: ProcessState, *, without: Collection[str] = ()) -> None:
    """Set this process's state to ``state``, but for the parts ``without`` and for what it doesn't describe."""
    for name, data in state.parts.items():
        if name not in without:
            _SETTERS[name](pickle.loads(data))
    if "torch" in state.parts and "cuda" not in state.parts and "torch" not in without and torch.cuda.is_available():
        torch.cuda.manual_seed_all(torch.initial_seed())  # as the session would, at its first use of a GPU
    for statement in state.settings:
        exec(statement, {name: sys.modules[name] for name in ("torch", "numpy") if name in sys.modules})  # noqa: S102
    for name, value in state.environ.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if state.folder:
        with contextlib.suppress(OSError):  # of another machine, or deleted
            os.chdir(state.folder)


def merge(state: ProcessState, before: ProcessState) -> None:
    """Apply what a run has changed, where this process's state is still that of ``before``, when it was submitted."""
    now = read()
    touched = {name for name in state.parts if now.parts.get(name) != before.parts.get(name)}
    if touched & GENERATORS:
        touched |= GENERATORS
    settings = state.settings if now.settings == before.settings else ()
    folder = state.folder if now.folder == before.folder else ""
    first, last = (
        [path for path in paths if path not in sys.path and Path(path).exists()] for paths in state.import_path
    )
    sys.path[:] = [*first, *sys.path, *last]
    apply(ProcessState(state.parts, settings, state.environ, folder), without=touched)


def vary(state: ProcessState, lent: Sequence[ProcessState], number: int) -> tuple[ProcessState, ProcessState]:
    """The state for a run that starts while others may still draw from the same generators, and what it may return.

    Parameters
    ----------
    lent
        the states with which the other runs have started: two runs must not draw the same numbers.
    number
        how many runs have started like this before, from the same states.
    """
    sent, returned = dict(state.parts), dict(state.parts)
    for name in GENERATORS & state.parts.keys():
        if any(other.parts.get(name) == state.parts[name] for other in lent):
            seed = int.from_bytes(hashlib.sha256(state.parts[name] + str(number).encode()).digest()[:7], "big")
            sent[name] = _seeded(name, seed)
            returned[name] = b""  # equal to no state: the session goes on with the numbers of the other run
    return replace(state, parts=sent), replace(state, parts=returned)


def _seeded(name: str, seed: int) -> bytes:
    """The pickled state of a generator that starts from ``seed``."""
    if name == "random":
        return pickle.dumps(random.Random(seed).getstate(), 4)
    if name == "numpy":
        import numpy as np

        return pickle.dumps(np.random.RandomState(seed % 2**32).get_state(legacy=False), 4)
    if name == "cuda":
        states = [torch.Generator(f"cuda:{device}") for device in range(torch.cuda.device_count())]
        return pickle.dumps([_pickled_tensor(generator.manual_seed(seed).get_state()) for generator in states], 4)
    return _pickled_tensor(torch.Generator().manual_seed(seed).get_state())


def _added(now: tuple[str, ...], before: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """What was added to an import path: at its beginning, and elsewhere."""
    start = next((index for index, path in enumerate(now) if path in before), len(now))
    return now[:start], tuple(path for path in now[start:] if path not in before)


def _current_folder() -> str:
    try:
        return os.getcwd()  # noqa: PTH109 - a string, which another machine may have, too
    except OSError:  # deleted
        return ""


def _pickled(value: Any) -> bytes | None:
    """A pickle of ``value``; ``None`` if another process couldn't load it."""
    if getattr(value[2], "__module__", None) == "__main__":
        return None
    try:
        return pickle.dumps(value, 4)
    except Exception:  # noqa: BLE001 - classes of warnings may be the user's
        return None


def _pickled_tensor(state: torch.Tensor) -> bytes:
    return pickle.dumps(bytes(view_of(as_bytes(state.untyped_storage()))), 4)


def _tensor(data: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(data), dtype=torch.uint8)


def _set_numpy(state: Any) -> None:
    import numpy as np

    np.random.set_state(state)


def _set_cuda(states: list[bytes]) -> None:
    if torch.cuda.is_available():
        for device, state in zip(range(torch.cuda.device_count()), states, strict=False):
            torch.cuda.set_rng_state(_tensor(pickle.loads(state)), device)


def _umask() -> int | None:
    """The mask for the modes of new files, read without setting it, as other threads may make files."""
    with contextlib.suppress(OSError):
        found = re.search(r"^Umask:\s*([0-7]+)", Path("/proc/self/status").read_text(), re.MULTILINE)
        return int(found[1], 8) if found else None
    return None


def _set_umask(mask: int) -> None:
    os.umask(mask)


def _set_decimal(values: Mapping[str, Any]) -> None:
    import decimal

    context = decimal.getcontext()  # the session's own object may have a name there
    for name, value in values.items():
        setattr(context, name, value)


_OF_DECIMAL = ("prec", "rounding", "Emin", "Emax", "capitals", "clamp")


def _set_arguments(arguments: list[str]) -> None:
    sys.argv[:] = arguments


def _set_warnings(entries: list[bytes]) -> None:
    filters = []
    for entry in entries:
        try:
            filters.append(pickle.loads(entry))
        except Exception:  # noqa: BLE001, S112 - a class of warnings that isn't installed here
            continue
    warnings.resetwarnings()
    warnings.filters[:] = filters  # type: ignore[index]
    warnings._filters_mutated()  # type: ignore[attr-defined]


_SETTERS: Mapping[str, Callable[[Any], None]] = {
    "random": random.setstate,
    "numpy": _set_numpy,
    "torch": lambda data: torch.set_rng_state(_tensor(data)),
    "cuda": _set_cuda,
    "warnings": _set_warnings,
    "arguments": _set_arguments,
    "decimal": _set_decimal,
    "umask": _set_umask,
}
