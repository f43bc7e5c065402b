"""One rank: a forked process that runs ``script.py`` as ``__main__`` and reports how it ended."""

from __future__ import annotations

import atexit
import os
import random
import sys
import traceback
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, Any

from mlnb.node.attempt import folder
from mlnb.node.data import inputs, process_state
from mlnb.node.data.kinds.code import ScriptCode
from mlnb.node.rank import display, finite, log, missed_variables, stop
from mlnb.node.rank.tracebacks import describe, describe_line
from mlnb.node.script import ipython, main_module, module_values, threads
from mlnb.node.script.execute import execute
from mlnb.rundir import RunDir, write_json
from mlnb.runinfo import RunInfo
from mlnb.task import Task

if TYPE_CHECKING:
    from mlnb.node.parallel.data_parallel import DataParallel
    from mlnb.node.rank.training_hooks import TrainingHooks

_OWN_FILES = ("attempts", "checkpoints", "inputs", "modules", "outputs", "script.py", "mlnb.zip")
"""What mlnb itself reads and writes in a run directory."""


@dataclass(frozen=True)
class RankInfo:
    """Which rank this is, in torchrun's counting, and in which attempt."""

    rank: int
    local_rank: int
    node: int
    attempt: int


def run_rank(run_dir: RunDir, run_id: str, task: Task, info: RankInfo) -> int:
    """Run the script in this process, which was just forked.

    Returns
    -------
    int
        the exit code: 0 only if the rank has reported success.
    """
    attempt = run_dir.attempt(info.attempt)
    report: dict[str, Any]
    code = 1
    try:
        stop.install_handlers()
        log.begin(attempt.metrics(info.rank))
        display.begin(attempt.figures if info.rank == 0 else None)
        log.current.before_flush(display.save_widgets)
        report, code = _train(run_dir, run_id, task, info)
    except BaseException as error:  # noqa: BLE001 - a rank always reports
        report = _failed(error, run_dir, task)
    stop.ignore_signals()
    log.current.flush(last=True)
    report.setdefault("notes", []).extend(log.current.notes())
    if report["state"] == "succeeded":
        report["notes"] += threads.finish(is_cell=task.interactive)
    atexit._run_exitfuncs()
    log.current.flush()
    try:
        write_json(attempt.exit(info.rank), report)
    except Exception as error:  # noqa: BLE001 - most likely the disk is full
        print(f"mlnb: {error}", file=sys.stderr)
        code = stop.NO_SPACE
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or stop.NO_SPACE
    return code


def _train(run_dir: RunDir, run_id: str, task: Task, info: RankInfo) -> tuple[dict[str, Any], int]:
    notes = folder.notes(run_dir) if info.rank == 0 else []
    hooks = _install_hooks(task)
    parallel = None if hooks is None else _make_data_parallel(run_dir, task, info, hooks, notes)
    device = f"cuda:{info.local_rank}" if task.resources.gpus else "cpu"
    data = inputs.begin(run_dir, device)
    _set_seeds(run_dir, task, info.rank, parallel)
    missed_variables.watch(data.set_environ(task.environment.get("env") or ()))
    if task.interactive:
        ipython.install()
    try:
        namespace = main_module.make(run_dir, task).__dict__
        before = _execute(run_dir, task, namespace, is_first=info.rank == 0)
        data.forget_expected(namespace)
        if parallel is not None:
            parallel.finish()
    except SystemExit as error:
        if isinstance(error, stop.Stopped):
            return _stopped(notes)
        code = error.code if isinstance(error.code, int) else 1
        reason = f"the script called sys.exit({error.code!r})"
        return {"state": "failed", "error": {"type": "SystemExit", "message": reason, "text": ""}}, code
    except stop.Interrupted:
        return _stopped(notes)
    except BaseException as error:  # noqa: BLE001 - the script's error, for the user
        return _failed(error, run_dir, task), 1
    returns_state = task.interactive and task.seed is None
    if info.rank == 0:
        log.current.flush(last=True)
        notes += [*finite.notes(log.current, namespace), *missed_variables.notes()]
    if info.rank == 0 and (task.outputs or task.inputs or task.deletes or task.returns_more or returns_state):
        from mlnb.node.data import outputs

        process = data.process_changes()
        after = outputs.fingerprints(before, namespace, data)
        changed = [name for name in task.inputs if name not in namespace or after.get(name) != before.get(name)]
        names, deleted = outputs.names_to_return(task, changed, data.bound_before, namespace)
        attributes = {}
        if module_values.current is not None:
            attributes = module_values.current.changes(outputs.fingerprint_after(namespace, data))
        notes += outputs.write(run_dir, run_id, task, namespace, data, names, deleted, process, attributes)
    if stop.was_interrupted():
        notes.append("Stop was KeyboardInterrupt to the code, which caught it and went on to its end")
    warning = finite.warning(log.current) if info.rank == 0 else ""
    trained = {"backwards": hooks.backwards, "steps": hooks.steps} if hooks else {}
    return {"state": "succeeded", "notes": notes, "warning": warning, "trained": trained}, 0


