"""Refusals are one line: which variable, which line of the cell, what to do instead."""

from __future__ import annotations

import pytest


@pytest.mark.parametrize(
    ("setup", "kind"),
    [
        ("import threading; thing = threading.Thread(target=print)", "a thread"),
        ("import threading\nthing = threading.RLock(); _ = thing.acquire()", "a lock that is held"),
        ("import threading\nthing = threading.Semaphore(0)", "a lock that is held"),
        ("import threading\nfor _ in 'a': thing = threading.Barrier(2)", "a barrier"),
        ("import os; thing = os.fdopen(os.pipe()[0])", "an open file"),
        ("import socket; thing = socket.socket()", "a socket"),
        ("thing = (i for i in range(3))", "a generator"),
        ("thing = iter([1, 2])", "an iterator"),
        ("thing = map(str, [1])", "an iterator"),
        ("import itertools; thing = itertools.cycle([1])", "an iterator"),
        ("import asyncio; thing = asyncio.new_event_loop()", "an event loop"),
        ("async def f(): pass\nthing = f()", "a coroutine"),
        ("import sqlite3; thing = sqlite3.connect(':memory:')", "a database connection"),
        ("import subprocess; thing = subprocess.Popen(['true'])", "a running process"),
        (
            "import weakref\nclass A:\n def f(self): pass\na = A(); thing = weakref.WeakMethod(a.f)",
            "a weak reference of its own kind",
        ),
    ],
)
def test_objects_that_only_work_in_this_process(nb, setup, kind):
    nb.cell(setup)
    message = nb.refusal("x = 1\nprint(thing)")
    assert message.startswith(f"thing (line 3) is {kind}, which can't be sent to another process: ")
    assert "\n" not in message


@pytest.mark.parametrize("name", ["Connection", "Engine"])
def test_a_class_of_the_user_may_have_the_name_of_a_database_connection(nb, name):
    nb.cell(f"class {name}:\n    power = 300\nthing = {name}()\nthing.speed = 5")
    assert nb.train("result = thing.power, thing.speed")["result"] == (300, 5)


def test_a_database_connection_of_a_library(nb):
    nb.cell("Engine = type('Engine', (), {'__module__': 'sqlalchemy.engine.base'})\nthing, _ = Engine(), 0")
    assert nb.refusal("print(thing)").startswith("thing (line 2) is a connection, which can't be sent")


def test_a_loader_s_iterator(nb):
    nb.cell("from torch.utils.data import DataLoader\nit = iter(DataLoader([1, 2]))")
    assert "it (line 2) is a loader's iterator" in nb.refusal("next(it)")


@pytest.mark.parametrize(
    ("setup", "path"),
    [
        ("cfg = {'a': 1, 'gate': threading.Barrier(2)}", "cfg['gate'] (line 2) is a barrier"),
        ("cfg = [0, {'deep': (1, threading.Barrier(2))}]", "cfg[1]['deep'][1] (line 2) is a barrier"),
        (
            "class T:\n    def __init__(self): import os; self.log = os.fdopen(os.pipe()[0])\ncfg = T()",
            "cfg.log (line 2) is an open file",
        ),
        ("class T:\n    __slots__ = ('g',)\ncfg = T()\ncfg.g = (i for i in [])", "cfg.g (line 2) is a generator"),
    ],
)
def test_a_refusal_names_the_part_of_a_variable(nb, setup, path):
    nb.cell("import threading")
    nb.cell(setup)
    assert path in nb.refusal("cfg")


def test_a_tensor_that_was_computed(nb):
    nb.cell("import torch\nlayer = torch.nn.Linear(2, 2)\nh = layer(torch.ones(1, 2))\nloss = h.sum()")
    assert "h (line 2) was computed from tensors that require gradients" in nb.refusal("print(h)")
    names = nb.train("try:\n    loss.backward()\nexcept RuntimeError as error:\n    result = str(error)")
    assert "computed in another process" in names["result"]


def test_what_is_inside_of_a_library_s_object_is_not_named(nb):
    nb.cell("import queue\nbox = {'q': [queue.Queue() for _ in range(1)][0]}\n_ = box['q'].mutex.acquire()")
    message = nb.refusal("box")
    assert message.startswith("box['q'] (line 2) (Queue) can't be sent to another process, since it holds a lock ")
    assert "mutex" not in message


def test_errors_of_pickle(nb):
    nb.cell("class Odd:\n    def __reduce__(self): raise TypeError('not me')\nbox = {'odd': [Odd()]}")
    assert "box['odd'][0] (line 2) (Odd) can't be sent to another process: not me" in nb.refusal("box")


def test_a_refusal_names_the_function_that_reads_the_name(nb):
    nb.cell("import os; log = os.fdopen(os.pipe()[0])\ndef train():\n    step()\ndef step():\n    log.write('x')")
    assert nb.refusal("x = 1\ntrain()").startswith("log (line 3, through step) is an open file")


