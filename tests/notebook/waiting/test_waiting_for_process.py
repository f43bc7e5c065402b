"""A cell that reads a setting, a variable or a place that a run may change waits; one that doesn't runs at once."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlnb.api import runs
from mlnb.rundir import FINAL
from tests.notebook.conftest import Gate
from tests.notebook.kernels import Kernel

CHANGES = {
    "a setting of torch": ("torch.set_default_dtype(torch.float64)", "torch.zeros(1).dtype", "torch.float64"),
    "an option of pandas": ("pd.set_option('display.max_rows', 7)", "pd.options.display.max_rows", "7"),
    "a logger": ("logging.getLogger('mine').setLevel('ERROR')", "logging.getLogger('mine').level", "40"),
    "a local module": ("shared_cfg.STEPS = 5", "import shared_cfg as other\nother.steps()", "5"),
    "a variable": ("os.environ['CHOSEN'] = 'there'", "os.getenv('CHOSEN')", "'there'"),
    "a variable, for a command": ("%env CHOSEN=there", "!echo $CHOSEN", "there"),
    "the folder": ("os.chdir('below')", "os.path.basename(os.getcwd())", "'below'"),
    "the folder of a path": ("os.chdir('below')", "open('note.txt').read()", "'below'"),
    "the import path": ("sys.path.append(os.path.abspath('below'))", "import of_below\nof_below.VALUE", "5"),
}


@pytest.fixture
def prepared(nb: Kernel) -> Iterator[Kernel]:
    (nb.cwd / "shared_cfg.py").write_text("STEPS = 1\ndef steps(): return STEPS\n")
    (nb.cwd / "below").mkdir(exist_ok=True)
    (nb.cwd / "below" / "of_below.py").write_text("VALUE = 5\n")
    (nb.cwd / "note.txt").write_text("here")
    (nb.cwd / "below" / "note.txt").write_text("below")
    nb.ok("import logging, os, sys, pandas as pd, shared_cfg, torch\n_before = os.getcwd(), [*sys.path]")
    yield nb
    nb.ok("os.chdir(_before[0]); sys.path[:] = _before[1]; torch.set_default_dtype(torch.float32)")


@pytest.mark.parametrize(("change", "reader", "expected"), CHANGES.values(), ids=CHANGES)
def test_who_reads_what_a_run_changes_in_the_process_waits(
    prepared: Kernel, gate: Gate, change: str, reader: str, expected: str
) -> None:
    nb = prepared
    nb.ok(f"%%train --name changing\n{gate.wait}\n{change}\n")
    assert nb.ok("6 * 7").result == "42"
    assert runs["changing"].state not in FINAL
    reading = nb.send(reader)
    nb.until_waiting(reading)
    gate.open()
    nb.finish(reading)
    assert expected in (reading.result, reading.out.strip()), reading.text


def test_who_sets_the_same_or_reads_other_libraries_does_not_wait(prepared: Kernel, gate: Gate) -> None:
    nb = prepared
    nb.ok(
        f"%%train --name same\n{gate.wait}\npd.set_option('display.max_rows', 7)\n"
        "torch.backends.cudnn.benchmark = True\ntorch.manual_seed(0)\n"
    )
    assert nb.ok("pd.set_option('display.max_rows', 7)\npd.options.display.max_rows").result == "7"
    assert nb.ok("float(torch.ones(1))").result == "1.0"
    assert runs["same"].state not in FINAL
