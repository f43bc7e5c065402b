"""What can't be done is said in one line, before anything is written."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from mlnb.api import runs
from tests.notebook.kernels import Kernel

SECRET = "hf_" + "Qw8Zr2Lk9Vb4Nx7T"
"""What a credential looks like."""


@pytest.fixture
def nothing_written(nb: Kernel) -> Iterator[None]:
    """The test must leave the runs' root as it is."""
    before = written(nb.runs)
    yield
    assert written(nb.runs) == before


def written(root: Path) -> set[Path]:
    """Runs, runs under construction and stored data."""
    return set(root.glob("*")) | set((root / ".store").rglob("*"))


OPTIONS = {
    "--gpu 2": "--gpu: not an option; did you mean --gpus?",
    "zzz": "zzz: not an option; options are --on --gpus --cpus",
    "--gpus": "--gpus needs a value: --gpus N (",
    "--gpus two": "--gpus two: --gpus takes a whole number from 0",
    "--gpus 7": "--gpus 7: this machine has no GPU. Drop --gpus, or configure a target that has GPUs (",
    "--ranks 0": "--ranks 0: --ranks takes a whole number from 1",
    "--ranks 2 --ranks 3": "--ranks is given twice",
    "--cpus 99": "--cpus 99: 1 rank × 99 cores are 99; this machine has ",
    "--memory lots": "--memory lots: --memory takes a size like 24GB, 1.5GiB or 500M",
    "--time soon": "--time soon: --time takes a time like 90s, 30m, 2h, 1h30m or 02:30:00",
    "--on locla": "Unknown target locla. Did you mean local? Available: local",
    "--name 'my run'": "--name 'my run': letters, digits, '.', '_' and '-' are allowed",
    "--name ../up": "--name '../up': letters, digits",
    "--name 'open": "No closing quotation",
    "--seed -1": "--seed -1: --seed takes a whole number from 0 to 2^63 - 1",
    "--parallel some": "--parallel some: --parallel takes auto or none",
    "--env NOT_SET_ANYWHERE": "--env takes NAME=value, since NOT_SET_ANYWHERE is not set in this session",
    "--env 'A B=1'": "--env takes NAME or NAME=value",
    "--wait=yes": "--wait takes no value",
    "--resume nothing": "--resume nothing: No run named 'nothing'",
    "--in nothing_here": "--in nothing_here: neither a variable of this session nor a file under ",
    "--in /etc/hostname": "only files under ",
    "--out answr": "--out answr: the cell has no such name; did you mean answer?",
}


@pytest.mark.parametrize("line", OPTIONS)
def test_a_bad_option_is_one_line_that_names_it(nb: Kernel, nothing_written: None, line: str) -> None:
    message = nb.run(f"%%train {line}\nanswer = 42\n").message
    assert message.startswith("mlnb: ")
    assert OPTIONS[line] in message
    assert "\n" not in message


CELLS = {
    "an undefined name": ("x = 1\nprint(undefind)", "undefind (line 3) is not defined in this session."),
    "a shell line": ("x = 1\n!ls", "line 3: `!ls` needs IPython, which a run doesn't have."),
    "a magic line": ("x = 1\n%who", "line 3: `%who` needs IPython, which a run doesn't have."),
    "an installation": ("x = 1\n%pip install nothing", "line 3: `%pip install nothing` installs nothing, which a run"),
    "the keyboard": ("\nname = input('who?')", "line 3: input() needs a keyboard, which a run doesn't have."),
    "nothing but a comment": ("# to do", "the cell has nothing to run"),
    "an open file": ("print(opened.name)", "opened"),
    "a lock that is held": ("with lock: pass", "lock"),
    "a generator": ("print(next(numbers))", "numbers"),
    "a written credential": (f"key = '{SECRET}'", "line 2 (a string) looks like a credential"),
    "a kept credential": ("print(key)", "key"),
}


@pytest.mark.parametrize(("cell", "words"), CELLS.values(), ids=CELLS)
def test_a_cell_that_can_not_run_elsewhere_is_refused(nb: Kernel, nothing_written: None, cell: str, words: str) -> None:
    nb.ok(
        "import threading\nopened = open('/dev/null')\nlock = threading.Lock(); lock.acquire()\n"
        f"numbers = (n for n in [1])\nkey = {SECRET!r}"
    )
    message = nb.run(f"%%train\n{cell}\n").message
    assert message.startswith(f"mlnb: {words}" if "line" in words else "mlnb: ")
    assert words in message
    assert "\n" not in message
    assert SECRET not in message


