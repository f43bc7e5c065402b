"""The routes of the server extension and their handlers."""

from __future__ import annotations

from typing import Any

from jupyter_server.utils import url_path_join

from mlnb.server.manager import ID, Manager
from mlnb.server.runs import CancelHandler, OutputHandler, RunHandler, RunsHandler
from mlnb.server.stream import StreamHandler


def routes(base: str, manager: Manager) -> list[tuple[str, Any, dict[str, Any]]]:
    """All routes, under the server's base URL."""
    return [
        (
            url_path_join(base, "mlnb", "runs", path) if path else url_path_join(base, "mlnb", "runs"),
            handler,
            {"manager": manager},
        )
        for path, handler in (
            ("", RunsHandler),
            (f"({ID})", RunHandler),
            (f"({ID})/output", OutputHandler),
            (f"({ID})/cancel", CancelHandler),
            (f"({ID})/stream", StreamHandler),
        )
    ]
