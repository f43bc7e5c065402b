"""Local modules: modules beside the notebook or on the path that aren't installed, and so are sent with the run."""

from __future__ import annotations

import ast
import functools
import importlib.util
import os
import re
import site
import sys
import sysconfig
import types
import warnings
from collections import deque
from collections.abc import Collection, Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path

from mlnb.capture.ship import secrets
from mlnb.capture.ship.contents import Content, FileContent
from mlnb.capture.source.bytecode import all_codes, code_key
from mlnb.errors import CannotShip

DATA_LIMIT = 1024 * 1024
"""Bytes: larger files of a package that aren't Python are not sent."""

_SKIPPED_FOLDERS = frozenset({"__pycache__", "node_modules", "site-packages", "dist-packages"})
_SKIPPED_NAMES = frozenset({"credentials.json", "id_rsa", "id_ed25519", "secrets.json", "secrets.yaml", "secrets.toml"})
_SKIPPED_ENDINGS = (".pyc", ".pyo", ".pem", ".key", ".ipynb")


class LocalModules:
    """Collects the files of local modules, and of the local modules that they import.

    Parameters
    ----------
    cwd
        the session's working directory.
    allowed
        modules whose source may hold credentials, since the user has listed them (``--in``).

    Attributes
    ----------
    contents
        path in the run directory → file.
    sizes
        name of each module → bytes.
    folders
        name of each module → the folder that it is imported from.
    notes
        what to tell the user.
    """

    def __init__(self, cwd: Path, allowed: Collection[str] = ()) -> None:
        self._cwd = cwd
        self._allowed = set(allowed)
        self._visited: set[str] = set()
        self.contents: dict[str, Content] = {}
        self.sizes: dict[str, int] = {}
        self.folders: dict[str, str] = {}
        self.notes: list[str] = []

    def add(self, module: str) -> None:
        """Add ``module``, if it is local, and the local modules that it imports.

        Raises
        ------
        CannotShip
            if one of them holds what looks like a credential.
        """
        queue = deque([module.split(".")[0]])
        while queue:
            root = queue.popleft()
            if root in self._visited:
                continue
            self._visited.add(root)
            if not root or root in ("__main__", "mlnb", "builtins") or root in sys.stdlib_module_names:
                continue
            files = list(self._files(root))
            for path, relative in files:
                self.contents[f"modules/{relative}"] = FileContent(path)
                if path.suffix == ".py":
                    self._check_secrets(path, root)
                    queue.extend(sorted(imported_by(path)))
            if files:
                self.sizes[root] = sum(path.stat().st_size for path, _ in files)
                path, relative = files[0]
                self.folders[root] = str(path).removesuffix(relative).rstrip("/")
                self._note_edits(root)

    @property
    def roots(self) -> frozenset[str]:
        """The top-level modules that were added, and those that local ones among them import."""
        return frozenset(self._visited)

    def trees(self) -> Iterator[ast.Module]:
        """The parsed files of the modules that were added."""
        for content in self.contents.values():
            if isinstance(content, FileContent) and content.path.suffix == ".py" and (tree := parsed(content.path)):
                yield tree

    def is_local(self, root: str) -> bool:
        """Whether the loaded module ``root`` isn't installed."""
        module = sys.modules.get(root)
        paths = [*getattr(module, "__path__", ()), *filter(None, [getattr(module, "__file__", None)])]
        return bool(paths) and not any(self._installed(Path(path)) for path in paths)

    def _files(self, root: str) -> Iterator[tuple[Path, str]]:
        """The files of the local module ``root`` and their paths below ``modules/``."""
        module = sys.modules.get(root)
        spec = getattr(module, "__spec__", None) if module is not None else _spec(root)
        folders = list(getattr(module, "__path__", ())) or list(getattr(spec, "submodule_search_locations", None) or ())
        file = getattr(module, "__file__", None) or getattr(spec, "origin", None)
        if folders:
            for folder in folders:
                if not self._installed(Path(folder)):
                    yield from self._package(Path(folder), root)
        elif file and Path(file).is_file() and not self._installed(Path(file)):
            yield Path(file), Path(file).name

    def _package(self, folder: Path, root: str) -> Iterator[tuple[Path, str]]:
        """The files of a package that are sent: nothing hidden, no caches or keys, no large data."""
        for parent, folders, names in os.walk(folder):
            folders[:] = sorted(name for name in folders if name not in _SKIPPED_FOLDERS and not name.startswith("."))
            for name in sorted(names):
                path = Path(parent) / name
                if name.startswith(".") or name in _SKIPPED_NAMES or name.endswith(_SKIPPED_ENDINGS):
                    continue
                if not path.is_file():
                    continue
                if path.suffix != ".py" and path.stat().st_size > DATA_LIMIT:
                    self.notes.append(
                        f"{path} is larger than 1 MB and was not sent: add --in {path} if the run needs it"
                    )
                    continue
                yield path, str(Path(root) / path.relative_to(folder))

    def _installed(self, path: Path) -> bool:
        """Whether a file or folder is part of an installation, which the run has too."""
        if _is_installation(path.parent):
            return True
        path = path.resolve()
        if {"site-packages", "dist-packages"} & set(path.parts):
            return True
        if any(path.is_relative_to(folder) for folder in _library_folders()):
            return True
        return path.is_relative_to(Path(sys.prefix).resolve()) and not path.is_relative_to(self._cwd.resolve())

    def _check_secrets(self, path: Path, root: str) -> None:
        if root in self._allowed or str(path) in self._allowed:
            return
        tree = parsed(path)
        for what, line in secrets.find_in_source(tree) if tree else ():
            raise CannotShip(
                f"line {line} of {path} ({what}) looks like a credential, and the cell needs the module {root}. "
                f"Read it from the environment (--env NAME and os.environ['NAME']), or add --in {root}."
            )

    def _note_edits(self, root: str) -> None:
        """Tell the user which files of ``root`` were edited after they were imported."""
        for name in sorted(name for name in sys.modules if name == root or name.startswith(root + ".")):
            module = sys.modules[name]
            file = getattr(module, "__file__", None)
            if file and Path(file).is_file() and file.endswith(".py") and _edited(module, Path(file)):
                self.notes.append(f"{Path(file).name} was edited since it was imported: the run uses the edited file")


