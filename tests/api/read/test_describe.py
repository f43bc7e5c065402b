"""How a run ended, as its reader would say it."""

from __future__ import annotations

import getpass

import pytest

from mlnb.api.read.describe import end_sentence, readable_reason, stopped_by


@pytest.mark.parametrize(
    ("state", "reason", "world_size", "sentence"),
    [
        (
            "failed",
            "rank 0 in cell [6], line 4: ValueError: no",
            1,
            "Run x failed in cell [6], line 4: ValueError: no.",
        ),
        (
            "failed",
            "rank 3 in cell [6], line 4: ValueError: no.",
            4,
            "Run x failed on rank 3 in cell [6], line 4: ValueError: no.",
        ),
        ("failed", "rank 0 was killed by SIGKILL", 1, "Run x failed: rank 0 was killed by SIGKILL."),
        ("failed", "", 1, "Run x failed."),
        ("cancelled", "stopped by you", 1, "Run x was cancelled: stopped by you."),
        ("lost", "its job vanished without a result", 1, "Run x is lost: its job vanished without a result."),
        ("running", "it has not ended yet", 1, "Run x is running: it has not ended yet."),
    ],
)
def test_an_end_is_one_sentence(state: str, reason: str, world_size: int, sentence: str):
    assert end_sentence("x", state, reason, world_size) == sentence


def test_who_reads_is_you():
    me = getpass.getuser()
    assert stopped_by(f"{me} on vm") == readable_reason(f"cancelled by {me} on vm") == "stopped by you"
    assert readable_reason("cancelled by somebody-else on vm") == "stopped by somebody-else on vm"
    assert readable_reason("rank 0 was cancelled by hand") == "rank 0 was cancelled by hand"
