"""What a container engine is: it turns a command into one that runs inside of an image, and quotes nothing.

Everything is a list of words until the job script is written, where one ``shlex.join`` makes shell of it. What has to
be decided on the node (which GPUs the job got, which of the scheduler's variables there are) is decided by scripts that
are constants here and get what they need as positional parameters.
"""

from __future__ import annotations

import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from mlnb.errors import UsageError

SCHEDULERS = "SLURM|SLURMD|PBS|LSB|OAR|PMI|PMIX|CUDA|ROCR|HIP|NCCL|GLOO|MLNB|_CONDOR"
"""Variables that begin so (and ``_``) go into an image whose engine does not take the job's environment along."""

NAMES = rf"""names() {{ env | sed -nE 's/^(({SCHEDULERS})_[A-Za-z0-9_]+)=.*/\1/p'; }}
"""
"""Shell: a function that prints the names of those that there are."""

_FIND = """for python in python3 python; do
command -v "$python" >/dev/null 2>&1 && exec "$python" "$@"
done
echo "mlnb: the image has neither python3 nor python on its PATH; the target's container.python says where it is" >&2
exit 127
"""

# they name places of the host, which are not the image's
_HOSTS_PYTHON = ("PYTHONHOME", "PYTHONPATH", "PYTHONUSERBASE", "VIRTUAL_ENV", "CONDA_PREFIX")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KNOWN = ("binds", "command", "engine", "gpu", "images", "options", "pull", "python")


@dataclass(frozen=True)
class Bind:
    """A folder of the host that is seen inside, at ``target`` (the same path if that is empty)."""

    source: str
    target: str = ""
    writable: bool = False

    @property
    def inside(self) -> str:
        """Where it is seen."""
        return self.target or self.source


@dataclass(frozen=True)
class Wrapped:
    """A command inside of an image.

    Attributes
    ----------
    command
        what each node runs: by ``srun`` or another launcher, or by the job script itself.
    launcher
        options for ``srun``; only pyxis has some.
    before, after
        lines of shell for the job script: before the launch, and in its EXIT trap. Those after it never fail.
    """

    command: list[str]
    launcher: list[str] = field(default_factory=list)
    before: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Settings:
    """The ``container:`` section of a target's configuration.

    Attributes
    ----------
    binds
        further folders that every run sees: ``FOLDER[:FOLDER INSIDE][:ro or rw]``.
    command
        the engine's program, by name or path; empty for its usual name.
    engine
        which engine; empty lets the image and the machine decide.
    gpu
        ``nvidia``, ``amd``, or ``none`` if GPUs need nothing of the engine.
    images
        patterns (``*``, ``?``) of the images that are allowed; empty allows all.
    options
        further options of the engine, as they are.
    pull
        ``never`` or ``missing``: whether podman and docker may fetch an image that the node has not.
    python
        the image's Python; empty for ``python3`` or else ``python`` on its PATH.
    """

    binds: tuple[str, ...] = ()
    command: str = ""
    engine: str = ""
    gpu: str = "nvidia"
    images: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    pull: str = "never"
    python: str = ""

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Settings:
        """Read and check the section.

        Raises
        ------
        UsageError
            if a key or a value is not known.
        """
        for key in given:
            if key not in _KNOWN:
                raise UsageError(f"container.{key}: there is no such setting; there are {', '.join(_KNOWN)}")
        texts = {key: _text(key, given[key]) for key in ("command", "engine", "gpu", "pull", "python") if key in given}
        lists = {key: _list(key, given[key]) for key in ("binds", "images", "options") if key in given}
        for key, allowed in (("gpu", ("nvidia", "amd", "none")), ("pull", ("never", "missing"))):
            if texts.get(key, allowed[0]) not in allowed:
                raise UsageError(f"container.{key} {texts[key]!r}: allowed are {', '.join(allowed)}")
        return cls(**texts, **lists)  # type: ignore[arg-type]


