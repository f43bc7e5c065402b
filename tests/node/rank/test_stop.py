"""A person's Stop is KeyboardInterrupt to the code, as in a notebook; other ends are not."""

from __future__ import annotations

import dask.config

from tests.conftest import Start
from tests.waiting import until

LOOP = "import time\nprint('on', flush=True)\nwhile True: time.sleep(0.05)"


def test_code_that_catches_keyboard_interrupt_goes_on_to_its_end(start: Start):
    body = "\n".join(f"    {line}" for line in LOOP.split("\n"))
    run = start(f"try:\n{body}\nexcept KeyboardInterrupt:\n    print('caught')\nprint('evaluated')")
    until(lambda: "on" in run.logs())
    run.cancel()
    assert run.state == "succeeded"
    assert run.logs() == "on\ncaught\nevaluated\n"
    assert any("KeyboardInterrupt" in note for note in run.result["notes"])


def test_code_that_does_not_catch_it_is_cancelled(start: Start):
    body = "\n".join(f"    {line}" for line in LOOP.split("\n"))
    run = start(f"try:\n{body}\nexcept Exception:\n    print('caught')\nfinally:\n    print('closed')")
    until(lambda: "on" in run.logs())
    run.cancel()
    assert (run.state, run.logs()) == ("cancelled", "on\nclosed\n")


def test_the_end_of_the_time_is_no_keyboard_interrupt(start: Start):
    body = "\n".join(f"    {line}" for line in LOOP.split("\n"))
    run = start(f"try:\n{body}\nexcept KeyboardInterrupt:\n    print('caught')", time=2).wait(60)
    assert run.state == "failed"
    assert "caught" not in run.logs()


def test_a_handler_of_sigterm_is_called_too(start: Start, short_grace: None):
    run = start(
        "import signal, sys, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "signal.signal(signal.SIGTERM, lambda *_: (print('saved', flush=True), sys.exit(1)))\n"
        "print('on', flush=True)\nwhile True: time.sleep(0.05)"
    )
    until(lambda: "on" in run.logs())
    run.cancel()
    assert (run.state, run.logs()) == ("cancelled", "on\nsaved\n")


def test_a_checkpoint_that_is_due_but_does_not_come_is_not_waited_for_until_the_kill(start: Start):
    waits = "import time\nfrom mlnb.node.rank.stop import expect_checkpoint\n"
    waits += "try:\n    while True:\n        expect_checkpoint(time.monotonic() + 0.2)\n"
    waits += "        print('on', flush=True)\n        time.sleep(0.05)\nfinally:\n    print('closed')"
    with dask.config.set({"mlnb.targets.local.grace": 4.0}):
        run = start(waits)
    until(lambda: "on" in run.logs())
    run.cancel()
    assert run.state == "cancelled"
    assert run.logs().endswith("closed\n")
