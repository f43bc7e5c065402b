"""What can't be sent, but was made by one plain line, is made in the run by that line; open files travel."""

from __future__ import annotations

import pytest


@pytest.fixture
def nb(nb):
    nb.cell("import threading, sqlite3, csv\nfrom concurrent.futures import ThreadPoolExecutor")
    return nb


def test_a_pool_of_workers(nb):
    nb.cell("size = 2\ndef square(x): return x * x")
    nb.cell("pool = ThreadPoolExecutor(size)")
    captured = nb.capture("result = list(pool.map(square, range(3)))")
    names = nb.execute(captured)
    assert names["result"] == [0, 1, 4]
    assert names["pool"] is not nb["pool"]
    assert "pool can't be sent: the run makes its own, by `pool = ThreadPoolExecutor(size)`" in captured.notes
    assert "pool" not in captured.outputs
    assert captured.bindings["pool"] is nb["pool"]


def test_an_object_of_the_user_that_holds_it_refers_to_it(nb):
    nb.cell("class Trainer:\n    steps = 0\n    def fit(self): self.steps += 1")
    nb.cell("pool = ThreadPoolExecutor(1)\ntrainer = Trainer()\ntrainer.pool = pool\ntrainer.steps = 5")
    names = nb.train("trainer.fit()\nresult = trainer.pool is pool, trainer.steps")
    assert names["result"] == (True, 6)
    names = nb.train("trainer.fit()\nresult = trainer.pool.submit(len, 'ab').result()")
    assert names["result"] == 2


def test_a_connection_to_a_database_in_a_file(nb):
    nb.cell("db = sqlite3.connect('some.db')\ndb.execute('create table t (x)')\ndb.commit()\ncursor = db.cursor()")
    assert nb.train("cursor.execute('insert into t values (1)')\ndb.commit()\nresult = 1")["result"] == 1
    assert nb["db"].execute("select x from t").fetchall() == [(1,)]
    nb.cell("db.execute('insert into t values (2)')  # not committed")
    assert "db (line 2) is a database connection" in nb.refusal("db")


@pytest.mark.parametrize(
    "setup",
    [
        "for _ in range(1):\n    thing = ThreadPoolExecutor(1)",
        "def make(): return ThreadPoolExecutor(1)\nthing = (make(), 1)[0]",
        "thing = sqlite3.connect(':memory:')",
        "import gzip; thing = gzip.open('x.gz', 'wt')",
        "thing = ThreadPoolExecutor(1)\nother = thing\nthing, y = other, 2",
    ],
)
def test_lines_that_are_not_plain_or_would_lose_something(nb, setup):
    nb.cell(setup)
    assert nb.refusal("thing").startswith("thing (line 2) is ")


def test_an_object_whose_class_is_the_user_s_is_never_made_anew(nb):
    nb.cell("class Holder:\n    def __init__(self): self.steps, self.gate = 0, threading.Barrier(2)\nthing = Holder()")
    assert nb.refusal("thing").startswith("thing.gate (line 2) is a barrier")


def test_a_progress_bar(nb):
    nb.cell("from tqdm import tqdm\nbar = tqdm(total=5)")
    captured = nb.capture("bar.update(2)\nresult = bar.n")
    assert any(note.startswith("bar can't be sent: the run makes its own") for note in captured.notes)
    assert nb.execute(captured)["result"] == 2


def test_an_old_value_that_the_cell_replaces_is_not_made_anew(nb):
    nb.cell("pool = ThreadPoolExecutor(1)")
    captured = nb.capture("for i in range(2):\n    pool = i\nprint(pool)")
    assert "ThreadPoolExecutor(1)" not in captured.script


def test_what_holds_items_or_is_half_read_is_not_made_anew(nb):
    nb.cell("import queue\nitems = queue.Queue()\nwaiting = queue.Queue()\nitems.put(1)")
    assert nb.train("waiting.put(2)\nresult = waiting.get()")["result"] == 2
    assert nb.train("result = items.get()")["result"] == 1
    nb.cell("lines = csv.reader(['a,b', 'c,d'])\nnext(lines)")
    assert nb.refusal("print(next(lines))").startswith("lines (line 2) (reader) can't be sent")


# open files


def test_a_file_goes_on_where_it_was_and_is_not_emptied(nb):
    nb.cell("log = open('log.csv', 'w')\nlog.write('one\\n')\nwriter = csv.writer(log)\nlines = open('log.csv')")
    names = nb.train("writer.writerow([2])\nlog.write('three\\n')\nlog.flush()\nresult = lines.read(), log.mode")
    assert names["result"] == ("one\n2\nthree\n", "w")
    assert (nb.folder / "log.csv").read_text() == "one\n2\nthree\n"


def test_binary_files_and_positions(nb):
    nb.cell(
        "with open('data.bin', 'wb') as made:\n    made.write(b'abcdef')\nfile = open('data.bin', 'rb')\nfile.read(2)"
    )
    assert nb.train("result = file.read()")["result"] == b"cdef"


def test_a_file_in_an_object(nb):
    nb.cell("class Log:\n    def __init__(self): self.file = open('log.txt', 'a')\nlog = Log()")
    nb.train("log.file.write('there')\nlog.file.close()")
    assert (nb.folder / "log.txt").read_text() == "there"


def test_files_that_have_no_path(nb):
    nb.cell("import os, tempfile\nread, write = os.pipe()\nthing = os.fdopen(read)")
    assert "thing (line 2) is an open file" in nb.refusal("thing")
    nb.cell("thing = open('gone.txt', 'w')\nos.unlink('gone.txt')")
    assert "thing (line 2) is an open file" in nb.refusal("thing")