class Engine(ABC):
    """One container engine with one image."""

    name: ClassVar[str]
    program: ClassVar[str]
    """What it is called on the PATH."""
    systems: ClassVar[frozenset[str] | None] = None
    """The batch systems that it works with; ``None`` for any."""
    forbidden: ClassVar[str] = ":"
    """Characters that paths of binds can't hold, since the engine takes them for its own."""

    def __init__(self, image: str, settings: Settings) -> None:
        self.image, self.settings = image, settings
        self.command = settings.command or self.program

    @abstractmethod
    def wrap(
        self,
        command: Sequence[str],
        *,
        binds: Sequence[Bind] = (),
        env: Mapping[str, str] | None = None,
        pass_env: Sequence[str] = (),
        gpus: int = 0,
        workdir: str = "",
        name: str = "mlnb",
        memory: int | None = None,
    ) -> Wrapped:
        """The same command inside of the image.

        Parameters
        ----------
        command
            program and arguments, as the image knows them; :meth:`python` finds the image's Python.
        binds
            folders of the host; parents before what lies in them.
        env
            variables with their values, which will be seen on the command line: no secrets.
        pass_env
            names of variables whose values are only in the job's environment.
        gpus
            GPUs that the job has on each node.
        workdir
            where it starts: among ``binds``, or a folder of the image.
        name
            unique to the run; letters, digits, ``.``, ``_`` and ``-``.
        memory
            bytes on each node, for engines outside of the batch system's own limits.

        Raises
        ------
        UsageError
            for a path or a name that the engine can't take.
        """

    def python(self) -> list[str]:
        """The words in front of Python's arguments; an image has ``python3``, or else ``python``."""
        return [self.settings.python] if self.settings.python else ["sh", "-c", _FIND, "mlnb"]

    def here(self) -> bool:
        """Whether the engine is on this machine."""
        return shutil.which(self.command) is not None

    def identity(self) -> str | None:
        """What tells this image from another; ``None`` where this machine doesn't know it."""
        path = Path(self.image)
        if not path.is_absolute() or not path.exists():
            return None
        stat = path.stat()
        return f"{stat.st_dev:x}.{stat.st_ino:x}.{stat.st_mtime_ns:x}.{stat.st_size:x}"

    def checked(self, binds: Sequence[Bind], pass_env: Sequence[str], workdir: str) -> None:
        """Refuse what can't be given to this engine. Raises ``UsageError``."""
        for path in [path for bind in binds for path in (bind.source, bind.inside)] + [workdir] * bool(workdir):
            wrong = next((c for c in path if c in self.forbidden or not c.isprintable()), "")
            if wrong:
                raise UsageError(
                    f"{path!r}: {self.name} can't show an image a folder whose path holds {wrong!r}; "
                    "use a folder without (MLNB_RUNS says where runs go)"
                )
            if not path.startswith("/"):
                raise UsageError(f"{path!r}: a folder that an image shall see needs its absolute path")
        for name in pass_env:
            variable(name)


def inside(command: Sequence[str], env: Mapping[str, str] | None) -> list[str]:
    """``command`` with the variables of ``env`` set by the image's own ``env``, whatever the image or the host set.

    The host's settings for Python don't go along, nor do packages in the home folder, which some engines show.

    Raises
    ------
    UsageError
        for a name that is none or a value that no variable can hold.
    """
    values = {"PYTHONNOUSERSITE": "1", **(env or {})}
    for name, value in values.items():
        variable(name)
        if "\0" in value:
            raise UsageError(f"--env {name}: no variable can hold a zero byte")
    unset = [word for name in _HOSTS_PYTHON if name not in values for word in ("-u", name)]
    return ["env", *unset, *(f"{name}={value}" for name, value in values.items()), *command]


def variable(name: str) -> str:
    """``name`` if it can be a variable's.

    Raises
    ------
    UsageError
        if not.
    """
    if not _VARIABLE.fullmatch(name):
        raise UsageError(f"--env {name!r}: letters, digits and '_' are allowed, no digit first")
    return name


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise UsageError(f"container.{key} {value!r}: it must be a word")
    return value


def _list(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(word, str) and word.isprintable() for word in value):
        raise UsageError(f"container.{key} {value!r}: it must be a list of words")
    return tuple(value)
