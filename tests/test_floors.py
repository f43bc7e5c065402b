"""The floors of the house: imports point down only, and ``import mlnb`` is light."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import mlnb

ROOT = Path(mlnb.__file__).parent
FLOORS = (
    ("errors", "task", "rundir", "files", "manifest", "runinfo", "units", "version"),
    ("node",),
    ("workspace",),
    ("targets",),
    ("capture",),
    ("api",),
    ("render",),
    ("cli", "notebook", "server"),
)
HEIGHT = {name: height for height, names in enumerate(FLOORS) for name in names}
NODE_MAY_USE = frozenset({"torch"})
NODE_MAY_USE_INSIDE_FUNCTIONS = frozenset({"numpy", "matplotlib", "pynvml"})
FILES = sorted(path for path in ROOT.rglob("*.py") if "labextension" not in path.parts)


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """The modules that a file imports, and whether it does so only inside of a function."""

    def walk(node: ast.AST, inside: bool) -> Iterator[tuple[str, bool]]:
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, inside
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide which floor they lead to"
            yield node.module or "", inside
            if node.module == "mlnb":
                yield from ((f"mlnb.{alias.name}", inside) for alias in node.names)
        within = inside or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
        for child in ast.iter_child_nodes(node):
            yield from walk(child, within)

    yield from walk(ast.parse(path.read_text(encoding="utf-8")), False)


def floor(module: str) -> int | None:
    """How high a module of ours stands; ``None`` for others and for the package itself."""
    parts = module.split(".")
    return HEIGHT.get(parts[1]) if parts[0] == "mlnb" and len(parts) > 1 else None


def own_floor(path: Path) -> int | None:
    return HEIGHT.get(path.relative_to(ROOT).parts[0].removesuffix(".py"))


def test_every_file_stands_on_a_floor():
    homeless = [str(path.relative_to(ROOT)) for path in FILES if own_floor(path) is None]
    assert homeless == ["__init__.py"]


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_imports_point_down(path: Path):
    mine = own_floor(path)
    if mine is None:
        return  # the package itself: test_import_is_light holds it
    up = [module for module, _ in imports(path) if (floor(module) or 0) > mine]
    assert up == []


@pytest.mark.parametrize("path", sorted((ROOT / "node").rglob("*.py")), ids=lambda path: path.name)
def test_the_node_program_needs_only_the_standard_library_and_torch(path: Path):
    for module, inside in imports(path):
        top = module.split(".")[0]
        allowed = (
            top in sys.stdlib_module_names
            or top in NODE_MAY_USE
            or (top == "mlnb" and (module == "mlnb" or (floor(module) or 0) <= HEIGHT["node"]))
            or (top in NODE_MAY_USE_INSIDE_FUNCTIONS and (inside or path.name == "mpl_backend.py"))
        )
        assert allowed, f"{path.name} imports {module}"


def file_graph() -> dict[str, set[str]]:
    """Every module of ours with those of ours that it imports, inside of functions and for types too."""
    modules = {name_of(path): path for path in FILES}
    graph: dict[str, set[str]] = {}
    for name, path in modules.items():
        imported = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                imported |= {name_ if name_ in modules else str(node.module) for name_ in inner}
        graph[name] = (imported & set(modules)) - {name}
    return graph


def name_of(path: Path) -> str:
    return ".".join(["mlnb", *path.relative_to(ROOT).with_suffix("").parts]).removesuffix(".__init__")


def circle(graph: dict[str, set[str]]) -> list[str]:
    """Names each of which leads to the next, and the last to the first; empty where there are none such."""
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        return list(error.args[1])
    return []


def test_no_file_imports_itself_by_way_of_others():
    assert circle(file_graph()) == []


def test_no_folder_imports_itself_by_way_of_others():
    """In each folder, what stands there (files, and folders with all in them) has an order."""
    graphs: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for name, imported in file_graph().items():
        for other in imported:
            mine, its = [*name.split("."), "__init__"], [*other.split("."), "__init__"]
            depth = next(i for i, (a, b) in enumerate(zip(mine, its, strict=False)) if a != b)
            graphs[".".join(mine[:depth])][mine[depth]].add(its[depth])
    assert len(graphs) > 10
    assert {folder: path for folder, graph in graphs.items() if (path := circle(graph))} == {}


@pytest.mark.parametrize("folder", ["node", "targets", "targets/batch", "capture", "api"])
def test_a_folder_holds_a_dozen_files_at_most(folder: str):
    assert len(list((ROOT / folder).glob("*.py"))) <= 12


def test_no_folder_holds_more_than_a_dozen_modules():
    modules = [path for path in ROOT.rglob("*.py") if path.name != "__init__.py"]
    counts = Counter(path.parent.relative_to(ROOT).as_posix() for path in modules)
    assert {folder: count for folder, count in counts.items() if count > 12} == {}


def test_the_data_need_the_standard_library_only():
    for name in FLOORS[0]:
        for module, _ in imports(ROOT / f"{name}.py"):
            top = module.split(".")[0]
            assert top in sys.stdlib_module_names or floor(module) == 0


def loaded_by(statement: str) -> set[str]:
    """The top-level packages that a fresh interpreter has loaded after ``statement``."""
    code = f"{statement}\nimport sys\nprint(*sorted({{name.split('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    return set(done.stdout.split())


def test_import_is_light():
    heavy = {"torch", "numpy", "pandas", "matplotlib", "IPython", "dask", "distributed", "ipywidgets", "anywidget"}
    assert not loaded_by("import mlnb") & heavy


def test_the_command_line_needs_no_ipython():
    assert "IPython" not in loaded_by("import mlnb.cli, mlnb.cli.run, mlnb.cli.pool, mlnb.render.runs_table")


@pytest.mark.parametrize(
    "line", ["--help", "run --help", "pool start --help", "run --dry-run x.py", "run --on slurm --partition", "run --x"]
)
def test_the_command_line_imports_no_target_s_libraries(line: str):
    main = (
        "import contextlib, io, mlnb.cli\n"
        "with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()), "
        f"contextlib.redirect_stderr(io.StringIO()): mlnb.cli.main({line.split()!r})"
    )
    heavy = {"torch", "dask_jobqueue", "distributed", "IPython", "pandas", "matplotlib", "htcondor"}
    assert not loaded_by(main) & (heavy if line != "--help" else {*heavy, "numpy", "dask"})


def test_the_data_are_read_without_torch():
    assert "torch" not in loaded_by("import mlnb.rundir, mlnb.task, mlnb.errors")
