"""Runs the node program inside an image: decides which folders are visible to it, and which variables it gets."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path, PurePath

from mlnb.errors import UsageError
from mlnb.rundir import RunDir
from mlnb.runinfo import RunInfo
from mlnb.targets.containers.base import Bind, Engine, Wrapped
from mlnb.targets.containers.probe import differences, inspect
from mlnb.task import Resources
from mlnb.workspace import Workspace

# top-level folders that the host's never replace
_IMAGE_FOLDERS = frozenset(
    {"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "opt", "proc", "run", "sbin", "sys", "usr"}
)


class Contained:
    """An engine with an image, as runs of a workspace use it."""

    def __init__(self, engine: Engine, workspace: Workspace) -> None:
        self.engine, self.workspace = engine, workspace

    @property
    def image(self) -> str:
        """The image, as it was requested."""
        return self.engine.image

    def differences(self) -> list[str]:
        """How the image differs from the session, a line each. Raises ``UsageError`` if it has no torch."""
        session = {"python": platform.python_version(), "torch": metadata.version("torch")}
        return differences(self.image, session, inspect(self.engine, self.workspace))

    def wrap(self, arguments: Sequence[str], run: RunDir, resources: Resources, env: Mapping[str, str]) -> Wrapped:
        """Run the image's Python with ``arguments``, inside the image.

        Parameters
        ----------
        run
            its directory is visible at the same path; so are the cell's working directory and the site's ``binds``.
        env
            the variables of ``--env``; only their names are used.

        Raises
        ------
        UsageError
            for a path that can't be made visible.
        """
        variables = {"PYTHONPATH": str(run.node_zip), "MLNB_IMAGE": self.image}
        return self.engine.wrap(
            [*self.engine.python(), *arguments],
            binds=self._binds(run),
            env={name: value for name, value in variables.items() if name not in env},
            pass_env=list(env),
            gpus=resources.gpus or 0,
            workdir=str(run.path),
            name=f"mlnb-{run.path.name}",
            memory=resources.memory,
        )

    def check_kind(self, kind: str) -> None:
        """Refuse a kind of target (like ``slurm``) that this engine does not work with. Raises ``UsageError``."""
        if self.engine.targets is not None and kind not in self.engine.targets:
            raise UsageError(
                f"container.engine {self.engine.name}: it works with {', '.join(sorted(self.engine.targets))}, "
                f"not with {kind}"
            )

    def check_here(self) -> None:
        """Refuse an engine or an image that this machine doesn't have. Raises ``UsageError``."""
        engine = self.engine
        if not engine.is_installed():
            raise UsageError(f"--image {self.image}: {engine.command} is not installed on this machine")
        if missing := engine.missing():
            raise UsageError(f"--image {self.image}: {missing}")

    def _binds(self, run: RunDir) -> list[Bind]:
        info = RunInfo.read(run)
        binds = [_parse(text) for text in self.engine.settings.binds]
        cwd = info.cwd or str(Path.cwd())
        parts = PurePath(cwd).parts
        if len(parts) > 1 and parts[1] not in _IMAGE_FOLDERS:
            binds.append(Bind(cwd, writable=True))
        binds.append(Bind(str(run.path), writable=True))
        if info.resume and Path(info.resume).is_absolute():  # checkpoints of another run
            binds.append(Bind(info.resume))
        by_path = {bind.inside: bind for bind in binds}  # if two have the same path, the later one counts
        return sorted(by_path.values(), key=lambda bind: PurePath(bind.inside).parts)


def _parse(text: str) -> Bind:
    source, _, rest = text.partition(":")
    target, _, mode = rest.rpartition(":") if rest.endswith((":ro", ":rw")) else (rest, "", "rw")
    if rest in ("ro", "rw"):
        target, mode = "", rest
    if not source.startswith("/") or (target and not target.startswith("/")) or mode not in ("ro", "rw"):
        raise UsageError(f"container.binds {text!r}: write FOLDER[:FOLDER INSIDE][:ro or rw] with absolute paths")
    return Bind(source, target, mode == "rw")
