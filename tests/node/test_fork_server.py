"""The fork server: its socket, and its queue, in which no run that has ended holds up another."""

from __future__ import annotations

import gc
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

from mlnb.node import fork_server
from mlnb.node.process.identity import process_identity
from mlnb.node.process.local_queue import LocalQueue
from tests.conftest import short_folder


def test_a_node_program_that_dies_while_waiting_leaves_the_queue(
    tmp_path: Path,
):
    """A client that did not wait for the answer knows no pid but the server's, which lives on."""
    queue, own = LocalQueue(tmp_path, cpus=2), process_identity(os.getpid()) or ""
    settings = {"folder": str(tmp_path), "cpus": 2, "gpus": 0, "cpus_total": 2, "gpus_total": []}
    with short_folder() as folder:
        listener = fork_server.listen(folder / "socket")
        assert listener is not None
        with listener, socket.socket(socket.AF_UNIX) as client:
            client.connect(f"{folder}/socket")
            client.sendall(json.dumps({"run": str(tmp_path / "gone"), "attempt": 1, "env": {}}).encode() + b"\n")
            client.close()
            pid = fork_server.fork_node_program(listener, {"env": {}, "queue": settings})  # no such run: it exits
    assert pid is not None
    queue.enqueue("next", 2, 0, os.getpid(), own)
    os.waitpid(pid, 0)
    assert queue.acquire("next") == ()


def test_of_two_that_listen_on_one_path_the_second_closes_its_socket():
    with short_folder() as folder:
        path = Path(folder) / "socket"
        path.with_name(f"socket.{os.getpid()}").touch()  # left by a process that had this pid and was killed
        first = fork_server.listen(path)
        assert first is not None
        with first:
            assert fork_server.listen(path) is None
            gc.collect()  # a socket that is still open would be a ResourceWarning, which is an error in tests
        assert [file.name for file in Path(folder).iterdir()] == ["socket"]


def test_a_run_is_no_installation(tmp_path: Path):
    """Runs change the working directory, which ``python -m`` has put on ``sys.path``: nothing is installed there."""
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(tmp_path)!r})\n"  # as with ``python -m``
        "from mlnb.node import fork_server\n"
        "imported = fork_server.import_all()\n"
        "Path('slots.json').touch()\n"
        "print(imported.have_changed(), fork_server.hardware.packages.cache_info().currsize)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "False 1\n"
