"""A target of another distribution, that of docs/contributing/add-a-target-without-shared-files.md, at work."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import dask.config
import pytest

from mlnb.api import Run
from mlnb.api.submit.submit import submit
from mlnb.errors import NotTrusted
from mlnb.targets.registry import target
from mlnb.task import Resources, Task
from tests.targets.distributions import installed, write_distribution
from tests.waiting import until

PAGE = Path(__file__).parents[3] / "docs" / "contributing" / "add-a-target-without-shared-files.md"


@pytest.fixture
def studio(tmp_path: Path) -> Iterator[Path]:
    """Where the runs' directories are on the other machine, which is this one behind a shell."""
    text = PAGE.read_text()
    (module,) = re.findall(r"```python\n(.*?)```", text, re.S)
    (point,) = re.findall(r'entry-points."mlnb.targets"\]\n(\w+) = "(.*?)"\n', text)
    write_distribution(tmp_path / "site", "mlnb-studio", {"mlnb_studio": module}, {"mlnb.targets": dict([point])})
    root = tmp_path / "far away"
    root.mkdir()
    settings = {"kind": "studio", "shell": ["sh", "-c"], "root": str(root), "python": sys.executable}
    with installed(tmp_path / "site"), dask.config.set({"mlnb": {"targets": {"studio": settings}}}):
        yield root


def start(script: str, outputs: tuple[str, ...] = ()) -> Run:
    place = target("studio")
    offer = place.offer(Resources())
    env = {"SECRET": "it's a $secret\nof two lines", "PATH": os.environ["PATH"]}
    return Run(submit(Task(script=script, outputs=outputs, seed=0), {}, place, offer, name="far", env=env))


def test_a_run_goes_there_and_its_results_come_back(studio: Path):
    script = "import os, mlnb\nmlnb.log(x=1.0)\nprint(os.environ['SECRET'])\nanswer = [1, 2]"
    run = start(script, ("answer",)).wait(90)
    assert run.state == "succeeded", run.reason
    assert run.logs() == "it's a $secret\nof two lines\n"
    assert list(run.series()["x"].value) == [1.0]
    assert run.pull(bind=False)["answer"] == [1, 2]


def test_it_is_cancelled_there(studio: Path):
    run = start("import time\nprint('on', flush=True)\ntime.sleep(600)")
    until(lambda: run.logs() == "on\n")
    assert run.cancel().state == "cancelled"
    run.remove()
    assert list(studio.iterdir()) == []


def test_what_another_has_put_there_is_not_loaded(studio: Path):
    run = start("answer = 1", ("answer",)).wait(90)
    assert (studio / run.id / "outputs" / "manifest.json").exists()
    (studio / run.id / "outputs" / "session.pickle").write_bytes(b"owned")
    with pytest.raises(NotTrusted):
        run.pull(bind=False)
