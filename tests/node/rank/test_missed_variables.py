"""What the user's code looks for in the environment, and only the session has, is noted."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest

from mlnb.node.rank import missed_variables


@pytest.fixture(autouse=True)
def _watched() -> Iterator[None]:
    kind = type(os.environ)
    missed_variables.watch(["MLNBTEST_FLAG", "MLNBTEST_OTHER"])
    yield
    os.environ.__class__ = kind


@pytest.mark.parametrize(
    "read",
    [
        "os.environ.get('MLNBTEST_FLAG')",
        "os.getenv('MLNBTEST_FLAG', 'x')",
        "'MLNBTEST_FLAG' in os.environ",
        "try: os.environ['MLNBTEST_FLAG']\nexcept KeyError: pass",
    ],
)
def test_ways_to_look(read: str):
    exec(compile(read, "<cell [1]>", "exec"), {"os": os, "__name__": "__main__"})
    (note,) = missed_variables.notes()
    assert "looked for MLNBTEST_FLAG, which the session has and the run has not: --env MLNBTEST_FLAG" in note


def test_what_is_set_or_unknown_or_read_by_a_library_is_not_noted(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MLNBTEST_OTHER", "set")
    code = "os.getenv('MLNBTEST_OTHER'), os.getenv('MLNBTEST_UNKNOWN')\nos.path.expandvars('$MLNBTEST_FLAG')"
    exec(compile(code, "<cell [1]>", "exec"), {"os": os, "__name__": "__main__"})
    exec(compile("os.getenv('MLNBTEST_FLAG')", json.__file__, "exec"), {"os": os, "__name__": "json"})
    assert not list(missed_variables.notes())
