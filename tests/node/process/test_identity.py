"""A process is identified whatever it is called."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from mlnb.node.machine.telemetry import group_usage, proportional_memory
from mlnb.node.process.identity import is_alive, process_identity
from tests.waiting import until

_NAMED = """
import time
open("/proc/self/comm", "wb").write(b"gr\\xc3) 1 2 \\xff")
ballast = bytearray(b"x" * 10_000_000)
print("on", flush=True)
time.sleep(1000)
"""


@pytest.fixture
def named() -> Iterator[int]:
    """A process in a group of its own, whose name is not UTF-8: the kernel cuts names after 15 bytes."""
    program = subprocess.Popen([sys.executable, "-c", _NAMED], stdout=subprocess.PIPE, start_new_session=True)
    assert program.stdout is not None
    assert program.stdout.readline() == b"on\n"
    yield program.pid
    program.kill()
    program.wait()
    program.stdout.close()


def test_a_process_whose_name_is_not_utf_8_is_identified(named: int):
    identity = process_identity(named)
    assert identity is not None
    assert is_alive(named, identity)
    os.kill(named, signal.SIGKILL)
    assert until(lambda: not is_alive(named, identity))


def test_what_it_uses_is_counted(named: int):
    assert group_usage({named}).memory > 10_000_000
    assert proportional_memory({named}) > 10_000_000
