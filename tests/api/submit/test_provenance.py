"""A run says where its code and its machine came from."""

from __future__ import annotations

import subprocess
from pathlib import Path

from mlnb.api.submit.provenance import git_state
from mlnb.rundir import read_json
from tests.conftest import Start


def git(folder: Path, *words: str) -> None:
    identity = ["-c", "user.name=someone", "-c", "user.email=someone@example.org"]
    subprocess.run(["git", *identity, "-C", str(folder), *words], check=True, capture_output=True)


def test_the_commit_is_known_and_whether_files_have_changed_since(tmp_path: Path) -> None:
    git(tmp_path, "init", "-b", "work")
    (tmp_path / "train.py").write_text("1")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-m", "first")
    clean = git_state(tmp_path)
    assert clean is not None
    assert clean["branch"] == "work"
    (tmp_path / "train.py").write_text("2")
    assert git_state(tmp_path) == {"commit": clean["commit"] + "-dirty", "branch": "work"}


def test_outside_a_repository_nothing_is_said(tmp_path: Path) -> None:
    assert git_state(tmp_path) is None


def test_a_node_leaves_its_hardware_and_packages(start: Start) -> None:
    run = start("pass").wait(60)
    found = read_json(run.directory.attempt(1).machine(0))
    assert found is not None
    assert found["cores"] >= 1
    assert found["memory"] > 0
    assert (
        found["packages"]["torch"] == found["torch"].partition("+")[0] or found["packages"]["torch"] == found["torch"]
    )
