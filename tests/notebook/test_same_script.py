"""A task's digest is its identity: the same notebook makes the same script, whatever Python hashes strings to."""

from __future__ import annotations

import os
import subprocess
import sys

SESSION = """
from pathlib import Path
from IPython.core.interactiveshell import InteractiveShell
from mlnb.capture import Session, capture
shell = InteractiveShell.instance()
for cell in [
    "import json, math, os\\nfrom collections import Counter, OrderedDict as Ordered",
    "a, b, c, d, e, f = 1, 2.5, 'x', [1, 2], {'k': {1, 2, 'b'}}, {'one', 'two'}",
    "def first(): return a + b + len(c) + second()\\n"
    "def second(): return sum(d) + len(e) + third()\\ndef third(): return math.pi + len(f)\\n"
    "class Base:\\n    def get(self): return first(), json.loads('1')\\nclass Derived(Base): pass",
]:
    shell.run_cell(cell, store_history=True).raise_error()
session = Session(shell.user_ns, shell.user_ns_hidden, shell.user_ns["In"], Path.cwd(), shell.transform_cell)
captured = capture("print(Derived().get(), Counter(f), Ordered(e), os.sep, third())", session)
print(captured.script, captured.inputs, captured.outputs)
"""


def test_the_script_does_not_depend_on_hashes() -> None:
    made = {
        subprocess.run(
            [sys.executable, "-c", SESSION],
            env={**os.environ, "PYTHONHASHSEED": str(seed)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in range(1, 4)
    }
    assert len(made) == 1
    assert "class Derived(Base)" in made.pop()
