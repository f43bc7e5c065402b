"""What the tests of running programs share."""

from __future__ import annotations

from collections.abc import Iterator

import dask.config
import pytest


@pytest.fixture
def short_grace() -> Iterator[None]:
    """Ranks that don't end when told to are killed after a second, so that tests need not wait for ten."""
    with dask.config.set({"mlnb.targets.local.grace": 1.0}):
        yield
