"""What can be pickled, but not loaded again, is refused by name."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    "setup",
    [
        "class Odd:\n    def __reduce__(self): return Odd, (1, 2)",
        "class Odd:\n    def __setstate__(self, state): raise ValueError('not me')\n    x = 1",
        "class Odd:\n    def __new__(cls, size): return super().__new__(cls)\n    def __init__(self, size): pass",
    ],
)
def test_an_object_that_does_not_load(nb, setup):
    nb.cell(setup)
    nb.cell("import torch\nmodel = torch.nn.Linear(2, 1)")
    nb.cell("thing = Odd(*([3] if Odd.__new__ is not object.__new__ else []))\nthing.a = 1\nbox = [thing]")
    message = nb.refusal("print(model, box)")
    assert message.startswith("box (line 2) (list) can be pickled, but not loaded: ")
    assert "\n" not in message


def test_the_session_does_not_change_when_an_object_is_loaded_to_see(nb):
    nb.cell(
        "import torch\nclass Resets:\n    def __init__(self): self.weights = torch.ones(3000)\n"
        "    def __setstate__(self, state): self.__dict__ = state; self.weights.zero_()\nthing = Resets()"
    )
    names = nb.train("result = thing.weights.sum().item()")
    assert names["result"] == 0
    assert nb["thing"].weights.sum() == 3000


def test_objects_with_ways_of_their_own_that_load(nb):
    nb.cell(
        "class Point:\n    def __init__(self, x): self.x = x\n    def __reduce__(self): return Point, (self.x,)\n"
        "import threading\nlock = threading.Condition()\n"
        "class Holder:\n    def __getstate__(self): return 1\n    def __setstate__(self, state): self.y = state\n"
        "point, holder = Point(3), Holder()\nscale = lambda v: v\nholders = [holder, point, scale, lock]"
    )
    assert nb.train("result = point.x, holders[0].y, holders[1] is point")["result"] == (3, 1, True)
