"""What several nodes use is told second by second as what one would use."""

from __future__ import annotations

from typing import Any

from mlnb.api.read.usage import CARRY, UsageAggregator


def sample(t: float, cpu: float | None = 1.0, memory: int = 10, gpus: int = 0) -> dict[str, Any]:
    return {"t": t, "cpu": cpu, "memory": memory, "gpus": [{"gpu": str(n), "power": 100.0 * n} for n in range(gpus)]}


def test_one_node_is_told_as_it_is():
    one = sample(5.25)
    assert UsageAggregator(1).add(0, one) == [one]


def test_a_second_is_told_when_all_nodes_have_come_to_it():
    both = UsageAggregator(2)
    assert both.add(0, sample(100.2, 1.0, 10)) == []
    (told,) = both.add(1, sample(100.9, 2.0, 30))
    assert (told["t"], told["cpu"], told["memory"]) == (100.0, 3.0, 40)


def test_a_node_that_is_late_is_carried_for_a_while_and_then_left_out():
    both = UsageAggregator(2)
    both.add(0, sample(100, 1.0, 10))
    assert len(both.add(1, sample(100, 2.0, 30))) == 1
    told = [one for second in range(101, 115) for one in both.add(0, sample(second, 1.0, 10))]
    memory = {one["t"]: one["memory"] for one in told}
    assert all(memory[100 + late] == 40 for late in range(1, CARRY + 1))
    assert memory[100 + CARRY + 1] == 10


def test_a_node_that_comes_late_is_not_waited_for_for_ever():
    both = UsageAggregator(2)
    told = [one for second in range(100, 110) for one in both.add(0, sample(second))]
    assert [one["t"] for one in told] == [100.0 + n for n in range(len(told))]
    assert len(told) == 10 - CARRY - 1


def test_gpus_are_numbered_through_and_keep_their_numbers():
    both = UsageAggregator(2)
    both.add(0, sample(100, gpus=2))
    (told,) = both.add(1, sample(100, gpus=2))
    assert [(gpu["gpu"], gpu["power"]) for gpu in told["gpus"]] == [("0", 0), ("1", 100), ("2", 0), ("3", 100)]
    told = [one for second in range(101, 112) for one in both.add(1, sample(second, gpus=2))][-1]
    assert [gpu.get("power") for gpu in told["gpus"]] == [None, None, 0, 100]
    assert [gpu["gpu"] for gpu in told["gpus"]] == ["0", "1", "2", "3"]


def test_what_no_node_knows_is_unknown():
    both = UsageAggregator(2)
    both.add(0, sample(100, cpu=None))
    (told,) = both.add(1, sample(100, cpu=None))
    assert told["cpu"] is None