def _is_installation(folder: Path) -> bool:
    """Whether packages were installed into a folder, as by ``pip install --target``."""
    try:
        return any(path.suffix == ".dist-info" for path in folder.iterdir())
    except OSError:
        return False


def import_folders() -> list[str]:
    """The folders of this process's import path that are not of its Python: a run searches them last."""
    own = [*_library_folders(), Path(sys.prefix).resolve(), Path(sys.base_prefix).resolve()]
    folders = [Path(entry) for entry in sys.path if entry and Path(entry).is_dir()]
    return [str(path) for path in folders if not any(path.resolve().is_relative_to(folder) for folder in own)]


@functools.lru_cache(maxsize=1)
def _library_folders() -> list[Path]:
    paths = [sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    paths += [*site.getsitepackages(), site.getusersitepackages()]
    return [Path(path).resolve() for path in paths if path]


def _spec(root: str) -> ModuleSpec | None:
    try:
        return importlib.util.find_spec(root)
    except (ImportError, ValueError, AttributeError):
        return None


def imported_by(path: Path) -> frozenset[str]:
    """The top-level modules that a Python file imports anywhere; cached while the file isn't modified."""
    return _imported_by(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=512)
def _imported_by(path: Path, _modified: int) -> frozenset[str]:
    tree = parsed(path)
    return frozenset(imported_roots(tree) if tree else ())


@functools.lru_cache(maxsize=4096)
def imported_roots(tree: ast.AST) -> frozenset[str]:
    """The top-level modules that code imports anywhere, in functions and by ``import_module("name")`` too.

    Cached, since equal cells share their trees.
    """
    roots: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            roots |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            roots.add(node.module.split(".")[0])
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = getattr(node.func, "attr", getattr(node.func, "id", None))
            if function in ("import_module", "__import__") and isinstance(node.args[0].value, str):
                roots.add(node.args[0].value.split(".")[0])
    return frozenset(roots)


@functools.lru_cache(maxsize=4096)
def imports_by_name(tree: ast.AST) -> bool:
    """Whether code imports modules whose names it only has when it runs."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args)
    return any(
        getattr(call.func, "attr", getattr(call.func, "id", None)) in ("import_module", "__import__")
        and not isinstance(call.args[0], ast.Constant)
        for call in calls
    )


def roots_in_strings(tree: ast.AST) -> set[str]:
    """The top-level modules whose names may stand in the strings of code."""
    strings = (node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str))
    return {text.split(".")[0] for text in strings if re.fullmatch(r"[^\W\d][\w.]*", text)}


def parsed(path: Path) -> ast.Module | None:
    """The parsed file, cached while the file isn't modified; ``None`` if it isn't Python of this version."""
    return _parsed(path, path.stat().st_mtime_ns)


@functools.lru_cache(maxsize=512)
def _parsed(path: Path, _modified: int) -> ast.Module | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old code; it is only read here
        try:
            return ast.parse(path.read_bytes())
        except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
            return None


def _edited(module: types.ModuleType, path: Path) -> bool:
    """Whether a loaded module's functions differ from its file."""
    tree = parsed(path)
    if tree is None:
        return True
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            program = compile(tree, str(path), "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError):  # as of a return outside of a function, which parses
            return True
    keys = {code_key(code) for code in all_codes(program)}
    for value in vars(module).values():
        owned = [value, *vars(value).values()] if isinstance(value, type) else [value]
        for item in owned:
            item = getattr(item, "__func__", item)
            if (
                isinstance(item, types.FunctionType)
                and item.__code__.co_filename == str(path)
                and code_key(item.__code__) not in keys
            ):
                return True
    return False
