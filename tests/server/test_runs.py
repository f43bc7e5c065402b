"""Runs over HTTP."""

from __future__ import annotations

import os
import shutil
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from mlnb.api import Run
from mlnb.files import first_lines
from mlnb.render.output_bundle import MIME, bundle
from tests.waiting import until

TRAIN = "import mlnb\nfor i in range(5): mlnb.log(step=i, loss=1 / (i + 1))\nprint('said')"
STUBBORN = """
import signal, time
for number in (signal.SIGTERM, signal.SIGINT):
    signal.signal(number, lambda *_: None)
print("on", flush=True)
while True: time.sleep(0.1)
"""
WAIT = "import time, mlnb\nmlnb.log(loss=1.0)\ntime.sleep(600)"


def node_program(run: Run) -> int:
    return next(
        event["pid"] for event in first_lines(run.directory.attempt(1).events(0)) if event["event"] == "started"
    )


def test_runs_are_listed_and_shown(server, start):
    run = start(TRAIN, name="listed").wait(60)
    status, found = server.ask("mlnb/runs")
    assert status == 200
    one = next(one for one in found if one["id"] == run.id)
    assert (one["name"], one["state"], one["attempts"]) == ("listed", "succeeded", 1)
    status, shown = server.ask(f"mlnb/runs/{run.id}")
    assert status == 200
    assert (shown["name"], shown["state"], shown["output"]) == ("listed", "succeeded", "said")
    assert shown["line"].startswith("step 4 · loss 0.2")


def test_a_run_is_an_output_as_its_kernel_would_make_it(server, start):
    run = start(TRAIN).wait(60)
    status, shown = server.ask(f"mlnb/runs/{run.id}/output")
    assert status == 200
    made = bundle(run)
    assert made.keys() == shown.keys() >= {MIME, "text/plain", "text/html"}
    assert {**shown[MIME], "updated": 0} == {**made[MIME], "updated": 0}
    assert shown["text/plain"] == made["text/plain"]


def test_only_those_that_are_asked_for_and_that_there_are(server, start):
    first, second = start(TRAIN), start(TRAIN)
    status, found = server.ask(f"mlnb/runs?id={first.id}&id=20000101-nothing&id=../x&id={second.id}")
    assert status == 200
    assert [one["id"] for one in found] == [first.id, second.id]


def test_a_run_that_was_removed_is_forgotten(server, start):
    run = start(TRAIN).wait(60)
    assert len(server.ask(f"mlnb/runs?id={run.id}")[1]) == 1
    shutil.rmtree(run.dir)
    assert server.ask(f"mlnb/runs?id={run.id}") == (200, [])
    assert run.id not in [one["id"] for one in server.ask("mlnb/runs")[1]]


def test_cancel_answers_when_the_run_is_gone(server, start):
    run = start(WAIT)
    while run.state != "running":
        time.sleep(0.05)
    status, said = server.ask(f"mlnb/runs/{run.id}/cancel", method="POST")
    assert (status, said["state"]) == (200, "cancelled")
    assert run.state == "cancelled"
    assert server.ask(f"mlnb/runs/{run.id}/cancel", method="POST")[1]["state"] == "cancelled"  # twice is once


@pytest.mark.parametrize("path", ["20000101-nothing", "2%2F..%2F..%2Fetc", "..", "2..%2f..", "%2e%2e", "1\u0661"])
def test_what_there_is_not_is_one_line(server, path):
    from urllib.parse import quote

    for method, end in (("GET", ""), ("POST", "/cancel")):
        status, said = server.ask(f"mlnb/runs/{quote(path, safe='%')}{end}", method=method)
        assert status == 404
        assert said is None or "\n" not in said["message"]
    assert "No run with id" in server.ask("mlnb/runs/20000101-nothing")[1]["message"]


def test_without_a_token_nothing_is_told_and_nothing_is_ended(server, start):
    run = start(WAIT)
    for method, path in (("GET", ""), ("GET", f"/{run.id}"), ("POST", f"/{run.id}/cancel")):
        assert server.ask(f"mlnb/runs{path}", method=method, token=False)[0] == 403
    assert not run.done


def test_cancels_that_take_long_keep_no_other_request_waiting(server, start):
    run = start(STUBBORN)
    until(lambda: "on" in run.logs())
    with ThreadPoolExecutor(40) as pool:
        cancels = [pool.submit(server.ask, f"mlnb/runs/{run.id}/cancel", method="POST") for _ in range(40)]
        until(run.directory.cancel.exists)
        time.sleep(0.5)
        view = server.stream(run.id)
        assert server.ask(f"mlnb/runs/{run.id}")[0] == 200
        view.until(lambda view: view.summary)
        assert not any(cancel.done() for cancel in cancels)
        run.directory.result.write_text('{"state": "cancelled", "attempt": 1}')  # it need not take its whole grace
        os.kill(node_program(run), signal.SIGKILL)
        assert {cancel.result(60)[0] for cancel in cancels} == {200}


def test_only_a_run_that_there_is_not_is_404(server, start):
    run = start(WAIT, cpus=1)
    until(lambda: run.state == "running")
    path, content = run.directory.run, run.directory.run.read_text()
    path.write_text(content.replace('"target": "local"', '"target": "removed"'))
    status, said = server.ask(f"mlnb/runs/{run.id}/cancel", method="POST")
    assert (status, said["message"].split(".")[0]) == (409, "Unknown target removed")
    path.write_text(content)
