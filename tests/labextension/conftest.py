"""One JupyterLab for these tests, and a browser for each module; their runs' root is the server's."""

import pytest

from mlnb.api import runs

playwright = pytest.importorskip("playwright.sync_api")

from lab_browser import LabPage, chromium, running_lab  # noqa: E402


@pytest.fixture(scope="session")
def lab_runs(tmp_path_factory):
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(scope="session")
def lab(tmp_path_factory, lab_runs):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLNB_RUNS", str(lab_runs))  # in the server's environment, before it starts
        with running_lab(tmp_path_factory.mktemp("lab")) as running:
            yield running


@pytest.fixture(scope="module")  # while it is open an event loop runs in this thread, which other tests must not have
def browser():
    with chromium() as running:
        yield running


@pytest.fixture(autouse=True)
def runs_root(lab_runs, monkeypatch):
    """Replaces the runs' root of each test's own; no run goes on after its test."""
    monkeypatch.setenv("MLNB_RUNS", str(lab_runs))
    yield lab_runs
    for run in runs.observed(10):
        run.cancel()


@pytest.fixture
def tab(lab, browser):
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(90_000)  # milliseconds
    yield LabPage(lab, context.new_page())
    context.close()


@pytest.fixture(scope="module")
def kept_tab(lab, browser):
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    context.set_default_timeout(90_000)
    yield LabPage(lab, context.new_page())
    context.close()


@pytest.fixture
def saved_tab(kept_tab):
    """One page for all tests that only look at what was saved."""
    kept_tab.errors.clear()
    return kept_tab
