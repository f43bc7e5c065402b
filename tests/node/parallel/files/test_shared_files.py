"""What a plain loop on several ranks writes is written once, whole before anybody reads it, and readable by all."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlnb.api import Run
from tests.conftest import Start

HEAD = """
import json, os, shutil, tempfile, time
from pathlib import Path
import numpy as np, torch
rank = int(os.environ["RANK"])
folder = Path(FOLDER)
def meet():
    for (x,) in torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.ones(4, 1)), batch_size=2):
        model(x).mean().backward()
model = torch.nn.Linear(1, 1)
def late():
    if rank: time.sleep(0.3)
def early():
    if not rank: time.sleep(0.3)
"""


def run(start: Start, tmp_path: Path, script: str, ranks: int = 2) -> tuple[Run, list[str]]:
    done = start(HEAD.replace("FOLDER", repr(str(tmp_path))) + script, ranks=ranks).wait(60)
    assert done.state == "succeeded", (done.reason, done.logs(0, "err"), done.logs(1, "err"))
    return done, [done.logs(rank, "out") for rank in range(ranks)]


WRITES = {
    "open": "open(path, 'w').write('a' * 10**6)",
    "binary": "open(path, 'wb').write(b'a' * 10**6)",
    "unbuffered": "open(path, 'wb', buffering=0).write(b'a' * 10**6)",
    "Path": "path.write_text('a' * 10**6)",
    "json": "json.dump(['a' * 10**6], path.open('w'))",
    "numpy": "np.save(path.open('wb'), np.ones(10**5))",
    "torch": "torch.save(torch.ones(10**6), path)",
    "copy": "shutil.copy('/proc/self/maps', path)",
    "replace": "Path(str(path) + '.part').write_text('a' * 10**6); os.replace(str(path) + '.part', path)",
    "exclusive": "open(path, 'x').write('a')",
    "then removed": "path.write_text('a'); path.unlink(); path.write_text('b')",
}


@pytest.mark.parametrize("order", ["late", "early"])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_a_file_is_written_by_rank_0_alone(start: Start, tmp_path: Path, write: str, order: str):
    """A rank that comes late finds the file as rank 0 has written it; one that comes early waits for it."""
    script = (
        f"path = folder / 'file'\n{order}()\n{write}\nfound = path.stat()\nprint(found.st_ino, found.st_mtime_ns)\n"
    )
    _, texts = run(start, tmp_path, script)
    assert texts[0] == texts[1] != ""
    assert [path.name for path in tmp_path.iterdir() if path.is_file()] == ["file"]


def test_what_is_appended_is_there_once(start: Start, tmp_path: Path):
    script = """
log = open(folder / "kept", "w", buffering=1)
for epoch in range(3):
    with open(folder / "log", "a") as f: print(epoch, file=f)
    print(epoch, file=log)
    meet(); late()
    print(open(folder / "log").read().split())
"""
    _, texts = run(start, tmp_path, script)
    assert texts[0] == texts[1] == "['0']\n['0', '1']\n['0', '1', '2']\n"
    assert (tmp_path / "log").read_text() == (tmp_path / "kept").read_text() == "0\n1\n2\n"


MAKES = {
    "exists": "if not os.path.exists(path): make()",
    "Path": "if not path.is_file(): make()",
    "caught": "try: open(path).close()\nexcept FileNotFoundError: make()",
    "folder": "if not path.parent.exists(): path.parent.mkdir(); make()",
    "by a command": "if not path.exists():\n    print('made'); os.system(f'sleep 0.2; echo abc > {path}')",
}


@pytest.mark.parametrize("order", ["late", "early", ""])
@pytest.mark.parametrize("make", MAKES.values(), ids=MAKES.keys())
def test_what_is_missing_is_made_once(start: Start, tmp_path: Path, make: str, order: str):
    script = f"""
path = folder / {"'new/file'" if "parent" in make else "'file'"}
def make():
    print("made"); time.sleep(0.2)
    with open(path, "w") as f: f.write("a"); f.flush(); time.sleep(0.2); f.write("bc")
{order}{"()" if order else ""}
{make}
print(open(path).read().strip())
meet()
"""
    _, texts = run(start, tmp_path, script)
    assert texts == ["made\nabc\n", "abc\n"]


def test_what_is_missing_for_rank_0_too_is_missing_for_all(start: Start, tmp_path: Path):
    script = """
