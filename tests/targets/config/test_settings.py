"""What a site writes of its targets means what it says, or is refused in one line that says what to write."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
import pytest
import yaml

from mlnb.errors import UsageError
from mlnb.targets.base import Offer
from mlnb.targets.registry import target
from mlnb.task import Resources
from mlnb.workspace import Workspace
from tests.targets.conftest import Site


@contextmanager
def written(text: str) -> Iterator[None]:
    """The settings of a target, as a file has them."""
    settings = yaml.safe_load("\n".join(f"      {line}" for line in text.splitlines()))
    with dask.config.set({"mlnb": {"targets": {"course": settings}}}):
        yield


def offered(text: str, **asked: int) -> Offer:
    with written(text):
        return target("course").offer(Resources(**asked))  # type: ignore[arg-type]


def refusal(text: str, **asked: int) -> str:
    with pytest.raises(UsageError) as caught:
        offered(text, **asked)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("time", ["4h", '"4:00:00"', "'240m'", "0-04:00:00"])
def test_a_limit_of_time_is_what_it_says(time: str):
    text = f"kind: local\nmax-time: {time}"
    assert offered(text, time=4 * 3600).resources.time == 4 * 3600
    assert "allows" in refusal(text, time=4 * 3600 + 1)


@pytest.mark.parametrize("time", ["4:00:00", "240", "'240'", "1.5"])
def test_a_time_without_a_unit_is_refused_since_yaml_makes_a_number_of_a_clock(time: str):
    said = refusal(f"kind: local\nmax-time: {time}")
    assert said.startswith("max-time: ")
    assert said.endswith('has no unit; write 4h, or quote it, as in "4:00:00"')


def test_the_default_time_needs_a_unit_too(site: Site):
    assert "time: 5400 of the mlnb: section" in site.refusal(time=yaml.safe_load("1:30:00"))
    assert "-t 01:30:00" in site.job(time="1:30:00")[0]


def test_seconds_may_be_a_number():
    assert offered("kind: local\ngrace: 3").node.grace == 3.0
    assert offered("kind: local\ngrace: 1m").node.grace == 60.0
    assert refusal("kind: local\ngrace: -1").endswith("write more than 0 seconds")


@pytest.mark.parametrize(
    ("kind", "key", "nearest"),
    [
        ("local", "max-gpu", "max-gpus"),
        ("local", "worm", "warm"),
        ("slurm", "partitions", "partition"),
        ("slurm", "max_times", "max-time"),
        ("sge", "parallel-env", "parallel-environment"),
    ],
)
def test_a_setting_that_there_is_not_is_refused_with_the_nearest(kind: str, key: str, nearest: str):
    said = refusal(f"kind: {kind}\n{key}: 1")
    assert said.startswith(f"targets: course: {key.replace('_', '-')}: a {kind} target has no such setting")
    assert said.endswith(f"did you mean {nearest}?")


def test_a_setting_of_another_kind_is_none_of_this_one():
    assert "available: container, grace, image, kind, max-gpus" in refusal("kind: local\nqwerty: 1")
    assert "no such setting" in refusal("kind: slurm\nparallel-environment: smp")


def test_settings_are_written_with_either_dash(site: Site):
    text = "kind: local\nmax_time: 1h\nmax-nodes: 1"
    assert "allows 1h a run (max-time)" in refusal(text, time=7200)
    assert site.refusal("--time 2h", max_time="1h").endswith("allows 1h a run (max-time)")


def test_the_settings_of_the_docs_are_known():
    text = (Path(__file__).parents[3] / "docs" / "site-setup.md").read_text()
    example = yaml.safe_load(text.partition("```yaml\n")[2].partition("```")[0])
    with dask.config.set(example):
        assert set(Workspace.of_process().targets) == {"a100", "course"}
        for name in Workspace.of_process().targets:
            assert target(name).name == name
