"""Runs calls that may wait in threads of their own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


async def in_own_thread(call: Callable[P, T], *arguments: P.args, **options: P.kwargs) -> T:
    """What ``call`` returns, from a thread that only this call uses.

    ``asyncio.to_thread`` has a few threads for the whole server. A few calls that wait, for a run to end or a scheduler
    to answer, would leave none for the others.
    """
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(result: T | None, error: BaseException | None) -> None:
        if future.done():  # nobody waits any more
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]

    def run() -> None:
        result, problem = None, None
        try:
            result = call(*arguments, **options)
        except BaseException as error:  # noqa: BLE001 - the caller gets it
            problem = error
        try:
            loop.call_soon_threadsafe(settle, result, problem)
        except RuntimeError:
            return  # the server has shut down

    threading.Thread(target=run, name="mlnb-request", daemon=True).start()
    return await future
