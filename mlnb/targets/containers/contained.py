"""A run's node program in an image: which folders it sees, which variables it has."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any

from mlnb.errors import UsageError
from mlnb.rundir import RunDir, read_json
from mlnb.targets.containers.base import Bind, Engine, Wrapped
from mlnb.targets.containers.probe import differences, inspect
from mlnb.task import Resources

# what stands there is the image's own
_IMAGES_OWN = frozenset(
    {"bin", "boot", "dev", "etc", "lib", "lib32", "lib64", "opt", "proc", "run", "sbin", "sys", "usr"}
)


class Contained:
    """An engine with an image, as a batch job uses it."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @property
    def image(self) -> str:
        """As it was named."""
        return self.engine.image

    def differences(self) -> list[str]:
        """How the image differs from this session, a line each. Raises ``UsageError`` if no run could work in it."""
        session = {"python": platform.python_version(), "torch": metadata.version("torch")}
        return differences(self.image, session, inspect(self.engine))

    def wrap(self, program: Sequence[str], run: RunDir, resources: Resources, env: Mapping[str, str]) -> Wrapped:
        """``program``, which are the arguments of Python, inside of the image.

        Parameters
        ----------
        run
            its directory is seen at the same path, and so are the folder that the cell ran in and the site's ``binds``.
        env
            what was asked for: only the names are used.

        Raises
        ------
        UsageError
            for a path that can't be shown, or a batch system that this engine does not work with.
        """
        own = {"PYTHONPATH": str(run.node_zip), "MLNB_IMAGE": self.image}
        return self.engine.wrap(
            [*self.engine.python(), *program],
            binds=self._binds(run),
            env={name: value for name, value in own.items() if name not in env},
            pass_env=list(env),
            gpus=resources.gpus or 0,
            workdir=str(run.path),
            name=f"mlnb-{run.path.name}",
            memory=resources.memory,
        )

    def works_with(self, system: str) -> None:
        """Refuse a batch system (by its kind, like ``slurm``) that this engine is no part of. Raises ``UsageError``."""
        if self.engine.systems is not None and system not in self.engine.systems:
            raise UsageError(
                f"container.engine {self.engine.name}: it works with {', '.join(sorted(self.engine.systems))}, "
                f"not with {system}"
            )

    def _binds(self, run: RunDir) -> list[Bind]:
        about: Mapping[str, Any] = read_json(run.run) or {}
        binds = [_parse(text) for text in self.engine.settings.binds]
        cwd = str(about.get("cwd") or Path.cwd())
        parts = PurePath(cwd).parts
        if len(parts) > 1 and parts[1] not in _IMAGES_OWN:
            binds.append(Bind(cwd, writable=True))
        binds.append(Bind(str(run.path), writable=True))
        if Path(str(about.get("resume") or "")).is_absolute():  # checkpoints of another run
            binds.append(Bind(str(about["resume"])))
        seen = {bind.inside: bind for bind in binds}  # the later wins; what holds others comes before them
        return sorted(seen.values(), key=lambda bind: PurePath(bind.inside).parts)


def _parse(text: str) -> Bind:
    source, _, rest = text.partition(":")
    target, _, mode = rest.rpartition(":") if rest.endswith((":ro", ":rw")) else (rest, "", "rw")
    if rest in ("ro", "rw"):
        target, mode = "", rest
    if not source.startswith("/") or (target and not target.startswith("/")) or mode not in ("ro", "rw"):
        raise UsageError(f"container.binds {text!r}: it must read FOLDER[:FOLDER INSIDE][:ro or rw], from '/'")
    return Bind(source, target, mode == "rw")
