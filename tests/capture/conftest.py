"""A real IPython session that runs cells as a notebook does, and scripts as a rank does."""

from __future__ import annotations

import sys
import textwrap
import types
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from mlnb.capture import Captured, Session, capture
from mlnb.errors import CannotShip
from mlnb.node.data import inputs
from mlnb.rundir import RunDir


class Notebook:
    """Runs cells, captures cells, and runs what was captured in a namespace of its own."""

    def __init__(self, shell: InteractiveShell, folder: Path) -> None:
        self.shell = shell
        self.folder = folder
        self._runs = 0

    def reset(self) -> None:
        """Empty the session, without the garbage collection at the end of IPython's own reset."""
        with mock.patch.object(self.shell.displayhook, "flush"):
            self.shell.reset()

    @property
    def namespace(self) -> dict[str, Any]:
        return self.shell.user_ns

    def __getitem__(self, name: str) -> Any:
        return self.namespace[name]

    def cell(self, text: str) -> None:
        """Run a cell; an error in it is the test's."""
        result = self.shell.run_cell(textwrap.dedent(text).strip("\n"), store_history=True)
        result.raise_error()

    @property
    def session(self) -> Session:
        return Session(
            namespace=self.shell.user_ns,
            hidden=self.shell.user_ns_hidden,
            history=self.shell.user_ns["In"],
            cwd=self.folder,
            transform=self.shell.transform_cell,
        )

    def capture(self, text: str, **options: Any) -> Captured:
        return capture(textwrap.dedent(text).strip("\n"), self.session, **options)

    def refusal(self, text: str, **options: Any) -> str:
        """The message with which a cell is refused."""
        with pytest.raises(CannotShip) as caught:
            self.capture(text, **options)
        return str(caught.value)

    def write(self, captured: Captured) -> Path:
        """Write a run directory, as submitting does."""
        self._runs += 1
        run = self.folder / f"run-{self._runs}"
        for path, content in captured.hashed_contents().items():
            target = run / path
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            if not target.exists():
                content.write(target)
            target.chmod(0o600)
        run.mkdir(exist_ok=True)
        run.chmod(0o700)
        (run / "inputs").mkdir(exist_ok=True, mode=0o700)
        (run / "inputs").chmod(0o700)
        (run / "script.py").write_text(captured.script)
        return run

    def train(self, text: str, **options: Any) -> dict[str, Any]:
        """Capture a cell and run the script as a rank does; the namespace after that."""
        return self.execute(self.capture(text, **options))

    def execute(self, captured: Captured) -> dict[str, Any]:
        run = self.write(captured)
        main = types.ModuleType("__main__")
        main.__file__ = str(run / "script.py")
        session_main, path, loaded = sys.modules["__main__"], list(sys.path), dict(sys.modules)
        shipped = {p.name.split(".")[0] for p in (run / "modules").glob("*")}
        try:
            sys.modules["__main__"] = main
            sys.path.insert(0, str(run / "modules"))
            for name in list(sys.modules):
                if name.split(".")[0] in shipped:
                    del sys.modules[name]
            inputs.begin(RunDir(run))
            exec(compile(captured.script, "script.py", "exec", dont_inherit=True), main.__dict__)
        finally:
            sys.modules["__main__"] = session_main
            sys.path[:] = path
            for name in shipped:
                for module in [n for n in sys.modules if n.split(".")[0] == name]:
                    del sys.modules[module]
            sys.modules.update({n: m for n, m in loaded.items() if n.split(".")[0] in shipped})
        return main.__dict__


@pytest.fixture(scope="session")
def shell() -> Iterator[InteractiveShell]:
    before = sys.modules["__main__"]
    config = Config()
    config.HistoryManager.enabled = False
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        shell = InteractiveShell.instance(config=config)
    yield shell
    InteractiveShell.clear_instance()
    sys.modules["__main__"] = before


@pytest.fixture
def nb(shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Notebook]:
    """An empty notebook whose working directory is the test's own."""
    notebook = Notebook(shell, tmp_path)
    notebook.reset()
    monkeypatch.chdir(tmp_path)
    before = sys.modules["__main__"]
    sys.modules["__main__"] = shell.user_module
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings of the session's own code
        yield notebook
    sys.modules["__main__"] = before