def test_unshippable_objects_in_closures(nb):
    nb.cell("import threading\ndef make(lock):\n    def f(): return lock\n    return f\nf = make(threading.Barrier(2))")
    assert "f (line 2) holds a barrier" in nb.refusal("f()")


def test_undefined_names(nb):
    nb.cell("learning_rate = 1")
    message = nb.refusal("x = 1\nprint(learning_rat)")
    assert message == "learning_rat (line 3) is not defined in this session. Did you mean learning_rate?"
    assert "Run the cell that defines it" in nb.refusal("qqq")
    assert "total (line 3)" in nb.refusal("for i in range(3):\n    total += i")
    assert "gone (line 2)" in nb.refusal("del gone")


@pytest.mark.parametrize(
    "cell",
    [
        "if verbose:\n    tracker.log(1)",
        "print(tracker if verbose else 1)",
        "verbose and tracker.log(1)",
        "try:\n    tracker.log(1)\nexcept NameError:\n    pass",
        "import contextlib\nwith contextlib.suppress(NameError):\n    tracker.log(1)",
        "if not verbose:\n    pass\nelse:\n    tracker.log(1)",
    ],
)
def test_an_undefined_name_in_a_branch_that_is_not_taken(nb, cell):
    nb.cell("verbose = False\ntracked = 1")
    captured = nb.capture(f"{cell}\ndone = 1")
    assert any(note.startswith("tracker (line") and "Did you mean tracked?" in note for note in captured.notes)
    assert nb.execute(captured)["done"] == 1


@pytest.mark.parametrize(
    "cell",
    [
        "print(__name__, len, ValueError)",
        "for i in range(3):\n    if i:\n        print(last)\n    last = i",
        "try:\n    import nothing_such\nexcept ImportError as e:\n    print(e)",
        "def f():\n    return later\nlater = 1\nf()",
        "if False:\n    x = 1\nelse:\n    x = 2\nprint(x)",
        "print([i for i in range(3)], {k: v for k, v in []}, (lambda a: a)(1))",
        "class A:\n    x = 1\n    y = x\n    def f(self): return self.y\nA().f()",
        "match 3:\n    case int(n) if n > 1: print(n)\n    case [a, *rest]: print(a, rest)\n    case _: pass",
        "from math import *\nprint(sin(0))",
        "import os\nif os.environ.get('nothing'):\n    exit(1)",
        "print(f'{1 + 1:>{5}}')",
        "global_ = 1\ndef f():\n    global made\n    made = 1\nf()\nprint(made)",
        "while (n := 3) > 4: pass\nprint(n)",
        "with open('x', 'w') as f, open('y', 'w') as g: f.write('x'); g.write('')",
    ],
)
def test_cells_without_undefined_names(nb, cell):
    nb.train(cell)


def test_an_undefined_name_in_a_function_of_the_session_gives_a_note(nb):
    nb.cell("def f(x):\n    return undefined_thing if x else 1")
    captured = nb.capture("result = f(0)")
    assert nb.execute(captured)["result"] == 1
    assert any("undefined_thing (line 2, through f) is not defined" in note for note in captured.notes)


@pytest.mark.parametrize(
    ("cell", "message"),
    [
        ("x = 1\n!pip install y", "line 3: `!pip install y` installs y, which a run doesn't do"),
        ("%%writefile x.py\nx = 1", "line 2: `%%writefile x.py` needs IPython"),
        ("files = !ls", "line 2: `files = !ls` needs IPython"),
        ("print?", "line 2: `print?` needs IPython"),
        ("get_ipython().run_line_magic('x', '')", "line 2: get_ipython() needs IPython"),
        ("x = 1\ny = input('?')", "line 3: input() needs a keyboard"),
        ("x = 1\nfor x in\n", "line 3: invalid syntax\n    for x in\n            ^"),
        ("return 3", "line 2: 'return' outside function"),
        ("x = (1,\n", "line 2: '(' was never closed"),
        ("", "nothing to run"),
        ("# a comment", "nothing to run"),
        ("print(In)", "In (line 2) is defined by IPython"),
    ],
)
def test_cells_that_cannot_run_as_programs(nb, cell, message):
    assert message in nb.refusal(cell)


def test_a_function_of_the_user_called_input(nb):
    nb.train("input = lambda: 3\nresult = input()")


def test_old_values_of_names_that_the_cell_assigns_may_be_unshippable(nb):
    nb.cell("import os; loss = (i for i in range(3))\nf = os.fdopen(os.pipe()[0])")
    captured = nb.capture("for i in range(3):\n    loss = i\n    f = i\nprint(loss)")
    assert nb.execute(captured)["loss"] == 2
    assert any("loss" in note for note in captured.notes)


def test_a_refusal_writes_no_files(nb):
    nb.cell("import threading, torch\nX = torch.ones(5000)\nlock, _ = threading.Barrier(2), 0")
    nb.refusal("X, lock")
    assert not list(nb.folder.iterdir())
