"""The base class of container engines: an engine turns a command into one that runs inside an image.

It quotes nothing. Commands are lists of arguments until the job script is written, where one ``shlex.join`` makes shell
of them. What can be decided only on the node (which GPUs the job got, which variables the scheduler has set) is decided
by constant shell scripts, which get what they need as positional parameters.
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
"""Prefixes of the variables (before ``_``) that are passed into an image by engines that don't pass the environment."""

NAMES = rf"""names() {{ env | sed -nE 's/^(({SCHEDULERS})_[A-Za-z0-9_]+)=.*/\1/p'; }}
"""
"""Shell: defines ``names``, which prints the names of those variables that are set."""

_FIND = """for python in python3 python; do
command -v "$python" >/dev/null 2>&1 && exec "$python" "$@"
done
echo "mlnb: the image has neither python3 nor python on its PATH; set the target's container.python to its path" >&2
exit 127
"""

# they hold paths of the host, which the image doesn't have
_HOST_PYTHON_VARIABLES = ("PYTHONHOME", "PYTHONPATH", "PYTHONUSERBASE", "VIRTUAL_ENV", "CONDA_PREFIX")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_KEYS = ("binds", "command", "engine", "gpu", "images", "options", "pull", "python")


@dataclass(frozen=True)
class Bind:
    """A folder of the host that is visible inside the image, at ``target`` (the same path if that is empty)."""

    source: str
    target: str = ""
    writable: bool = False

    @property
    def inside(self) -> str:
        """Its path inside the image."""
        return self.target or self.source


@dataclass(frozen=True)
class Wrapped:
    """A command that runs inside an image.

    Attributes
    ----------
    command
        what each node runs: by ``srun`` or another launcher, or by the job script itself.
    launcher
        options for ``srun``; only pyxis has any.
    before
        lines of shell that run before ``command``, in the shell that starts it.
    after
        lines of shell that remove what may be left of the container; they never fail, and do no harm if nothing is.
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
        more folders that are visible to every run: ``FOLDER[:FOLDER INSIDE][:ro or rw]``.
    command
        the engine's program, by name or path; empty for its usual name.
    engine
        name of the engine; empty for the first that is installed and accepts the image.
    gpu
        ``nvidia``, ``amd``, or ``none`` if the engine needs no option for GPUs.
    images
        patterns (``*``, ``?``) of the images that are allowed; empty allows all.
    options
        more options of the engine, passed on unchanged.
    pull
        ``never`` or ``missing``: whether podman and docker may pull an image that the node doesn't have.
    python
        path or name of the image's Python; empty for ``python3``, else ``python``, on its PATH.
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
            if a key is unknown, or a value is not allowed.
        """
        for key in given:
            if key not in _KEYS:
                raise UsageError(f"container.{key}: unknown setting. Available: {', '.join(_KEYS)}.")
        texts = {key: _text(key, given[key]) for key in ("command", "engine", "gpu", "pull", "python") if key in given}
        lists = {key: _list(key, given[key]) for key in ("binds", "images", "options") if key in given}
        for key, allowed in (("gpu", ("nvidia", "amd", "none")), ("pull", ("never", "missing"))):
            if texts.get(key, allowed[0]) not in allowed:
                raise UsageError(f"container.{key} {texts[key]!r}: allowed are {', '.join(allowed)}")
        return cls(**texts, **lists)  # type: ignore[arg-type]