def _stopped(notes: list[str]) -> tuple[dict[str, Any], int]:
    return {"state": "stopped", "notes": notes, "step": log.current.step}, stop.STOPPED


def _failed(error: BaseException, run_dir: RunDir, task: Task) -> dict[str, Any]:
    report = describe(error, main_module.file_name(run_dir, task), task.segments)
    print(report["text"], end="", file=sys.stderr)
    return {"state": "failed", "error": report}


def _install_hooks(task: Task) -> TrainingHooks | None:
    """Install the hooks that watch the training, if torch is imported."""
    if "torch" not in sys.modules:
        return None
    from mlnb.node.checkpoint import loader_positions
    from mlnb.node.rank.loss_names import logged_by
    from mlnb.node.rank.training_hooks import TrainingHooks

    log.current.expect(logged_by(task.script))
    hooks = TrainingHooks(log.current)
    hooks.install()
    loader_positions.count_backwards = lambda: hooks.backwards
    return hooks


def _make_data_parallel(
    run_dir: RunDir, task: Task, info: RankInfo, hooks: TrainingHooks, notes: list[str]
) -> DataParallel | None:
    """Make a plain loop of several ranks data parallel; it adds to ``notes``."""
    world = task.resources.world_size
    if world == 1 or task.parallel == "none":
        return None
    from mlnb.node.parallel.data_parallel import DataParallel
    from mlnb.node.parallel.files.start import FilesOfRanks

    def add_note(note: str) -> None:
        if info.rank == 0 and note not in notes:
            notes.append(note)

    torch = sys.modules["torch"]

    def modules() -> list[Any]:
        return [value for value in vars(sys.modules["__main__"]).values() if isinstance(value, torch.nn.Module)]

    def describe(frame: FrameType) -> str:
        return describe_line(frame, main_module.file_name(run_dir, task), task.segments)

    parallel = DataParallel(info.rank, world, modules, hooks, add_note, describe)
    parallel.install()
    own = [run_dir.path / name for name in _OWN_FILES]
    files = FilesOfRanks(info.rank, world, parallel.meetings, own, is_elsewhere=info.node > 0)
    files.install()
    parallel.on_leave(files.leave)
    parallel.on_end(files.end)
    parallel.on_finish(files.finish)
    return parallel


def _set_seeds(run_dir: RunDir, task: Task, rank: int, parallel: DataParallel | None) -> None:
    """Set threads and seeds: the same on all ranks that do one training, others on each rank that trains alone."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    seed = RunInfo.read(run_dir).seed if task.seed is None else task.seed
    if seed is None:
        return
    if torch is None:
        random.seed(seed + rank)
        return
    from mlnb.node.rank import randomness

    if parallel is None:
        randomness.seed_all(seed + rank)
        return
    from mlnb.node.parallel.generators.shared_entropy import SharedEntropy

    entropy = SharedEntropy(seed)
    entropy.install()
    randomness.seed_all(seed)
    parallel.on_leave(entropy.uninstall)


def _execute(run_dir: RunDir, task: Task, namespace: dict[str, Any], *, is_first: bool) -> dict[str, Any]:
    """Run the script to its end or ``sys.exit(0)``; returns fingerprints of the inputs before, in the first rank."""
    before: dict[str, Any] = {}
    filename = main_module.file_name(run_dir, task)

    def before_cell() -> None:
        if inputs.current is None:
            return
        inputs.current.begin_cell(namespace, task.inputs, ScriptCode(task.script, filename))
        if task.interactive:
            inputs.current.expect_deletes(namespace, task.deletes)
        only_inputs = [name for name in task.inputs if name not in task.outputs]
        if is_first and task.interactive:
            from mlnb.node.data import outputs

            fingerprint = outputs.fingerprint_before(namespace, inputs.current)
            if inputs.current.definitions is not None:
                inputs.current.definitions.remember(fingerprint)
            if module_values.current is not None:
                module_values.current.watch(fingerprint)
            before.update(outputs.fingerprints(only_inputs, namespace, inputs.current, before=True))
        inputs.current.set_process_state(() if task.seed is None else process_state.GENERATORS)

    try:
        execute(task, filename, namespace, before_cell)
    except SystemExit as error:
        if isinstance(error, stop.Stopped) or error.code:
            raise
        return {}
    display.finish()
    return before


def set_up_process(run_dir: RunDir, attempt: int, rank: int) -> None:
    """Give this process, which was just forked, its own process group and standard streams."""
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


def run_and_exit(run_dir: RunDir, run_id: str, task: Task, info: RankInfo) -> None:
    """Run the rank, then exit without returning to the code that forked it."""
    code = 1
    try:
        set_up_process(run_dir, info.attempt, info.rank)
        code = run_rank(run_dir, run_id, task, info)
    except BaseException:  # noqa: BLE001 - a forked child must not run its parent's code
        traceback.print_exc()
    finally:
        os._exit(code)
