"""The HTTP handlers: ``GET /mlnb/runs``, ``GET /mlnb/runs/ID``, ``POST /mlnb/runs/ID/cancel``."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from mlnb.errors import MlnbError, UsageError
from mlnb.server.manager import Manager


class _Handler(APIHandler):
    auth_resource = "mlnb"

    def initialize(self, manager: Manager) -> None:
        """Tornado calls this with the keyword arguments of the route."""
        self.manager = manager

    async def answer(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Call ``call`` in a thread, and send its result as JSON; or its error's message, with status 404 or 409."""
        try:
            content = await asyncio.to_thread(call, *arguments)
        except UsageError as error:
            self.set_status(404)
            content = {"message": str(error)}
        except MlnbError as error:
            self.set_status(409)
            content = {"message": str(error)}
        self.finish(json.dumps(content))


class RunsHandler(_Handler):
    """All runs, newest first; with ``?id=A&id=B`` those of them that exist."""

    @web.authenticated
    @authorized
    async def get(self) -> None:
        """See the class."""
        await self.answer(self.manager.list_runs, self.get_query_arguments("id") or None)


class RunHandler(_Handler):
    """One run."""

    @web.authenticated
    @authorized
    async def get(self, run_id: str) -> None:
        """See the class."""
        await self.answer(self.manager.summary_of, run_id)


class CancelHandler(_Handler):
    """Ends a run; responds when it has ended."""

    @web.authenticated
    @authorized("execute")  # type: ignore[untyped-decorator]
    async def post(self, run_id: str) -> None:
        """See the class."""
        await self.answer(self.manager.cancel, run_id)
