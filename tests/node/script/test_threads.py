"""A run ends with its cell: what it leaves running is named and ended."""

from __future__ import annotations

from tests.conftest import Start


def test_threads_and_processes_that_never_end_are_named_and_ended(start: Start):
    run = start(
        "import multiprocessing, threading, time\n"
        "def forever():\n    while True: time.sleep(0.1)\n"
        "threading.Thread(target=forever, name='monitor').start()\n"
        "multiprocessing.get_context('fork').Process(target=forever, name='loader').start()\n"
        "print('last')",
        interactive=True,
    ).wait(60)
    assert run.state == "succeeded", run.logs()
    thread, process = run.result["notes"]
    assert thread.startswith("thread monitor still ran 10 s after the cell's last statement and was ended")
    assert process.startswith("process loader still ran 10 s")


def test_work_that_ends_is_waited_for(start: Start):
    run = start(
        "import concurrent.futures, threading, time\n"
        "def work(text):\n    time.sleep(0.3)\n    print(text, flush=True)\n"
        "pool = concurrent.futures.ThreadPoolExecutor(1)\n"
        "pool.submit(work, 'first'); pool.submit(work, 'second')\n"
        "threading.Timer(0.1, print, ['timer']).start()\n",
        interactive=True,
    ).wait(60)
    assert (run.state, run.result["notes"]) == ("succeeded", [])
    assert sorted(run.logs().split()) == ["first", "second", "timer"]
