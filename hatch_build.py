"""Builds the JavaScript that goes into the wheel: the JupyterLab extension and the widget's front end."""

from __future__ import annotations

import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BUILT = (
    "mlnb/labextension/package.json",
    "mlnb/labextension/install.json",
    "mlnb/static/widget.js",
    "mlnb/static/widget.css",
)


class JavaScriptBuildHook(BuildHookInterface):
    """In a git checkout always builds, since what is there may be stale; a source archive brings it along."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        root = Path(self.root)
        is_built = all((root / name).is_file() for name in BUILT)
        may_be_stale = (root / ".git").exists() and version != "editable"
        if not is_built or may_be_stale:
            self._build(root)

    def _build(self, root: Path) -> None:
        npm = shutil.which("npm")
        if npm is None:
            self.app.abort("building from source needs npm (Node.js 20 or newer); install it, or use a wheel")
        # Without build isolation, jupyter-builder may be beside a Python that is not on the path.
        path = os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", "")])
        commands = [["run", "build:prod"]]
        if not self._modules_are_current(root):
            commands.insert(0, ["ci"])
        for command in commands:
            done = subprocess.run([npm, *command], cwd=root, env={**os.environ, "PATH": path}, check=False)
            if done.returncode:
                self.app.abort(f"mlnb: `npm {' '.join(command)}` failed with exit status {done.returncode}")

    @staticmethod
    def _modules_are_current(root: Path) -> bool:
        # npm writes this file at the end of each installation.
        installed = root / "node_modules" / ".package-lock.json"
        return installed.is_file() and installed.stat().st_mtime >= (root / "package-lock.json").stat().st_mtime
