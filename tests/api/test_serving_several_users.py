"""The service of docs/contributing/serve-several-users.md: each user's runs are their own."""

from __future__ import annotations

import re
import types
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlnb.api import Runs
from mlnb.errors import UsageError
from tests.conftest import short_folder

PAGE = Path(__file__).parents[2] / "docs" / "contributing" / "serve-several-users.md"
CONFIG = {"mlnb": {"target": "here", "targets": {"here": {"kind": "local", "warm": False, "max-time": "1h"}}}}


@pytest.fixture
def service() -> types.ModuleType:
    (source,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M)
    module = types.ModuleType("service")
    exec(compile(source, str(PAGE), "exec"), module.__dict__)
    return module


@pytest.fixture
def folder() -> Iterator[Path]:
    with short_folder() as made:
        yield made


def test_each_user_has_runs_of_their_own(service: types.ModuleType, folder: Path):
    users = service.workspaces(["ada", "bob"], folder, CONFIG)
    script = "import mlnb, sys\nmlnb.log(lr=float(sys.argv[1]))"
    submitted = service.study(users["ada"], script, [0.1, 0.01])
    runs = Runs(users["ada"])
    assert {run.dir for run in runs} == {run.path for run in submitted}
    for run in runs:
        assert run.wait(90).state == "succeeded", run.logs()
        assert list(run.series()["lr"].value) == [run.task.params["lr"]]
    assert sorted(service.overview(users["ada"])) == [("lr-0.01", "here", "succeeded"), ("lr-0.1", "here", "succeeded")]
    assert service.overview(users["bob"]) == []
    with pytest.raises(UsageError, match="No run named"):
        Runs(users["bob"])["lr-0.1"]
