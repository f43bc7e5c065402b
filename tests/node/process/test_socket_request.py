"""Requests over Unix sockets go to processes of the same user only."""

from __future__ import annotations

import socket
import threading
from pathlib import Path

import pytest

from mlnb.node.process import socket_request
from mlnb.targets import warm
from tests.conftest import short_folder


def test_a_request_is_answered_by_a_process_of_the_same_user_only(monkeypatch: pytest.MonkeyPatch):
    received = []
    with short_folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "socket"
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            for _ in range(2):
                client, _ = listener.accept()
                with client:
                    received.append(client.recv(1000))
                    client.sendall(b'{"answer": 1}\n') if received[-1] else None

        thread = threading.Thread(target=serve)
        thread.start()
        assert socket_request.send_request(path, {"ask": 1}, 5.0) == {"answer": 1}
        monkeypatch.setattr(socket_request.os, "getuid", lambda: 12345)  # then the listener is another user's
        with pytest.raises(PermissionError, match="a process of another user listens"):
            socket_request.send_request(path, {"secret": 1}, 5.0)
        thread.join()
    assert received == [b'{"ask": 1}\n', b""]


def test_the_values_of_env_go_to_no_fork_server_of_another_user(monkeypatch: pytest.MonkeyPatch):
    with short_folder() as folder, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{folder}/socket")
        listener.listen()
        monkeypatch.setattr(socket_request.os, "getuid", lambda: 12345)
        assert warm._connect(Path(folder) / "socket", patience=0.1) is None
