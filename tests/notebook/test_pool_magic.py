"""``%pool``: what is refused, in one line, and what is shown where there is none. Real pools: tests/clusters/slurm."""

from __future__ import annotations

import pytest

from mlnb.api.pools import POOL_OPTIONS
from tests.notebook.kernels import Kernel


def test_without_a_pool_it_says_how_to_start_one(nb: Kernel) -> None:
    cell = nb.ok("%pool")
    assert "No pools. Start one: %pool start --on slurm --gpus 1 --time 1h" in cell.text
    assert cell.displays[0]["text/html"].startswith("<p>No pools")


def test_the_help_lists_the_options_of_start(nb: Kernel) -> None:
    shown = nb.inspect("%pool")
    assert [option.flag for option in POOL_OPTIONS if option.flag not in shown] == []
    assert "--idle TIME" in shown


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("%pool start --on local", "--on local: a pool is an allocation of a batch system, as in --on slurm"),
        ("%pool start --idl 3m", "--idl: not an option; did you mean --idle?"),
        ("%pool start --idle soon", "--idle soon: --idle takes a time like 90s, 30m, 2h, 1h30m or 02:30:00"),
        ("%pool start --nodes 2", "--nodes: not an option"),
        ("%pool strat", "%pool strat: did you mean %pool start?"),
        ("%pool stop", "There is no pool. Start one with %pool start (mlnb pool start)."),
        ("%pool stop a b", "%pool stop a b: name one pool, or none if there is only one"),
        ("%%train --on pool\npass", "--on pool: There is no pool. Start one with %pool start (mlnb pool start)."),
        ("%%train --on pool:x\npass", "--on pool:x: No pool named x. Start one with %pool start (mlnb pool start)."),
    ],
)
def test_bad_use_is_one_line_that_helps(nb: Kernel, line: str, words: str) -> None:
    message = nb.run(line).message
    assert words in message
    assert "\n" not in message
