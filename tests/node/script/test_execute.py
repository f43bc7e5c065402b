"""A cell may wait for something at top level, as in a notebook."""

from __future__ import annotations

from tests.conftest import Start


def test_await_at_top_level_of_a_cell(start: Start):
    run = start(
        "import asyncio\n"
        "async def double(x):\n    await asyncio.sleep(0)\n    return 2 * x\n"
        "task = asyncio.create_task(double(1)) if False else None\n"
        "a = await double(2)\n"
        "async with asyncio.Lock():\n    b = [await double(x) async for x in _numbers()] if False else a\n"
        "later = asyncio.ensure_future(double(5))\n"
        "print(a, b)\n"
        "await later",
        interactive=True,
    )
    assert run.wait(60).state == "succeeded", run.logs()
    assert run.logs() == "4 4\n10\n"


def test_await_at_top_level_of_a_script_is_python_s_error(start: Start):
    run = start("import asyncio\nawait asyncio.sleep(0)").wait(60)
    assert run.state == "failed"
    assert "SyntaxError" in run.reason
