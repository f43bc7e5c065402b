"""One rank: a forked process that runs ``script.py`` as ``__main__`` and says itself how that ended."""

from __future__ import annotations
import __future__

import ast
import atexit
import os
import random
import sys
import threading
import traceback
import types
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb.node.data import inputs
from mlnb.node.rank import display, log, stop
from mlnb.node.rank.tracebacks import describe
from mlnb.rundir import RunDir, write_json
from mlnb.task import Task

if TYPE_CHECKING:
    from mlnb.node.rank.training_hooks import TrainingHooks


@dataclass(frozen=True)
class RankInfo:
    """Which rank this is, as torchrun counts."""

    rank: int
    local_rank: int
    node: int
    attempt: int


def run_rank(run_dir: RunDir, run_id: str, task: Task, place: RankInfo) -> int:
    """Run the script in this (fresh, forked) process.

    Returns
    -------
    int
        the exit code: 0 only after the rank has written that it succeeded.
    """
    attempt = run_dir.attempt(place.attempt)
    account: dict[str, Any]
    code = 1
    try:
        stop.install_handlers()
        metrics = log.begin(attempt.metrics(place.rank))
        display.begin(attempt.figures if place.rank == 0 else None)
        account, code = _train(run_dir, run_id, task, place)
    except BaseException as error:  # noqa: BLE001 - nothing may leave a rank without an account
        account = _failed(error, run_dir, task)
    stop.ignore_signals()
    metrics.flush()
    if metrics.error:
        account.setdefault("notes", []).append(metrics.error)
    threading._shutdown()  # type: ignore[attr-defined]  # non-daemon threads end first, as at any exit
    atexit._run_exitfuncs()
    metrics.flush()
    try:
        write_json(attempt.exit(place.rank), account)
    except Exception as error:  # noqa: BLE001 - the disk is full, most likely
        print(f"mlnb: {error}", file=sys.stderr)
        code = stop.NO_SPACE
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or stop.NO_SPACE
    return code


def _train(run_dir: RunDir, run_id: str, task: Task, place: RankInfo) -> tuple[dict[str, Any], int]:
    notes: list[str] = []
    hooks = _install_hooks(task)
    together = hooks is not None and _train_together(run_dir, task, place, hooks, notes)
    device = f"cuda:{place.local_rank}" if task.resources.gpus else "cpu"
    data = inputs.begin(run_dir, device)
    _prepare(run_dir, task, 0 if together else place.rank)
    main = types.ModuleType("__main__")
    main.__file__ = str(_file(run_dir, task))
    sys.modules["__main__"] = main
    namespace = main.__dict__
    try:
        before = _execute(run_dir, task, namespace)
        display.show_open_figures()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        if isinstance(error, stop.Stopped):
            return {"state": "stopped", "notes": notes}, stop.STOPPED
        if code:
            reason = f"the script ended itself with sys.exit({error.code!r})"
            return {"state": "failed", "error": {"type": "SystemExit", "message": reason, "text": ""}}, code
        before = {}
    except BaseException as error:  # noqa: BLE001 - the script's own, to be shown
        return _failed(error, run_dir, task), 1
    if place.rank == 0 and (task.outputs or task.inputs or task.deletes):
        from mlnb.node.data import outputs

        after = outputs.fingerprints(before, namespace, data)
        changed = [name for name in task.inputs if name not in namespace or after.get(name) != before.get(name)]
        changed = [name for name in changed if name not in task.outputs]
        notes += outputs.write(run_dir, run_id, task, namespace, data, changed)
    trained = {"backwards": hooks.backwards, "steps": hooks.steps} if hooks else {}
    return {"state": "succeeded", "notes": notes, "trained": trained}, 0


def _failed(error: BaseException, run_dir: RunDir, task: Task) -> dict[str, Any]:
    report = describe(error, str(run_dir.script), task.segments)
    print(report["text"], end="", file=sys.stderr)
    return {"state": "failed", "error": report}


def _install_hooks(task: Task) -> TrainingHooks | None:
    """Hook into torch, if there is torch, to log the training."""
    if "torch" not in sys.modules:
        return None
    from mlnb.node.checkpoint import loader_positions
    from mlnb.node.rank.training_hooks import TrainingHooks

    hooks = TrainingHooks(log.current, task.resources.world_size if task.parallel == "auto" else 1)
    hooks.install()
    loader_positions.backwards = lambda: hooks.backwards
    return hooks


