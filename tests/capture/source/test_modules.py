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


def test_what_a_function_of_a_local_module_has_cached(nb, monkeypatch):
    (nb.folder / "cachedmod.py").write_text(
        "import functools\n@functools.cache\ndef settings(): return {'lr': 1}\n"
        "class Store:\n    @staticmethod\n    @functools.lru_cache\n    def get(key): return [key]\n"
    )
    monkeypatch.syspath_prepend(str(nb.folder))
    nb.cell("import cachedmod\ncachedmod.settings()['lr'] = 5")
    assert nb.train("result = cachedmod.settings()['lr']")["result"] == 5


def test_methods_and_wrapped_functions_with_caches(nb):
    nb.cell(
        """
        import functools
        def logged(function):
            @functools.wraps(function)
            def call(*args): return function(*args)
            return call
        class Store:
            @staticmethod
            @functools.lru_cache
            def get(key): return [key]
            @functools.lru_cache
            def own(self, key): return {key: self}
        @logged
        @functools.cache
        def table(x): return [x]
        store = Store()
        Store.get(1).append("session")
        store.own("a")["b"] = 2
        table(3).append(4)
        """
    )
    names = nb.train("result = Store.get(1), store.own('a')['b'], store.own('a')['a'] is store, table(3)")
    assert names["result"] == ([1, "session"], 2, True, [3, 4])


def test_what_can_not_be_sent_of_a_cache_is_said(nb):
    nb.cell("import functools, threading\n@functools.cache\ndef worker(): return threading.Thread()\nworker()")
    captured = nb.capture("result = worker()")
    assert any(note.startswith("worker: what it has cached can't be sent (") for note in captured.notes)


def test_modules_that_are_imported_late_and_by_names_that_are_only_known_then(nb, monkeypatch):
    monkeypatch.syspath_prepend(str(nb.folder))
    (nb.folder / "late_a.py").write_text("def f():\n    import late_b\n    return late_b.g()\n")
    (nb.folder / "late_b.py").write_text(
        "def g():\n    import importlib\n    return importlib.import_module('late_c').V\n"
    )
    (nb.folder / "late_c.py").write_text("V = 1\n")
    (nb.folder / "late_d.py").write_text("V = 2\n")
    (nb.folder / "late_kinds").mkdir()
    (nb.folder / "late_kinds" / "one.py").write_text("V = 3\n")
    (nb.folder / "late_unused.py").write_text("V = 4\n")
    nb.cell(
        """
        import importlib
        NAME, KIND = "late_d", "one"
        def first():
            import late_a
            return late_a.f()
        def second(): return importlib.import_module(NAME).V
        def third(): return importlib.import_module(f"late_kinds.{KIND}").V
        """
    )
    sent = {path.removeprefix("modules/") for path in nb.capture("result = first(), second(), third()").files}
    assert sent == {"late_a.py", "late_b.py", "late_c.py", "late_d.py", "late_kinds/one.py"}
    assert not nb.capture("print(NAME)").files
