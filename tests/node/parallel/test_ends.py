"""A rank that fails, ends or waits by itself ends the run, with its reason, within seconds: no other waits for ever."""

from __future__ import annotations

import re
import time

import pytest

from tests.conftest import Start
from tests.node.parallel.test_going_apart import HEAD
from tests.node.printed import printed
from tests.waiting import until

STREAMS = """
import itertools
from torch.utils.data import Dataset, IterableDataset, get_worker_info
class Stream(IterableDataset):
    def __init__(self, count): self.count = count
    def __iter__(self):
        info = get_worker_info(); first, step = (info.id, info.num_workers) if info else (0, 1)
        return ((X[i % 37], y[i % 37]) for i in itertools.islice(itertools.count(first, step), self.count))
class Broken(Dataset):
    def __len__(self): return 37
    def __getitem__(self, i): return X[i], y[i + (1000 if i == 13 else 0)]
"""

FAIL = {
    "an error within a backward with batch norm": (
        """
model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)); o = torch.optim.SGD(model.parameters(), 0.1)
for turn, (a, b) in enumerate(loader()):
    if rank == 1 and turn == 2: model[0].weight.register_hook(lambda _: 1 / 0)
    step(a, b)
""",
        "rank 1: ZeroDivisionError",
    ),
    "an error in one rank's validation": (
        """
for a, b in loader(): step(a, b)
with torch.no_grad():
    for a, b in loader():
        if rank == 1: raise RuntimeError("only here")
""",
        "rank 1: RuntimeError: only here",
    ),
    "sys.exit": ("for a, b in loader():\n    step(a, b)\n    if rank: sys.exit(3)", r"called sys\.exit\(3\)"),
    "an exit without a report": (
        "for a, b in loader():\n    step(a, b)\n    if rank: os._exit(0)",
        "rank 1 exited with code 0 before the end",
    ),
    "a signal, with workers": (
        "for a, b in loader(num_workers=1):\n    step(a, b)\n    if rank: os.kill(os.getpid(), 9)",
        "rank 1 was killed by SIGKILL",
    ),
    "a broken sample of a worker": (
        "for a, b in DataLoader(Broken(), batch_size=4, num_workers=1): step(a, b)",
        "rank 1: IndexError",
    ),
    "an error before the first loop": (
        "if rank: raise ImportError('not on this node')\nfor a, b in loader(): step(a, b)",
        "rank 1: ImportError: not on this node",
    ),
}


@pytest.mark.parametrize(("code", "reason"), FAIL.values(), ids=FAIL.keys())
def test_a_rank_that_fails_ends_the_run(start: Start, code: str, reason: str) -> None:
    begun = time.monotonic()
    run = start(HEAD + STREAMS + code, ranks=2).wait(60)
    assert run.state == "failed", run.reason
    assert re.search(reason, run.reason), run.reason
    assert time.monotonic() - begun < 30


GO_ON = {
    "a rank that is slow": "for a, b in loader():\n    step(a, b); __import__('time').sleep(rank / 10)",
    "loops inside of loops": "for a, b in loader():\n    step(a, b)\n    for c, d in loader(): step(c, d)",
    "one loader, twice at a time": """
data = loader(num_workers=1)
for a, b in data:
    step(a, b)
    for c, d in itertools.islice(data, 2): step(c, d)
""",
    "two loops as one": """
for (a, b), (c, d) in zip(loader(), DataLoader(TensorDataset(X[:20], y[:20]), batch_size=4)): step(a, b); step(c, d)
""",
    "a stream, with workers and without": """
for workers in 0, 2:
    for a, b in DataLoader(Stream(38), batch_size=4, num_workers=workers): step(a, b)
""",
    "a stream without an end": "for a, b in itertools.islice(DataLoader(Stream(None), batch_size=4), 6): step(a, b)",
    "a loader as a cycle": "for a, b in itertools.islice(itertools.cycle(loader()), 13): step(a, b)",
    "workers that stay, evaluated first": """
data = loader(num_workers=1, persistent_workers=True)
for epoch in range(2):
    with torch.no_grad(): assert sum(len(a) for a, b in data) == 37
    assert 18 <= sum((step(a, b), len(a))[1] for a, b in data) <= 19
""",
    "a thread": """
import threading
thread = threading.Thread(target=lambda: [step(a, b) for a, b in loader()]); thread.start(); thread.join()
""",
}


@pytest.mark.parametrize("code", GO_ON.values(), ids=GO_ON.keys())
def test_loops_that_are_unusual_go_on(start: Start, code: str) -> None:
    end = "\nprint([p.flatten().tolist() for p in model.parameters()])\n"
    run = start(HEAD + STREAMS + code + end, ranks=2).wait(60)
    assert run.state == "succeeded", run.reason
    assert printed(run, 0) == printed(run, 1)


def test_stop_ends_ranks_that_wait_for_one_that_never_comes(start: Start) -> None:
    code = """
for turn, (a, b) in enumerate(loader()):
    step(a, b)
    if turn == 2: print("here")
    while rank and turn == 2: __import__("time").sleep(0.1)
"""
    run = start(HEAD + code, ranks=2)
    until(lambda: "here" in run.logs(0, "out") and "here" in run.logs(1, "out"))
    run.cancel()
    assert run.wait(20).state == "cancelled"


def test_a_rank_that_looks_for_a_file_does_not_wait_for_one_that_has_ended(start: Start):
    script = "import os, time\ntime.sleep(float(os.environ['RANK']))\nprint(os.path.exists('missing'))"
    run = start(script, ranks=2, cpus=1).wait(60)
    assert (run.state, run.logs(0), run.logs(1)) == ("succeeded", "False\n", "False\n")