path = folder / "checkpoint"
for epoch in range(2):
    print(path.exists())
    meet()
    torch.save(epoch, path)
    print(torch.load(path))
"""
    _, texts = run(start, tmp_path, script)
    assert texts[0] == texts[1] == "False\n0\nTrue\n1\n"


def test_files_of_each_rank_are_its_own(start: Start, tmp_path: Path):
    script = """
(folder / f"before{rank}").write_text(str(rank))
meet()
(folder / f"after{rank}").write_text(str(rank))
print((folder / f"before{rank}").read_text(), (folder / f"after{rank}").read_text())
with tempfile.TemporaryDirectory() as own:
    Path(own, "x").write_text(str(rank)); print(Path(own, "x").read_text())
with tempfile.NamedTemporaryFile("w+") as f:
    f.write("x"); f.seek(0); print(f.read())
if rank == 1: (folder / "one").write_text("1")
if rank == 0: (folder / "zero").write_text("0")
"""
    _, texts = run(start, tmp_path, script)
    assert texts == ["0 0\n0\nx\n", "1 1\n1\nx\n"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_file()) == [
        *("after0", "after1", "before0", "before1", "one", "zero")
    ]


def test_folders_are_made_and_removed_once(start: Start, tmp_path: Path):
    script = """
os.makedirs(folder / "a" / "b", exist_ok=True)
os.mkdir(folder / "c"); (folder / "c" / "x").write_text("x")
shutil.rmtree(folder / "c"); (folder / "c").mkdir(); (folder / "c" / "y").write_text("y")
shutil.copytree(folder / "c", folder / "d")
shutil.move(folder / "d", folder / "e")
try: os.mkdir(folder / "a")
except FileExistsError: print("exists")
try: os.remove(folder / "nothing")
except FileNotFoundError: print("nothing")
print(sorted(str(p.relative_to(folder)) for p in folder.glob("[a-e]*/**/*")))
"""
    _, texts = run(start, tmp_path, script, ranks=3)
    assert set(texts) == {"exists\nnothing\n['a/b', 'c/y', 'e/y']\n"}


def test_a_file_that_is_read_and_written_at_once(start: Start, tmp_path: Path):
    script = """
path = folder / "file"
with open(path, "w+") as f: f.write("abc"); f.seek(0); print(f.read(), f.name == path, f.mode)
with open(path, "r+") as f: print(f.read()); f.write("d"); f.seek(0); print(f.read())
array = np.memmap(folder / "array", dtype="float64", mode="w+", shape=(3,)); array[:] = 2.0; print(array.sum())
try: open(path, "rw")
except ValueError as error: print(error)
"""
    _, texts = run(start, tmp_path, script)
    assert texts[0] == texts[1]
    assert (tmp_path / "file").read_text() == "abcd"


def test_workers_and_code_that_distributes_itself_write_their_own_files(start: Start, tmp_path: Path):
    script = """
import torch.distributed as dist
if rank == 1: print((folder / "no").exists())
dist.init_process_group("gloo")
for name in ("x", "y"):
    if rank == 1: (folder / name).write_text(name)
    dist.barrier()
    print((folder / name).read_text())
"""
    _, texts = run(start, tmp_path, script)
    assert texts == ["x\ny\n", "False\nx\ny\n"]


WAITS = {
    "looks for it again and again": "while not (folder / 'ready-1').exists(): time.sleep(0.01)",
    "learns of it in another way": "while 'ready-1' not in os.listdir(folder): time.sleep(0.01)",
}


@pytest.mark.parametrize("wait", WAITS.values(), ids=WAITS.keys())
def test_rank_0_may_wait_for_what_another_rank_writes(start: Start, tmp_path: Path, wait: str):
    script = f"if rank:\n    (folder / f'ready-{{rank}}').write_text('x')\nelse:\n    {wait}\nmeet()\nprint('met')"
    _, texts = run(start, tmp_path, script)
    assert texts == ["met\n", "met\n"]
