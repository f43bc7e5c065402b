"""Charliecloud: images are folders that hold a root file system, or SquashFS files.

``ch-run`` becomes the command itself, unprivileged, in the job's cgroup and with the job's environment and ``/dev``:
signals, limits and GPUs are those of any other process. What NVIDIA's driver adds to an image is put there when the
image is made (``ch-fromhost --nvidia``). Source: ``ch-run(1)`` of 0.31.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlnb.errors import UsageError
from mlnb.targets.containers.base import Bind, Engine, Wrapped, inside

_USER = 'export USER="${USER:-$(id -un)}"'  # ch-run refuses to start without
_SHARED = ("/tmp", "/dev", "/proc", "/sys")  # noqa: S108 - ch-run always shows the host's


class Charliecloud(Engine):
    """``ch-run``."""

    name = "charliecloud"
    program = "ch-run"

    def wrap(
        self,
        command: Sequence[str],
        *,
        binds: Sequence[Bind] = (),
        env: Mapping[str, str] | None = None,
        pass_env: Sequence[str] = (),
        gpus: int = 0,  # noqa: ARG002 - its devices are the job's
        workdir: str = "",
        name: str = "mlnb",  # noqa: ARG002 - it is its command, nobody needs to find it
        memory: int | None = None,  # noqa: ARG002 - the job's limit holds
    ) -> Wrapped:
        """See :meth:`Engine.wrap`. Binds are writable where the host's folder is; there is no other way."""
        self.checked(binds, pass_env, workdir)
        words = [self.command]
        if any(_below(bind.inside, "/tmp") for bind in binds):  # noqa: S108
            words = ["env", "-u", "TMPDIR", *words]  # else the host's TMPDIR stands at /tmp
        words += [f"--bind={bind.source}:{bind.inside}" for bind in binds]
        words += self._mount_points(binds)
        words += [f"--cd={workdir}"] if workdir else []
        if Path(self.image, "ch", "environment").is_file():
            words.append("--set-env")  # ENV lines of the image's Dockerfile, often with the PATH to its Python
        words += [*self.settings.options, self.image, "--", *inside(command, env)]
        return Wrapped(words, before=[_USER])

    def _mount_points(self, binds: Sequence[Bind]) -> list[str]:
        """The option with which folders that the image has not can be shown in it.

        Raises
        ------
        UsageError
            if there is none.
        """
        image = Path(self.image)
        if not image.is_dir():
            return ["--write-fake"] if _write_fake(self.command) else []
        lacks = [
            bind.inside
            for bind in binds
            if not any(_below(bind.inside, place) for place in _SHARED)
            and not (image / bind.inside.lstrip("/")).is_dir()
        ]
        if not lacks:
            return []
        if _write_fake(self.command):
            return ["--write-fake"]
        if os.access(image, os.W_OK):
            return ["--write"]
        raise UsageError(
            f"--image {self.image}: it has no folder {lacks[0]} to show the host's in; this ch-run can't add one "
            "(newer ones can), and you may not write to the image: ask its owner for an empty folder there"
        )


def _below(path: str, parent: str) -> bool:
    return path == parent or path.startswith(f"{parent}/")


@functools.lru_cache(maxsize=8)
def _write_fake(command: str) -> bool:
    """Whether this ``ch-run`` can lay a writable file system in memory over an image."""
    try:
        done = subprocess.run(
            [command, "--help"],
            capture_output=True,
            text=True,
            timeout=10,
            check=False,
            env={"USER": "mlnb", **os.environ},
        )
    except (OSError, subprocess.TimeoutExpired):
        return False  # it is on the nodes only; then the image needs the folders
    return "--write-fake" in done.stdout
