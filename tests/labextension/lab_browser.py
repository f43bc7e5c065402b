"""A JupyterLab on a free loopback port and a headless Chromium that looks at it."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, ConsoleMessage, Page, sync_playwright

CHROMIUM = Path("/usr/bin/chromium")
MIME_TYPE = "application/vnd.mlnb.run+json"
START_SECONDS = 120


@dataclass
class Lab:
    """A running JupyterLab."""

    root: Path
    url: str
    token: str

    def get(self, path: str) -> Any:
        request = urllib.request.Request(f"{self.url}/{path}", headers={"Authorization": f"token {self.token}"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return json.load(answer)

    def write(self, name: str, *cells: dict[str, Any], kernel: str = "python3") -> str:
        notebook = {
            "cells": list(cells),
            "metadata": {"kernelspec": {"name": kernel, "display_name": kernel, "language": "python"}},
            "nbformat": 4,
            "nbformat_minor": 5,
        }
        (self.root / name).write_text(json.dumps(notebook))
        return name


def cell(source: str, *bundles: dict[str, Any]) -> dict[str, Any]:
    """A code cell, with the outputs it was saved with."""
    outputs = [{"output_type": "display_data", "metadata": {}, "data": bundle} for bundle in bundles]
    return {
        "cell_type": "code",
        "id": secrets.token_hex(4),
        "execution_count": None,
        "metadata": {},
        "source": source,
        "outputs": outputs,
    }


@contextlib.contextmanager
def running_lab(folder: Path, **more: str) -> Iterator[Lab]:
    """Start JupyterLab with nothing of the user's own settings, and ``more`` options; stop it at the end."""
    root = folder / "notebooks"
    config = folder / "config"
    (config / "labconfig").mkdir(parents=True)
    root.mkdir()
    # Announcements would ask for the network and put a question over the page; the debugger complains in the
    # console whenever a kernel ends that it was talking to.
    unwanted = ("@jupyterlab/apputils-extension:announcements", "@jupyterlab/debugger-extension")
    disabled = {"disabledExtensions": dict.fromkeys(unwanted, True)}
    (config / "labconfig" / "page_config.json").write_text(json.dumps(disabled))
    environment = {
        **os.environ,
        "JUPYTER_CONFIG_DIR": str(config),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "JUPYTERLAB_SETTINGS_DIR": str(folder / "settings"),
        "JUPYTERLAB_WORKSPACES_DIR": str(folder / "workspaces"),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    lab = Lab(root, f"http://127.0.0.1:{_free_port()}", secrets.token_hex(16))
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": lab.url.rpartition(":")[2],
        "ServerApp.port_retries": "0",
        "ServerApp.root_dir": str(root),
        "ServerApp.allow_root": "True",
        "ServerApp.open_browser": "False",
        "IdentityProvider.token": lab.token,
        "LabApp.expose_app_in_browser": "True",
        **more,
    }
    command = [sys.executable, "-m", "jupyterlab", *(f"--{name}={value}" for name, value in options.items())]
    with (
        (folder / "lab.log").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as server,
    ):
        try:
            _wait_until_up(lab, server, folder / "lab.log")
            yield lab
        finally:
            server.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                server.wait(timeout=15)
            server.kill()


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _wait_until_up(lab: Lab, server: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        with contextlib.suppress(OSError):
            lab.get("api/status")
            return
        time.sleep(0.2)
    msg = f"JupyterLab did not start:\n{log.read_text()[-4000:]}"
    raise RuntimeError(msg)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=str(CHROMIUM), args=["--no-sandbox"])
        try:
            yield browser
        finally:
            browser.close()


SUBSHELL_OF_A_KERNEL_GONE = "Canceled future for create_subshell_request"
"""JupyterLab asks for a subshell for each widget, and handles no answer when the kernel goes before it came."""


@dataclass
class LabPage:
    """One browser tab with JupyterLab, and what it complained of."""

    lab: Lab
    page: Page
    errors: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", self._on_console)
        self.page.on("pageerror", lambda error: self._complain(str(error)))

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._complain(f"{message.text} ({message.location.get('url', '')})")

    def _complain(self, error: str) -> None:
        if SUBSHELL_OF_A_KERNEL_GONE not in error:
            self.errors.append(error)

    def open(self, notebook: str) -> None:
        """Open a notebook alone in the window."""
        self.page.goto(f"{self.lab.url}/doc/tree/{notebook}?token={self.lab.token}&reset")
        self.page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=START_SECONDS * 1000)

    def show(self, notebook: str) -> None:
        """Show a notebook alone in the JupyterLab that is open here; loading that takes seconds, a notebook little."""
        if not self.page.url.startswith(self.lab.url):
            self.open(notebook)
            return
        self.page.evaluate(SHOW, notebook)
        self.page.wait_for_selector(".jp-NotebookPanel .jp-Cell")

    def decline_kernel(self) -> None:
        """Answer the question for a kernel, asked for a notebook of an unknown one, with "No Kernel"."""
        self.page.locator(".jp-Dialog button.jp-mod-reject").click()
        self.page.wait_for_selector(".jp-Dialog", state="detached")

    def command(self, name: str, **arguments: object) -> None:
        self.page.evaluate("([name, args]) => void window.jupyterapp.commands.execute(name, args)", [name, arguments])

    def run_all(self) -> None:
        """Run all cells, once the kernel is there; earlier JupyterLab would ask which kernel to take."""
        self.page.evaluate("() => window.jupyterapp.shell.currentWidget.sessionContext.ready")
        self.command("notebook:run-all-cells")

    def ink(self, selector: str = ".mlnb-plot canvas") -> int:
        """How many pixels of the first chart have the colour of its line."""
        count: int = self.page.evaluate(INK, selector)
        return count


SHOW = """async notebook => {
  const { commands, shell } = window.jupyterapp;
  for (const shown of [...shell.widgets('main')]) {
    shown.dispose();
  }
  await commands.execute('docmanager:open', { path: notebook });
}"""

INK = """selector => {
  const canvas = document.querySelector(selector);
  const probe = document.createElement('canvas').getContext('2d');
  probe.fillStyle = getComputedStyle(canvas.closest('.mlnb-run')).getPropertyValue('--mlnb-line');
  probe.fillRect(0, 0, 1, 1);
  const line = probe.getImageData(0, 0, 1, 1).data;
  const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
  let count = 0;
  for (let i = 0; i < data.length; i += 4) {
    const near = [0, 1, 2].every(c => Math.abs(data[i + c] - line[c]) < 24);
    count += near && data[i + 3] > 128 ? 1 : 0;
  }
  return count;
}"""
