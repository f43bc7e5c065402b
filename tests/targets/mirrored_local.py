"""A target for tests that shares no file system with the session: the local one, whose runs are in another folder.

With a fork server the job is given another folder than the session's. Without one, and as root, it runs in a mount
namespace of its own in which the session's runs are hidden, as they are on another machine.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mlnb.rundir import RunDir
from mlnb.targets.local import Local
from mlnb.targets.mirror.base import Mirror
from mlnb.targets.mirror.copying import CopyMirror
from mlnb.targets.mirror.folder import FolderTransport
from mlnb.workspace import Workspace

UNSHARE = shutil.which("unshare", path="/usr/bin:/bin")
CAN_HIDE = bool(UNSHARE) and subprocess.run([str(UNSHARE), "--mount", "true"], check=False).returncode == 0
"""Whether this process may make mount namespaces."""


def remote_root(workspace: Workspace | None = None) -> Path:
    """Where the jobs' run directories are, beside the session's."""
    return (workspace or Workspace.of_process()).root.with_name("remote-runs")


class MirroredLocal(Local):
    """The local target with the job's files elsewhere."""

    mirror: Mirror | None

    def __init__(self, name: str, settings: Mapping[str, Any], workspace: Workspace) -> None:
        super().__init__(name, settings, workspace)
        self.mirror = CopyMirror(FolderTransport(remote_root(workspace)), interval=0.05)

    def submit(self, run: RunDir, env: Mapping[str, str]) -> dict[str, Any]:
        """Start the job on the other folder; see :class:`Local`."""
        there = RunDir(remote_root(self.workspace) / run.path.name)
        there.attempt(max(1, len(run.attempts()))).path.mkdir(mode=0o700, parents=True, exist_ok=True)
        for _ in range(len(run.attempts()) - len(there.attempts())):
            there.attempt(len(there.attempts()) + 1).path.mkdir(mode=0o700)
        return super().submit(there, env)

    def _process(self, run: RunDir) -> tuple[int, str] | None:
        if self.mirror is not None:
            self.mirror.refresh([run])
        return super()._process(run)

    def _command(self, run: RunDir, attempt: int) -> list[str]:
        command = super()._command(run, attempt)
        if not CAN_HIDE:
            return command
        hide = f"mount -t tmpfs none {shlex.quote(str(self.workspace.root))}"
        return [str(UNSHARE), "--mount", "sh", "-c", f"{hide} && exec {shlex.join(command)}"]
