"""A run whose loss is NaN says so, and that its weights are."""

from __future__ import annotations

import re

from mlnb.render.output_bundle import WARNED, bundle
from mlnb.render.runs_table import text_table
from mlnb.render.summary import status_line
from tests.conftest import Start

TRAIN = """
import torch
model = torch.nn.Linear(1, 1)
other = torch.nn.Linear(1, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for step in range(1, 6):
    loss = model(torch.ones(2, 1)).mean() * (float("nan") if step == NAN else 1)
    optimizer.zero_grad(); loss.backward(); optimizer.step()
"""


def test_a_loss_that_is_nan_is_a_note_with_the_weights(start: Start):
    run = start(TRAIN.replace("NAN", "3")).wait(60)
    note = "loss is NaN from step 3 on; the weights of model are not finite: don't go on with them"
    assert run.result["notes"] == [note]


def test_a_loss_that_is_nan_is_in_the_line_of_its_state_wherever_that_is_shown(start: Start):
    run = start(TRAIN.replace("NAN", "3")).wait(60)
    assert (run.state, run.reason) == ("succeeded", "loss is NaN from step 3 on")
    assert re.match(r"\S+: succeeded · loss is NaN from step 3 on · step 5 · loss NaN", status_line(run))
    assert run.reason in text_table([run])
    shown = bundle(run)
    assert shown["application/vnd.mlnb.run+json"]["reason"] == run.reason
    assert shown["text/plain"].startswith(status_line(run))
    assert f"color:{WARNED};" in shown["text/html"]


def test_a_finite_loss_is_none(start: Start):
    run = start(TRAIN.replace("NAN", "0")).wait(60)
    assert (run.result["notes"], run.reason) == ([], "")
    assert f"color:{WARNED};" not in bundle(run)["text/html"]


def test_strings_and_vectors_are_one_note(start: Start):
    run = start("import mlnb\nfor i in range(3):\n    mlnb.log(a='x', b=[1, 2], c=i)").wait(60)
    assert run.result["notes"] == ["mlnb.log takes numbers; not logged: a (str), b (list of 2)"]
    assert list(run.series()["c"].value) == [0, 1, 2]


def test_one_series_of_the_script_s_own_loss(start: Start):
    own = TRAIN.replace("NAN", "0").replace("loss.backward();", "loss.backward(); mlnb.log(loss=2 * loss.item());")
    run = start(f"import mlnb{own}").wait(60)
    assert run.state == "succeeded", run.logs()
    assert len(run.series()["loss"]) == 5