class Engine(ABC):
    """One container engine with one image. A subclass has a :attr:`name`, a :attr:`program` and :meth:`wrap`."""

    name: ClassVar[str]
    """Its name in ``container.engine``."""
    program: ClassVar[str]
    """The name of its executable on the PATH."""
    targets: ClassVar[frozenset[str] | None] = None
    """The kinds of targets that it works with, as ``slurm``; ``None`` for all."""
    forbidden: ClassVar[str] = ":"
    """Characters that paths of binds can't contain, since they have a meaning in the engine's options."""
    variables: ClassVar[tuple[str, ...]] = ()
    """Patterns (``*``) of the variables that configure the engine itself; it gets them on the session's machine."""

    def __init__(self, image: str, settings: Settings) -> None:
        self.image, self.settings = image, settings
        self.command = settings.command or self.program

    @classmethod
    def accepts(cls, image: str) -> bool:  # noqa: ARG003 - for subclasses
        """Whether an image named like this is one for this engine, if no setting names an engine. By default: no."""
        return False

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
        """The same command, run inside the image.

        Parameters
        ----------
        command
            program and arguments; paths are those inside the image. :meth:`python` finds its Python.
        binds
            folders of the host, each after those that contain it.
        env
            variables and their values, which appear on the command line: no secrets.
        pass_env
            names of variables whose values come from the environment.
        gpus
            number of GPUs on each node.
        workdir
            the working directory: in one of ``binds``, or a folder of the image.
        name
            unique to the run; letters, digits, ``.``, ``_`` and ``-``.
        memory
            bytes on each node, for engines whose containers the batch system's limit does not cover.

        Raises
        ------
        UsageError
            for a path or a name that can't be given to the engine.
        """

    def python(self) -> list[str]:
        """The beginning of a command that runs the image's Python: its arguments follow."""
        return [self.settings.python] if self.settings.python else ["sh", "-c", _FIND, "mlnb"]

    def is_installed(self) -> bool:
        """Whether the engine is installed on this machine."""
        return shutil.which(self.command) is not None

    def identity(self) -> str | None:
        """A text that changes when the image does; ``None`` if this machine doesn't have the image."""
        path = Path(self.image)
        if not path.is_absolute() or not path.exists():
            return None
        stat = path.stat()
        return f"{stat.st_dev:x}.{stat.st_ino:x}.{stat.st_mtime_ns:x}.{stat.st_size:x}"

    def missing(self) -> str:
        """Why this machine can't run the image; empty if it can, or if the engine would fetch it."""
        path = Path(self.image)
        return "there is no such file or folder" if path.is_absolute() and not path.exists() else ""

    def check_arguments(self, binds: Sequence[Bind], pass_env: Sequence[str], workdir: str) -> None:
        """Check what :meth:`wrap` was given.

        Raises
        ------
        UsageError
            for a path that is relative or has a forbidden character, and for a name that no variable can have.
        """
        for path in [path for bind in binds for path in (bind.source, bind.inside)] + [workdir] * bool(workdir):
            wrong = next((c for c in path if c in self.forbidden or not c.isprintable()), "")
            if wrong:
                raise UsageError(
                    f"{path!r}: {self.name} can't make a folder visible whose path contains {wrong!r}; "
                    "use another folder (MLNB_RUNS sets the folder of runs)"
                )
            if not path.startswith("/"):
                raise UsageError(f"{path!r}: a folder must have an absolute path to be visible in an image")
        for name in pass_env:
            variable(name)


def with_environment(command: Sequence[str], env: Mapping[str, str] | None) -> list[str]:
    """``command`` with the variables of ``env``, which override those of the image and the host (by ``env(1)``).

    The host's variables for Python are removed, and packages in the home folder, which some engines mount, are ignored.

    Raises
    ------
    UsageError
        for a name that no variable can have, or a value with a zero byte.
    """
    values = {"PYTHONNOUSERSITE": "1", **(env or {})}
    for name, value in values.items():
        variable(name)
        if "\0" in value:
            raise UsageError(f"--env {name}: no variable can hold a zero byte")
    unset = [argument for name in _HOST_PYTHON_VARIABLES if name not in values for argument in ("-u", name)]
    return ["env", *unset, *(f"{name}={value}" for name, value in values.items()), *command]


def variable(name: str) -> str:
    """Check the name of a variable; returns it.

    Raises
    ------
    UsageError
        if no variable can have it.
    """
    if not _VARIABLE.fullmatch(name):
        raise UsageError(f"--env {name!r}: letters, digits and '_' are allowed, no digit first")
    return name


def _text(key: str, value: Any) -> str:
    if not isinstance(value, str) or not value or not value.isprintable():
        raise UsageError(f"container.{key} {value!r}: it must be one line of text, not empty")
    return value


def _list(key: str, value: Any) -> tuple[str, ...]:
    if not isinstance(value, (list, tuple)) or not all(isinstance(word, str) and word.isprintable() for word in value):
        raise UsageError(f"container.{key} {value!r}: it must be a list of texts")
    return tuple(value)
