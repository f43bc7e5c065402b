"""Where a cell loads a pickle or looks names up, it finds all definitions of the notebook."""

from __future__ import annotations

import pytest

_SESSION = """
import pickle, threading
size, lock, table, rows = 3, threading.Barrier(2), {"a": [1]}, [[1.0]] * 9
class Vocab:
    def __init__(self, words): self.index = {w: i for i, w in enumerate(words)}
    def __getitem__(self, word): return self.index[word] + size + len(table)
def double(x): return 2 * x
def guarded():
    with lock: return 1
class Guarded:
    def get(self): return lock
def shown(): return len(rows)
with open("vocab.pickle", "wb") as file: pickle.dump((Vocab("abc"), double), file)
"""


@pytest.mark.parametrize(
    "cell",
    [
        "with open('vocab.pickle', 'rb') as opened: vocab, function = pickle.load(opened)",
        "vocab, function = eval('Vocab(\"abc\")'), globals()['double']",
        "import sys\nmain = sys.modules['__main__']\nvocab, function = main.Vocab('abc'), main.double",
        "from pathlib import Path\nvocab, function = pickle.loads(Path('vocab.pickle').read_bytes())",
    ],
)
def test_definitions_are_at_hand(nb, cell):
    nb.cell(_SESSION)
    names = nb.train(f"{cell}\nresult = vocab['b'], function(4), type(vocab) is Vocab")
    assert names["result"] == (1 + 3 + 1, 8, True)


def test_definitions_that_need_what_cannot_be_sent_are_left_out(nb):
    nb.cell(_SESSION)
    captured = nb.capture("with open('vocab.pickle', 'rb') as opened: vocab, function = pickle.load(opened)")
    assert "class Vocab" in captured.script
    assert "Guarded" not in captured.script
    assert "def guarded" not in captured.script
    assert "def shown" not in captured.script  # a function that needs data


def test_other_cells_get_only_what_they_need(nb):
    nb.cell(_SESSION + "import torch\nmodel = torch.nn.Linear(1, 1)")
    captured = nb.capture("for loader in [[1]]:\n    model.load_state_dict(model.state_dict())\ndouble(1)")
    assert "def double" in captured.script
    assert "Vocab" not in captured.script
