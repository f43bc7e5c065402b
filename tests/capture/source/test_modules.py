"""Which modules are local, and so are sent; and which files can be scanned."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from mlnb.capture.source.modules import LocalModules, import_folders


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the import path, with two modules."""
    (tmp_path / "own_a.py").write_text("import own_b\n")
    (tmp_path / "own_b.py").write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


def sent(folder: Path) -> list[str]:
    modules = LocalModules(folder)
    modules.add("own_a")
    return sorted(modules.contents)


def test_modules_of_a_folder_are_sent_but_not_those_of_an_installation(folder: Path):
    assert sent(folder) == ["modules/own_a.py", "modules/own_b.py"]
    assert str(folder) in import_folders()
    (folder / "own-1.0.dist-info").mkdir()
    assert sent(folder) == []


@pytest.mark.parametrize(
    "content",
    [
        b"print 'Python 2'\n",
        "s = 'gr\u00f6\u00dfer'\n".encode("latin-1"),
        b"# coding: nothing-such\n",
        b"\x00\xff",
        b"s = '\\d'\n",
    ],
    ids=["of Python 2", "in Latin 1", "in no encoding", "not text", "with an old escape"],
)
def test_a_file_that_is_only_scanned_may_be_of_any_encoding_or_age(folder: Path, content: bytes):
    (folder / "own_b.py").write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert sent(folder) == ["modules/own_a.py", "modules/own_b.py"]
