"""The WebSocket handler ``/mlnb/runs/ID/stream``: streams a run to a view until it ends.

Text messages are JSON: ``{"type": "summary", "run": …, "names": […]}``, and at the end ``{"type": "end"}``. Binary ones
are frames of points (:mod:`mlnb.api.read.wire`), the first of each metric with all its points. Nothing is sent if
nothing is new.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from typing import Any

from jupyter_server.auth.decorator import ws_authenticated
from jupyter_server.base.handlers import JupyterHandler
from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.utils import ensure_async
from tornado import web
from tornado.websocket import WebSocketClosedError, WebSocketHandler

from mlnb.api.read.cursor import SeriesCursor
from mlnb.api.read.wire import PIXELS, message
from mlnb.errors import NoSuchRun
from mlnb.server.manager import Manager
from mlnb.server.poller import Snapshot

INTERVAL = 0.1
"""Seconds between two messages to one view, at least."""


class StreamHandler(WebSocketMixin, WebSocketHandler, JupyterHandler):
    """One view's connection."""

    auth_resource = "mlnb"

    def initialize(self, manager: Manager) -> None:
        """Tornado calls this with the keyword arguments of the route."""
        self.manager = manager
        self._newest: asyncio.Queue[Snapshot] = asyncio.Queue()
        self._sender: asyncio.Task[None] | None = None

    def get_compression_options(self) -> dict[str, Any]:
        """Curves compress well."""
        return {}

    @ws_authenticated
    async def get(self, run_id: str) -> None:
        """Accept a view that may read, if there is such a run."""
        if not await ensure_async(self.authorizer.is_authorized(self, self.current_user, "read", "mlnb")):
            raise web.HTTPError(403)
        try:
            self.run = await asyncio.to_thread(self.manager.find, run_id)
        except NoSuchRun as error:
            raise web.HTTPError(404, str(error), reason="No such run") from None
        await super().get(run_id)

    def open(self, run_id: str) -> None:
        """Start to follow the run."""
        super().open(run_id)
        loop, queue = asyncio.get_running_loop(), self._newest

        def receive(snapshot: Snapshot) -> None:
            with contextlib.suppress(RuntimeError):  # the server is shutting down
                loop.call_soon_threadsafe(queue.put_nowait, snapshot)

        self._subscriber = receive
        self._sender = asyncio.create_task(self._send())
        self.manager.poller.subscribe(self.run, self._subscriber)

    async def _send(self) -> None:
        cursor, sent_number = SeriesCursor(PIXELS), 0
        try:
            while True:
                newest = await self._newest.get()
                while not self._newest.empty():  # a slow view gets only the newest of those that it has missed
                    newest = self._newest.get_nowait()
                updates = await asyncio.to_thread(cursor.new, newest.series)
                if newest.number != sent_number:
                    sent_number = newest.number
                    content = {"type": "summary", "run": newest.summary, "names": list(newest.series)}
                    await self.write_message(json.dumps(content))
                if updates:
                    await self.write_message(message(updates), binary=True)
                if newest.ended:
                    await self.write_message(json.dumps({"type": "end"}))
                    self.close(1000, "the run has ended")
                    return
                await asyncio.sleep(INTERVAL)
        except WebSocketClosedError:
            return
        except Exception:  # the view connects again, and gets everything again
            logging.getLogger("mlnb").exception("the stream of run %s failed", self.run.id)
            self.close(1011, "internal error")

    def on_message(self, message: str | bytes) -> None:
        """Ignored: views send nothing."""

    def on_close(self) -> None:
        """Stop following the run."""
        super().on_close()
        if self._sender is not None:
            self._sender.cancel()
            self.manager.poller.unsubscribe(self.run.id, self._subscriber)
