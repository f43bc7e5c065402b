"""A target of another distribution, that of docs/contributing/add-a-target.md: its one option works everywhere."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import pytest

from mlnb.api import completion, runs
from mlnb.api.submit.option_help import every_option, help_text
from mlnb.errors import UsageError
from mlnb.targets.base import TargetKind
from mlnb.targets.registry import load_kind, target
from mlnb.task import Resources
from tests.cli.conftest import Ended, Shell
from tests.option_line import parse
from tests.targets.distributions import installed, write_distribution

PAGE = Path(__file__).parents[2] / "docs" / "contributing" / "add-a-target.md"

SCRIPT = """
import os, sys
from pathlib import Path
import torch
import mlnb
model = torch.nn.Linear(1, 1)
for epoch in mlnb.epochs(2, model=model):
    if epoch == 1 and not Path(sys.argv[1]).exists():
        raise SystemExit("not yet")
print("colour", os.environ.get("COLOUR"))
"""


@pytest.fixture
def site_packages(tmp_path: Path) -> Path:
    """The distribution of the page, and one that can't be imported."""
    text = PAGE.read_text()
    (module,) = re.findall(r"```python\n(.*?)```", text, re.S)
    (points,) = re.findall(r'entry-points."mlnb.targets"\]\n(\w+) = "(.*?)"\n', text)
    folder = tmp_path / "site-packages"
    write_distribution(folder, "mlnb-painted", {"mlnb_painted": module}, {"mlnb.targets": dict([points])})
    write_distribution(folder, "mlnb-bad", {"mlnb_bad": "1 / 0"}, {"mlnb.targets": {"bad": "mlnb_bad:Bad"}})
    return folder


@pytest.fixture
def here(site_packages: Path) -> Iterator[None]:
    """The distributions are installed for this process."""
    with installed(site_packages):
        yield


@pytest.fixture
def shell(mlnb: Shell, site_packages: Path) -> Shell:
    """The command in an environment in which the distributions are installed."""
    started = mlnb.start

    def start(*words: str, env: dict[str, str] | None = None) -> object:
        return started(*words, env={**(env or {}), "PYTHONPATH": str(site_packages)})

    mlnb.start = start  # type: ignore[method-assign, assignment]
    mlnb.write("train.py", SCRIPT)
    return mlnb


def completed(shell: Shell, line: str) -> list[str]:
    """What bash would offer at the end of ``line``."""
    words = line.split(" ")
    env = {"_MLNB_COMPLETE": "bash_complete", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    ended = shell(env=env)
    assert ended.err == ""
    return [row.partition(",")[2] for row in ended.out.splitlines() if row]


def refusal(line: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(line)
    return str(caught.value)


def test_the_option_is_read_for_its_target_and_refused_by_others(here: None):
    assert parse("--on painted --colour green").target_options == {"colour": "green"}
    assert refusal("--on painted --colour greem") == (
        "--colour greem: --colour takes red or green or blue; did you mean green?"
    )
    assert refusal("--on painted --color red") == "--color: not an option; did you mean --colour?"
    assert refusal("--colour red") == "--colour red: target local has no such option. Targets that have it: painted."
    with pytest.raises(UsageError, match="--colour red: target local has no such option"):
        target("local").offer(Resources(), parse("--on painted --colour red").placement("x"))


def test_the_option_arrives_in_the_placement(here: None):
    options = parse("--on painted --colour green")
    assert options.placement("x").options["colour"] == "green"
    offer = target("painted").offer(options.resources(), options.placement("x"))
    assert (offer.placement["colour"], offer.summary_lines[-1]) == ("green", "painted green")


def test_help_has_the_option_and_says_whose_it_is(here: None):
    shown = help_text(every_option())
    assert re.search(r"^  --colour red\|green\|blue +the colour of the run \(only painted\)$", shown, re.MULTILINE)


def test_the_notebook_completes_the_option_and_its_values(here: None):
    assert completion.candidates(["--on", "painted"], "--col", runs) == ["--colour"]
    assert completion.candidates([], "--col", runs) == ["--colour"]
    assert completion.candidates(["--on", "local"], "--col", runs) == []
    assert completion.candidates(["--on", "painted", "--colour"], "", runs) == ["red", "green", "blue"]
    assert completion.candidates(["--on"], "pai", runs) == ["painted"]


def test_the_class_is_a_kind_of_targets(here: None):
    kind = cast(TargetKind, load_kind("painted"))
    assert (kind.kind, "colour" in kind.settings) == ("painted", True)
    with pytest.raises(UsageError, match=r"^target kind bad of the distribution mlnb-bad can't be loaded: "):
        target("bad")


def test_a_shell_completes_the_option_and_its_values(shell: Shell):
    assert completed(shell, "mlnb run --on pai") == ["painted"]
    assert completed(shell, "mlnb run --on painted --col") == ["--colour"]
    assert completed(shell, "mlnb run --on painted --colour ") == ["red", "green", "blue"]
    assert completed(shell, "mlnb run --on local --col") == []


def test_a_run_goes_through_it_and_its_option_is_asked_for_again(shell: Shell):
    words = ["--cpus", "1", "--name", "one"]
    first = shell("run", "--on", "painted", "--colour", "blue", *words, "train.py", "gate")
    assert first.code == 1, first.err
    run = runs["one"]
    info = run.info
    assert (info.target, (info.asked or {})["colour"], info.placement["colour"]) == ("painted", "blue", "blue")
    shell.write("gate", "")
    assert _planned(shell("run", "--resume", "one", "--dry-run")).endswith("painted blue")
    assert _planned(shell("run", "--resume", "one", "--colour", "red", "--dry-run")).endswith("painted red")
    elsewhere = shell("run", "--resume", "one", "--on", "local", "--dry-run")
    assert "without --colour blue" in elsewhere.out
    again = shell("run", "--resume", "one")
    assert (again.code, again.out) == (0, "colour blue\n"), again.err
    assert run.attempts == 2


def _planned(ended: Ended) -> str:
    """What the plan says of the target's choices, before what it says of the resumed run."""
    assert ended.code == 0, ended.err
    return ended.out.splitlines()[0].rpartition("; continues from ")[0] or ended.out.splitlines()[0]


def test_without_the_distribution_the_run_is_still_there_and_says_what_is_missing(mlnb: Shell, shell: Shell):
    shell.write("gate", "")
    assert shell("run", "--on", "painted", "--cpus", "1", "--name", "one", "train.py", "gate").code == 0
    assert os.environ.get("PYTHONPATH") is None
    assert runs["one"].state == "succeeded"
    with pytest.raises(UsageError, match=r"^Unknown target painted\. Available: "):
        target("painted")
