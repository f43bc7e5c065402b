"""What was imported is compared with what is installed only after something was installed."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlnb.node.process.imported_files import ImportedFiles


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of ``sys.path`` with an imported package."""
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "mlnb_installed.py").write_text("version = 1\n")
    importlib.import_module("mlnb_installed")
    yield tmp_path
    del sys.modules["mlnb_installed"]


def test_another_package_changes_nothing(folder: Path):
    installs: list[bool] = []
    imported = ImportedFiles(on_install=lambda: installs.append(True))
    assert not imported.have_changed()
    (folder / "mlnb_other.py").touch()
    assert not imported.have_changed()
    assert installs == [True]


def test_a_package_that_was_replaced_has_changed(folder: Path):
    imported = ImportedFiles(on_install=lambda: None)
    (folder / "new").write_text("version = 2\n")
    (folder / "new").replace(folder / "mlnb_installed.py")
    assert imported.have_changed()
    assert imported.have_changed()


def test_a_package_that_was_removed_has_changed(folder: Path):
    imported = ImportedFiles(on_install=lambda: None)
    (folder / "mlnb_installed.py").unlink()
    assert imported.have_changed()


def test_a_path_file_that_was_added_counts(folder: Path):
    imported = ImportedFiles(on_install=lambda: None)
    (folder / "editable.pth").write_text("/src\n")
    assert imported.have_changed()
