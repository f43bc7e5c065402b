"""One JupyterLab and one browser for a module of tests."""

import pytest

playwright = pytest.importorskip("playwright.sync_api")

from lab_browser import LabPage, chromium, running_lab  # noqa: E402


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    with running_lab(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture(scope="module")
def browser():
    with chromium() as running:
        yield running


@pytest.fixture
def tab(lab, browser):
    context = browser.new_context(viewport={"width": 1200, "height": 900})
    yield LabPage(lab, context.new_page())
    context.close()
