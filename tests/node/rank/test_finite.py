"""A run whose loss is NaN says so, and that its weights are."""

from __future__ import annotations

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
    notes = start(TRAIN.replace("NAN", "3")).wait(60).result["notes"]
    assert notes == ["loss is NaN from step 3 on; the weights of model are not finite: don't go on with them"]


def test_a_finite_loss_is_none(start: Start):
    assert start(TRAIN.replace("NAN", "0")).wait(60).result["notes"] == []


def test_strings_and_vectors_are_one_note(start: Start):
    run = start("import mlnb\nfor i in range(3):\n    mlnb.log(a='x', b=[1, 2], c=i)").wait(60)
    assert run.result["notes"] == ["mlnb.log takes numbers; not logged: a (str), b (list of 2)"]
    assert list(run.series()["c"].value) == [0, 1, 2]


def test_one_series_of_the_script_s_own_loss(start: Start):
    own = TRAIN.replace("NAN", "0").replace("loss.backward();", "loss.backward(); mlnb.log(loss=2 * loss.item());")
    run = start(f"import mlnb{own}").wait(60)
    assert run.state == "succeeded", run.logs()
    assert len(run.series()["loss"]) == 5
