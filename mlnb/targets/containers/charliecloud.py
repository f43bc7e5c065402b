"""Charliecloud: images are folders with a root file system, or SquashFS files.

``ch-run`` replaces itself by the command (exec), unprivileged, in the job's cgroup and with the job's environment and
``/dev``: signals, limits and GPUs work as for any other process. The libraries of NVIDIA's driver are put into an image
when it is made (``ch-fromhost --nvidia``). Source: ``ch-run(1)`` of 0.31.
"""

from __future__ import annotations

import functools
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

from mlnb.errors import UsageError
from mlnb.targets.containers.base import Bind, Engine, Wrapped, with_environment

_USER = 'export USER="${USER:-$(id -un)}"'  # ch-run refuses to start without
_SHARED = ("/tmp", "/dev", "/proc", "/sys")  # noqa: S108 - ch-run always mounts the host's


class Charliecloud(Engine):
    """``ch-run``."""

    name = "charliecloud"
    program = "ch-run"

    @classmethod
    def accepts(cls, image: str) -> bool:
        """Paths, unless they end like another engine's image files."""
        return image.endswith((".sqfs", ".squashfs")) or (
            image.startswith("/") and not image.endswith((".sif", ".img", ".sqsh"))
        )

    def wrap(
        self,
        command: Sequence[str],
        *,
        binds: Sequence[Bind] = (),
        env: Mapping[str, str] | None = None,
        pass_env: Sequence[str] = (),
        gpus: int = 0,  # noqa: ARG002 - the job's devices are visible
        workdir: str = "",
        name: str = "mlnb",  # noqa: ARG002 - it becomes the command, so it need not be found again
        memory: int | None = None,  # noqa: ARG002 - the job's limit holds
    ) -> Wrapped:
        """See :meth:`Engine.wrap`. All binds are writable if the host's folder is: ch-run has no option for it."""
        self.check_arguments(binds, pass_env, workdir)
        arguments = [self.command]
        if any(_below(bind.inside, "/tmp") for bind in binds):  # noqa: S108
            arguments = ["env", "-u", "TMPDIR", *arguments]  # otherwise ch-run mounts the host's TMPDIR at /tmp
        arguments += [f"--bind={bind.source}:{bind.inside}" for bind in binds]
        arguments += self._mount_points(binds)
        arguments += [f"--cd={workdir}"] if workdir else []
        if Path(self.image, "ch", "environment").is_file():
            arguments.append("--set-env")  # ENV of the image's Dockerfile: often the PATH of its Python
        arguments += [*self.settings.options, self.image, "--", *with_environment(command, env)]
        return Wrapped(arguments, before=[_USER])

    def _mount_points(self, binds: Sequence[Bind]) -> list[str]:
        """The option that lets ch-run mount folders at paths that the image doesn't have; none if it has them.

        Raises
        ------
        UsageError
            if this ch-run has no such option.
        """
        image = Path(self.image)
        if not image.is_dir():
            return ["--write-fake"] if _write_fake(self.command) else []
        lacks = [
            bind.inside
            for bind in binds
            if not any(_below(bind.inside, shared) for shared in _SHARED)
            and not (image / bind.inside.lstrip("/")).is_dir()
        ]
        if not lacks:
            return []
        if _write_fake(self.command):
            return ["--write-fake"]
        if os.access(image, os.W_OK):
            return ["--write"]
        raise UsageError(
            f"--image {self.image}: it has no folder {lacks[0]} to mount the host's at; this ch-run can't add one "
            "(newer ones can), and you may not write to the image: ask its owner for an empty folder there"
        )


def _below(path: str, parent: str) -> bool:
    return path == parent or path.startswith(f"{parent}/")


@functools.lru_cache(maxsize=8)
def _write_fake(command: str) -> bool:
    """Whether this ``ch-run`` can overlay an image with a writable file system in memory."""
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
        return False  # only the nodes have it: then the image needs the folders
    return "--write-fake" in done.stdout
