"""One real Jupyter server for these tests, in a process of its own; its runs' root is that of all tests here."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

websocket = pytest.importorskip("websocket")
pytest.importorskip("jupyter_server")


@dataclass
class Server:
    """A running server."""

    url: str
    token: str
    runs: Path

    def ask(self, path: str, *, method: str = "GET", token: bool = True) -> tuple[int, Any]:
        """Status and JSON."""
        headers = {"Authorization": f"token {self.token}"} if token else {}
        data = b"{}" if method == "POST" else None
        request = urllib.request.Request(f"{self.url}/{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with contextlib.suppress(ValueError):
                return error.code, json.load(error)
            return error.code, None

    def stream(self, run_id: str, *, token: bool = True) -> Stream:
        """A view's connection."""
        query = f"?token={self.token}" if token else ""
        return Stream(websocket.create_connection(f"ws{self.url[4:]}/mlnb/runs/{run_id}/stream{query}", timeout=20))


class Stream:
    """What a view gets, put together as the view does; fails on a gap."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.summary: dict[str, Any] = {}
        self.points: dict[str, list[tuple[float, float]]] = {}
        self.totals: dict[str, int] = {}
        self.sizes: list[tuple[str, int]] = []
        self.ended = False

    def take(self) -> None:
        kind, data = self.socket.recv_data()
        if kind == websocket.ABNF.OPCODE_CLOSE:
            raise EOFError(data)
        self.sizes.append(("points" if kind == websocket.ABNF.OPCODE_BINARY else "text", len(data)))
        if kind == websocket.ABNF.OPCODE_TEXT:
            said = json.loads(data)
            self.ended |= said["type"] == "end"
            self.summary = said.get("run", self.summary)
            return
        while data:
            line, _, data = data.partition(b"\n")
            header = json.loads(line)
            count = header["count"]
            numbers = np.frombuffer(data[: 16 * count], dtype="<f8")
            data = data[16 * count :]
            points = self.points.setdefault(header["metric"], [])
            assert header["offset"] <= len(points), "a gap"
            points[header["offset"] :] = zip(numbers[:count].tolist(), numbers[count:].tolist(), strict=True)
            self.totals[header["metric"]] = header["total"]

    def until(self, true: Any, seconds: float = 30) -> None:
        end = time.monotonic() + seconds
        while not true(self):
            assert time.monotonic() < end, (self.summary, {name: len(one) for name, one in self.points.items()})
            self.take()

    def close(self) -> None:
        self.socket.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("server")
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    made = Server(f"http://127.0.0.1:{port}", secrets.token_hex(16), folder / "runs")
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "ServerApp.root_dir": folder,
        "ServerApp.allow_root": True,
        "ServerApp.open_browser": False,
        "IdentityProvider.token": made.token,
        "ServerApp.jpserver_extensions": "{'mlnb': True}",
    }
    names = ("CONFIG", "DATA", "RUNTIME")
    environment = {
        **os.environ,
        **{f"JUPYTER_{name}_DIR": str(folder / name) for name in names},
        "MLNB_RUNS": str(made.runs),
    }
    command = [sys.executable, "-m", "jupyter_server", *(f"--{name}={value}" for name, value in options.items())]
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as process,
    ):
        try:
            end = time.monotonic() + 60
            while time.monotonic() < end and process.poll() is None:
                with contextlib.suppress(OSError):
                    made.ask("api/status")
                    break
                time.sleep(0.1)
            yield made
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(15)
            process.kill()


@pytest.fixture(autouse=True)
def runs_root(server: Server, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MLNB_RUNS", str(server.runs))
    return server.runs