def _train_together(run_dir: RunDir, task: Task, place: RankInfo, hooks: TrainingHooks, notes: list[str]) -> bool:
    """Make the ranks of a plain loop one training; whether that is done. ``notes`` takes what it says."""
    world = task.resources.world_size
    if world == 1 or task.parallel == "none":
        return False
    from mlnb.node.parallel.data_parallel import DataParallel, distributes_itself

    def say(line: str) -> None:
        if place.rank == 0 and line not in notes:
            notes.append(line)

    for path in (run_dir.script, *sorted(run_dir.modules.rglob("*.py"))):
        name = distributes_itself(path.read_text(encoding="utf-8"))
        if name is not None:
            say(f"{path.name} uses {name}: mlnb shards no data and averages no gradients")
            return False
    hooks.ungrouped_ranks = 1
    torch = sys.modules["torch"]

    def modules() -> list[Any]:
        return [value for value in vars(sys.modules["__main__"]).values() if isinstance(value, torch.nn.Module)]

    DataParallel(place.rank, world, modules, hooks, say).install()
    return True


def _prepare(run_dir: RunDir, task: Task, shift: int) -> None:
    """Import path, arguments, threads and seeds (``shift`` tells ranks apart that don't train together)."""
    file = _file(run_dir, task)
    sys.argv = [str(file), *task.argv]
    here = file.parent if task.environment.get("file") else Path.cwd()
    sys.path[:0] = [str(run_dir.modules), str(here)]
    numpy, torch = sys.modules.get("numpy"), sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    if task.seed is None:
        return
    seed = task.seed + shift
    random.seed(seed)
    if numpy is not None:
        numpy.random.seed(seed % 2**32)
    if torch is not None:
        torch.manual_seed(seed)


def _file(run_dir: RunDir, task: Task) -> Path:
    """What the script takes for its own file: data beside it is found where it still stands there."""
    original = Path(task.environment.get("file") or run_dir.script)
    return original if original.exists() else run_dir.script


def _execute(run_dir: RunDir, task: Task, namespace: dict[str, Any]) -> dict[str, Any]:
    """Run the script; a last line that is an expression is displayed, as in a notebook.

    Returns
    -------
    dict
        fingerprints of the inputs as they were before the cell.
    """
    filename = str(run_dir.script)
    tree = ast.parse(task.script, filename)
    cell = _cell_start(task)
    head = [node for node in tree.body if node.lineno < cell]
    body = [node for node in tree.body if node.lineno >= cell]
    last = body.pop() if task.interactive and body and isinstance(body[-1], ast.Expr) else None
    flags = _future(tree)
    _run_nodes(head, filename, namespace, flags)
    if inputs.current is not None:  # what the script wrote as literals came from the session too
        inputs.current.values.update({name: namespace[name] for name in task.inputs if name in namespace})
    before: dict[str, Any] = {}
    unexpected = [name for name in task.inputs if name not in task.outputs]
    if unexpected and os.environ.get("RANK") == "0":
        from mlnb.node.data import outputs

        before = outputs.fingerprints(unexpected, namespace)
    _run_nodes(body, filename, namespace, flags)
    if isinstance(last, ast.Expr):
        code = compile(ast.Expression(last.value), filename, "eval", flags, dont_inherit=True)
        value = eval(code, namespace)  # noqa: S307 - the cell's own last line
        if value is not None:
            display.display(value)
    return before


def _run_nodes(nodes: list[ast.stmt], filename: str, namespace: dict[str, Any], flags: int) -> None:
    code = compile(ast.Module(nodes, []), filename, "exec", flags, dont_inherit=True)
    exec(code, namespace)  # noqa: S102 - the cell is what we are for


def _future(tree: ast.Module) -> int:
    """Flags of the script's ``__future__`` imports, which hold for all its parts."""
    flags = 0
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            for name in node.names:
                flags |= getattr(__future__, name.name).compiler_flag
    return flags


def _cell_start(task: Task) -> int:
    """The script's line at which the cell itself starts: its last segment."""
    return task.segments[-1].start if task.segments else 1


def set_up_process(run_dir: RunDir, attempt: int, rank: int) -> None:
    """Make this process, just forked, the rank's own: group, standard streams."""
    os.setpgid(0, 0)
    files = run_dir.attempt(attempt)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    for number, path in ((1, files.stdout(rank)), (2, files.stderr(rank))):
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.dup2(fd, number)
        os.close(fd)
    os.close(null)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115 - the process's own streams
    sys.stdout = open(1, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115
    sys.stderr = open(2, "w", buffering=1, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115


def run_and_exit(run_dir: RunDir, run_id: str, task: Task, place: RankInfo) -> None:
    """Be the rank, then leave without returning to the code that forked it."""
    code = 1
    try:
        set_up_process(run_dir, place.attempt, place.rank)
        code = run_rank(run_dir, run_id, task, place)
    except BaseException:  # noqa: BLE001 - a forked child must never run its parent's code
        traceback.print_exc()
    finally:
        os._exit(code)
