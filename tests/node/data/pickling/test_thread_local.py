"""What a thread has in an object of which each thread has its own travels with it."""

from __future__ import annotations

import threading

from tests.node.data.kinds.test_tensors import travel


class Own(threading.local):
    kind = "own"


def test_the_attributes_of_this_thread():
    for kind in (threading.local, Own):
        local = kind()
        local.x = [1]
        got, part = travel([local, local.x])
        assert type(got) is kind
        assert got.x is part