def test_a_syntax_error_shows_the_place_even_while_results_are_pending(nb: Kernel, nothing_written: None) -> None:
    shown = nb.run("%%train\nx = 1\ny = (x\n").message
    assert shown == "mlnb: line 3: '(' was never closed\n    y = (x\n        ^"


def test_a_syntax_error_is_found_while_results_are_pending(nb: Kernel) -> None:
    nb.ok("%%train --name before\nanswer = 42\n")
    assert nb.run("%%train\ny = (answer\n").message.startswith("mlnb: line 2: '(' was never closed")


def test_an_empty_cell_is_refused(nb: Kernel, nothing_written: None) -> None:
    cell = nb.run("%%train --name x\n")
    assert cell.status == "error"
    assert cell.err.strip() == "UsageError: %%train is a cell magic, but the cell body is empty."


def test_a_dry_run_shows_plan_and_script_and_writes_nothing(nb: Kernel, nothing_written: None) -> None:
    cell = nb.ok("%%train --dry-run --name dry --seed 3\nloss = steps(model, optimizer)\n")
    plan, _, script = cell.out.partition("\n\n")
    assert plan.startswith("runs on      local: 1 rank × 1 core")
    assert "returns      model, optimizer, loss" in plan
    assert "seed 3" in plan
    assert "def steps(model, optimizer, count=5):" in script
    assert "loss = steps(model, optimizer)" in script
    assert cell.displays == []
    compile(script, "script.py", "exec")
    assert nb.look("'loss' in globals()") == "False"


def test_a_dry_run_does_not_move_the_session_s_random_numbers(nb: Kernel) -> None:
    nb.ok("state = torch.get_rng_state()")
    nb.ok("%%train --dry-run\nx = torch.rand(1)\n")
    assert nb.ok("torch.equal(state, torch.get_rng_state())").result == "True"


def holding(root: Path, text: str) -> list[Path]:
    """Files under ``root`` that hold ``text``, or have it in their names."""
    found = [path for path in root.rglob("*") if text in path.name]
    return found + [path for path in root.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_a_credential_goes_along_when_named_with_in(nb: Kernel) -> None:
    nb.ok(f"key = {SECRET!r}")
    cell = nb.ok("%%train --name trusted --in key --wait\nlength = len(key)\n")
    assert nb.ok("length").result == str(len(SECRET))
    folder = runs["trusted"].dir
    assert {path.parent for path in holding(folder, SECRET)} == {folder / "inputs"}
    assert SECRET not in cell.text + nb.ok("%%train --dry-run --in key\nlength = len(key)\n").text


def test_a_variable_named_with_env_reaches_the_ranks_and_no_file(nb: Kernel) -> None:
    value = SECRET[::-1]
    nb.ok(f"import os\nos.environ['SERVICE_TOKEN'] = {value!r}")
    cell = nb.ok(
        "%%train --name environed --env SERVICE_TOKEN --env PLAIN=yes --wait\n"
        "import os\nlength, plain = len(os.environ['SERVICE_TOKEN']), os.environ['PLAIN']\n"
    )
    assert nb.ok("length, plain").result == f"({len(value)}, 'yes')"
    assert holding(nb.runs, value) == []
    assert value not in cell.text
    assert runs["environed"].task.environment["env"] == ["PLAIN", "SERVICE_TOKEN"]
    nb.ok("%%train --name bare --wait\nimport os\nthere = 'SERVICE_TOKEN' in os.environ\n")
    assert nb.ok("there").result == "False"


def test_a_bad_environment_value_is_not_repeated(nb: Kernel) -> None:
    assert SECRET not in nb.run(f"%%train --env 'NO NAME={SECRET}'\npass\n").message


def test_a_runs_root_that_can_not_be_written_is_one_line(nb: Kernel, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    nb.ok(f"import os\nos.environ['MLNB_RUNS'] = {str(tmp_path / 'file' / 'runs')!r}")
    try:
        message = nb.run("%%train\npass\n").message
    finally:
        nb.ok(f"os.environ['MLNB_RUNS'] = {str(nb.runs)!r}")
    assert message == (
        f"mlnb: can't write {tmp_path / 'file' / 'runs'}: part of the path is not a directory. "
        "Free space there or set MLNB_RUNS to another folder."
    )
