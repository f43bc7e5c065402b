"""The HTTP handlers below ``/mlnb/runs``: ``GET``, ``GET ID``, ``GET ID/output`` and ``POST ID/cancel``."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from tornado import web

from mlnb.errors import MlnbError, NoSuchRun
from mlnb.server.manager import Manager
from mlnb.server.threads import in_own_thread


class _Handler(APIHandler):
    auth_resource = "mlnb"

    def initialize(self, manager: Manager) -> None:
        """Tornado calls this with the keyword arguments of the route."""
        self.manager = manager

    async def answer(self, call: Callable[..., Any], *arguments: Any) -> None:
        """Call ``call`` in a thread, and send its result as JSON; or its error's message.

        The status of an error is 404 if there is no such run, else 409.
        """
        try:
            content = await in_own_thread(call, *arguments)
        except NoSuchRun as error:
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


class OutputHandler(_Handler):
    """One run as an output of a notebook, by MIME type."""

    @web.authenticated
    @authorized
    async def get(self, run_id: str) -> None:
        """See the class."""
        await self.answer(self.manager.output_of, run_id)


class CancelHandler(_Handler):
    """Ends a run; responds when it has ended."""

    @web.authenticated
    @authorized("execute")  # type: ignore[untyped-decorator]
    async def post(self, run_id: str) -> None:
        """See the class."""
        await self.answer(self.manager.cancel, run_id)
