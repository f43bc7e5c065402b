"""The output under a cell: what it says of a run that has ended."""

from __future__ import annotations

from mlnb.render.output_bundle import MIME, bundle
from tests.conftest import Start
from tests.waiting import until

EPOCHS = """
import time, mlnb
for epoch in mlnb.epochs(1000):
    time.sleep(0.01)
"""


def test_a_run_that_was_stopped_says_how_to_go_on_if_it_has_a_checkpoint(start: Start):
    run = start(EPOCHS, name="stopped")
    until(run.checkpoints)
    assert bundle(run)[MIME]["resume"] == ""
    run.cancel()
    shown = bundle(run)
    assert shown[MIME]["resume"] == "stopped"
    assert "  go on from its checkpoint: %%train --resume stopped" in shown["text/plain"].splitlines()
    assert "%%train --resume stopped" in shown["text/html"]

    start("import time\ntime.sleep(100)", name="stopped").cancel()
    assert bundle(run)[MIME]["resume"] == run.id, "its name is another run's now"


def test_a_run_that_has_no_checkpoint_or_succeeded_does_not(start: Start):
    stopped = start("import time\ntime.sleep(100)").cancel()
    done = start(EPOCHS.replace("1000", "2")).wait(60)
    for run in (stopped, done):
        shown = bundle(run)
        assert shown[MIME]["resume"] == ""
        assert "--resume" not in shown["text/plain"]
