"""A user's workspace: the folder of runs, the folder of sockets and locks, and the configuration.

Everything that submits, lists or reads runs gets a workspace, so that one process can serve several users. The
configuration is Dask's; mlnb reads two of its sections, ``jobqueue`` and its own::

    mlnb:
      runs: /scratch/{user}/mlnb     # where run directories go
      target: local                  # where runs go that name no target
      targets:
        local:
          kind: local
          warm: true                 # keep a fork server with torch imported
          max-time: 2h               # a limit: a run that asks for more is refused
"""

from __future__ import annotations

import getpass
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlnb.errors import UsageError
from mlnb.files import private_folder

RUNTIME_VARIABLE = "MLNB_RUNTIME"
"""The environment variable that sets the folder of sockets and locks."""

_SOCKET_LENGTH = 107 - len(".4194304")
"""Characters of a socket's path (unix(7)), to which a process may add its pid while it makes the socket."""

_SECTIONS = ("mlnb", "jobqueue")
"""The sections of Dask's configuration that mlnb reads."""


class ProcessConfig(Mapping[str, Any]):
    """The Dask configuration of this process, read again at each access: a later ``dask.config.set`` counts.

    Dask is imported at the first access, since that takes longer than what many commands do.
    """

    def __getitem__(self, key: str) -> Any:
        return self._now[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._now)

    def __len__(self) -> int:
        return len(self._now)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProcessConfig)

    def __hash__(self) -> int:
        return hash(ProcessConfig)

    @property
    def _now(self) -> Mapping[str, Any]:
        import dask.config

        return dask.config.config


@dataclass(frozen=True)
class Workspace:
    """Where one user's runs are, and how they are configured.

    Attributes
    ----------
    root
        the folder of all run directories; absolute. It need not exist.
    runtime
        the folder for sockets and locks on this machine; absolute. It need not exist. Processes that share cores and
        GPUs have to share it.
    config
        the Dask configuration, as a nested mapping. It is not shown, since values may be secrets.
    """

    root: Path
    runtime: Path
    config: Mapping[str, Any] = field(default_factory=dict, hash=False, repr=False)

    @classmethod
    def of_process(cls) -> Workspace:
        """The workspace of this process's user, by ``MLNB_RUNS``, ``MLNB_RUNTIME`` and Dask's configuration.

        Raises
        ------
        UsageError
            if ``MLNB_RUNS`` is not set, and the section that may name the folder is not a mapping.
        """
        config = ProcessConfig()
        runtime = os.environ.get(RUNTIME_VARIABLE)
        return cls(_root(config), Path(runtime).absolute() if runtime else _default_runtime(), config)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Workspace:
        """The inverse of :meth:`to_json`."""
        return cls(Path(values["root"]), Path(values["runtime"]), values["config"])

    def to_json(self) -> dict[str, Any]:
        """The workspace for another process on this machine, with those parts of the configuration that mlnb reads.

        Values of the configuration are those of YAML, of which JSON lacks some (dates).
        """
        config = {name: self.config[name] for name in _SECTIONS if name in self.config}
        return {"root": str(self.root), "runtime": str(self.runtime), "config": config}

    @property
    def settings(self) -> Mapping[str, Any]:
        """The ``mlnb:`` section of the configuration; empty if there is none.

        Raises
        ------
        UsageError
            if it is not a mapping.
        """
        return _settings(self.config)

    @property
    def targets(self) -> Mapping[str, Mapping[str, Any]]:
        """The settings of the configured targets, by name.

        Raises
        ------
        UsageError
            if they are not mappings.
        """
        targets = self.settings.get("targets") or {}
        if not isinstance(targets, Mapping):
            raise UsageError(f"targets: {targets!r} of the mlnb: section in Dask's configuration must be a mapping")
        for name, settings in targets.items():
            if not isinstance(settings or {}, Mapping):
                raise UsageError(
                    f"targets: {name}: {settings!r} of the mlnb: section in Dask's configuration must be a mapping"
                )
        return {str(name): settings or {} for name, settings in targets.items()}

    def variables(self) -> dict[str, str]:
        """Environment variables by which mlnb finds this workspace in another process, such as a run.

        They can't name a configuration that is not this process's own; :meth:`to_json` can.
        """
        named = {"MLNB_RUNS": str(self.root), RUNTIME_VARIABLE: str(self.runtime)}
        if isinstance(self.config, ProcessConfig) and "DASK_CONFIG" in os.environ:
            named["DASK_CONFIG"] = os.environ["DASK_CONFIG"]
        return named

    def runtime_dir(self) -> Path:
        """The folder :attr:`runtime`, made with mode 0700 if it is missing.

        Raises
        ------
        UsageError
            if it is not a folder, belongs to another user, or others can read it.
        StorageError
            if it can't be made.
        """
        return private_folder(self.runtime, RUNTIME_VARIABLE)

    def socket_path(self, name: str) -> Path:
        """The path of the Unix socket called ``name``.

        Raises
        ------
        UsageError
            if it is longer than paths of sockets may be, or for the reasons of :meth:`runtime_dir`.
        StorageError
            if the folder can't be made.
        """
        path = self.runtime_dir() / name
        length = len(os.fsencode(path))
        if length > _SOCKET_LENGTH:
            raise UsageError(
                f"MLNB_RUNTIME={path.parent}: a socket's path would have {length} characters and may have "
                f"{_SOCKET_LENGTH}: choose a folder whose path is {length - _SOCKET_LENGTH} shorter"
            )
        return path


def _settings(config: Mapping[str, Any]) -> Mapping[str, Any]:
    section = config.get("mlnb", {})
    if not isinstance(section, Mapping):
        raise UsageError(f"mlnb: in Dask's configuration is {section!r}; it must be a mapping (see docs/design.md)")
    return section


def _root(config: Mapping[str, Any]) -> Path:
    """The folder of runs: ``MLNB_RUNS``, else the configured one, else one among the user's data."""
    chosen = os.environ.get("MLNB_RUNS") or _settings(config).get("runs")
    if chosen:
        return Path(str(chosen).replace("{user}", getpass.getuser())).expanduser().absolute()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "mlnb" / "runs"
    data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(data) / "mlnb" / "runs"


def _default_runtime() -> Path:
    """A folder in /tmp.

    Runs and pools outlive the login, so it is not ``XDG_RUNTIME_DIR``, which ends with it. All sessions share the
    machine's cores and GPUs, so it is not in ``TMPDIR``, which may be each session's own.
    """
    return Path(f"/tmp/mlnb-{os.getuid()}")  # noqa: S108
