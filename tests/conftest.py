"""What all tests share: a runs' root for each test, one fork server for the session, and no settings of the user."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from mlnb.api import Run, runs
from mlnb.api.submit.submit import submit
from mlnb.targets import warm
from mlnb.targets.registry import target
from mlnb.task import Resources, Task
from mlnb.workspace import Workspace
from tests.isolation import isolate
from tests.left_running import end_runs_left

isolate()  # Dask reads its configuration when it is imported, which the above does not

# a loaded machine is slow, which says nothing about what is tested
settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
# the same examples each time, so that a change fails for what it changed; HYPOTHESIS_PROFILE=explore looks for new ones
settings.register_profile("mlnb", settings.get_profile("explore"), derandomize=True)
settings.register_profile("noshrink", settings.get_profile("mlnb"), phases=[Phase.generate], report_multiple_bugs=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "mlnb"))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put files with slow tests first: workers take whole files in this order, and all wait for one begun last."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


@contextmanager
def short_folder() -> Iterator[Path]:
    """A folder of a short path, for sockets: that of a Unix socket has 107 characters at most (unix(7))."""
    folder = Path(tempfile.mkdtemp(prefix="mlnb-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session", autouse=True)
def runtime() -> Iterator[Path]:
    """Sockets and locks of this test session."""
    with short_folder() as folder:
        os.environ["MLNB_RUNTIME"] = str(folder)
        yield folder
        warm.stop(Workspace.of_process())


@pytest.fixture(scope="module", autouse=True)
def no_run_left(runtime: Path) -> Iterator[None]:
    """No run of this file's tests goes on after them: later tests would wait for its cores, and fail in its place."""
    yield
    left = end_runs_left(runtime)
    assert not left, f"the tests of this file left runs: {', '.join(left)}"


@pytest.fixture(autouse=True)
def runs_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The runs' root of this test."""
    root = tmp_path / "runs"
    monkeypatch.setenv("MLNB_RUNS", str(root))
    return root


Start = Callable[..., Run]


@pytest.fixture
def start() -> Iterator[Start]:
    """Submit a script to the local target; what still runs at the test's end is cancelled."""
    started: list[Run] = []

    def submitted(script: str, *, name: str = "test", ranks: int = 1, seed: int | None = 0, **more: object) -> Run:
        env = more.pop("env", {})
        requested = {key: more.pop(key) for key in ("cpus", "memory", "time") if key in more}
        local = target()
        offer = local.offer(Resources(ranks=ranks, **requested))  # type: ignore[arg-type]
        task = Task(script=script, seed=seed, **more)  # type: ignore[arg-type]
        run = runs.add(Run(submit(task, {}, local, offer, name=name, env=env)))  # type: ignore[arg-type]
        started.append(run)
        return run

    yield submitted
    for run in started:
        run.cancel()
