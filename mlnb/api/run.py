"""A run: its state, metrics, logs and results, all read from the run directory."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlnb.api.displays import displays, figures
from mlnb.api.read.derived.epochs import Epochs
from mlnb.api.read.describe import end_sentence
from mlnb.api.read.history import History, Series, frame
from mlnb.api.read.logs import LastLines, printed
from mlnb.api.read.mirrored import catch_up, fetch
from mlnb.api.read.progress import AttemptProgress, Events
from mlnb.api.read.state import Observable, Observation, observe
from mlnb.api.read.tailing import JsonFile
from mlnb.api.removing import remove_directory
from mlnb.api.restoring import restore_objects
from mlnb.api.submit.job_start import request_cancel
from mlnb.errors import MlnbError, RunFailed, UsageError
from mlnb.rundir import FINAL, RunDir
from mlnb.runinfo import RunInfo
from mlnb.targets.registry import target
from mlnb.task import Task
from mlnb.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from mlnb.api.results.outputs import Pulled
    from mlnb.api.results.session import SessionLink
    from mlnb.node.data.process_state import ProcessState


class Run:
    """One run.

    Parameters
    ----------
    directory
        the run directory.
    workspace
        the workspace that the run belongs to; without it, that of this process.
    """

    def __init__(self, directory: RunDir, workspace: Workspace | None = None) -> None:
        self.directory, self.workspace = directory, workspace or Workspace.of_process()
        self._run_json, self._task = JsonFile(directory.run), JsonFile(directory.task)
        self._info: tuple[dict[str, Any], RunInfo] | None = None
        self._parsed: tuple[dict[str, Any], Task] | None = None
        self._events, self._history = Events(directory), History(directory)
        self._epochs = Epochs()
        self._last_lines = LastLines(directory)
        self._final: Observation | None = None
        self.cancelled_here = False
        """Whether this process cancelled it."""
        self.ended_attempts: int | None = None
        """How many attempts there were when this process last found that it could be resumed."""
        self._link: SessionLink | None = None

    def attach(self, link: SessionLink) -> None:
        """Write results into the objects of this session, which submitted the run."""
        self._link = link

    @property
    def process_at_submission(self) -> ProcessState | None:
        """The state of this process when it submitted the run; ``None`` if another process has."""
        return self._link.process if self._link else None

    @property
    def info(self) -> RunInfo:
        """Who submitted it, where it runs, and what was requested, for the newest attempt."""
        values = self._run_json.read()
        if self._info is None or self._info[0] is not values:
            self._info = values, RunInfo.from_json(values or {}, self.id)
        return self._info[1]

    @property
    def task(self) -> Task:
        """What the run executes, with the resources of its newest attempt; an empty task if its file holds none."""
        values = self._task.read()
        if self._parsed is None or self._parsed[0] is not values:
            try:
                self._parsed = values, Task.from_json(values or {"script": ""})
            except (AttributeError, KeyError, TypeError, ValueError):
                self._parsed = values, Task(script="")
        return self._parsed[1]

    @property
    def id(self) -> str:
        """The run's id, which is also its directory's name."""
        return self.directory.path.name

    @property
    def name(self) -> str:
        """The name it was given; need not be unique."""
        return self.info.name

    @property
    def dir(self) -> Path:
        """The run directory."""
        return self.directory.path

    @property
    def target(self) -> str:
        """The name of the target that it runs on."""
        return self.info.target

    def observe(self) -> Observation:
        """State, reason and result, read now."""
        if self._final is not None and (self._final.result or {}).get("attempt", 1) < self.attempts:
            self._final = None  # it was resumed
        if self._final is None:
            self.record(observe([self.observable])[0])
        return self._final or self._observation

    def record(self, observation: Observation) -> None:
        """Keep what :func:`mlnb.api.read.state.observe` returned for this run."""
        self._observation = observation
        if observation.result is not None:
            self._final = observation

    @property
    def observable(self) -> Observable:
        """The run as an argument of :func:`mlnb.api.read.state.observe`."""
        return Observable(self.directory, self._events, self.workspace)

    @property
    def state(self) -> str:
        """One of ``pending starting running succeeded failed cancelled lost``."""
        return self.observe().state

    @property
    def reason(self) -> str:
        """Why it is in that state; empty if there is nothing to say."""
        return self.observe().reason

    @property
    def result(self) -> dict[str, Any] | None:
        """What the node program wrote at the end."""
        return self.observe().result

    @property
    def exit_code(self) -> int | None:
        """0 if it succeeded; otherwise that of the rank that failed first; ``None`` while it runs."""
        result = self.result
        return None if result is None else result.get("exit_code")

    @property
    def attempts(self) -> int:
        """How many attempts there have been."""
        return len(self.directory.attempts())

    @property
    def progress(self) -> AttemptProgress:
        """The progress of the newest attempt."""
        self._catch_up()
        self._events.usage()
        return self._events.progress

    @property
    def done(self) -> bool:
        """Whether it has ended: succeeded, failed, cancelled or lost."""
        return self.state in FINAL

    def _catch_up(self) -> None:
        """Copy what is new if the run has another file system; the mirror limits how often its target is queried."""
        if self.info.mirrored:
            catch_up(self.directory, self.target, self.workspace)

    def series(self) -> dict[str, Series]:
        """Its metrics as arrays by name."""
        self._catch_up()
        return self._history.read()

    def all_series(self) -> dict[str, Series]:
        """All series that a view draws: the metrics; under names that begin with ``mlnb.`` progress, epochs, usage."""
        self._catch_up()
        metrics = self._history.all()
        return {**metrics, **self._epochs.series(metrics), **self._events.usage()}

    def metrics(self) -> pd.DataFrame:
        """Its metrics as a long DataFrame: ``name step time value attempt``. Needs pandas (:func:`frame`)."""
        return frame(self.series())

    def logs(self, rank: int = 0, stream: str = "both") -> str:
        """What a rank printed in the newest attempt.

        Parameters
        ----------
        rank
            which rank.
        stream
            ``out``, ``err`` or ``both`` (standard error below standard output).

        Raises
        ------
        UsageError
            if there is no such rank or stream.
        """
        self._catch_up()
        world = self.task.resources.world_size
        if not 0 <= rank < world:
            raise UsageError(f"rank {rank}: the run has ranks 0 to {world - 1}")
        return printed(self.directory, rank, stream)

    def tail(self, lines: int, rank: int = 0) -> str:
        """The last lines that a rank printed in the newest attempt, as a terminal would show them.

        Standard output, and standard error unless that is the traceback of the run's own error.
        """
        self._catch_up()
        return self._last_lines.read(lines, rank)

    def figures(self) -> list[Path]:
        """Pictures that the newest attempt showed, in order."""
        fetch(self.directory, "figures", self.workspace)
        return figures(self.directory)

    def displays(self) -> list[dict[str, Any]]:
        """Everything that the newest attempt displayed, in order, each as a MIME bundle of JSON values."""
        fetch(self.directory, "figures", self.workspace)
        return displays(self.directory)

    def wait(self, timeout: float | None = None) -> Run:
        """Wait for the end.

        Raises
        ------
        TimeoutError
            after ``timeout`` seconds; the run continues.
        """
        end = None if timeout is None else time.monotonic() + timeout
        pause = 0.02
        while not self.done:
            if end is not None and time.monotonic() > end:
                raise TimeoutError(f"run {self.name} ({self.id}) is still {self.state} after {timeout} s; it continues")
            time.sleep(pause)
            pause = min(0.5, pause * 1.2)
        return self

    def cancel(self) -> Run:
        """Stop the run; it may write a checkpoint first. Returns when it has ended.

        Raises
        ------
        MlnbError
            if the target could not end it.
        """
        if self.done:
            return self
        self.cancelled_here = True
        run_target = target(self.target, self.workspace)
        request_cancel(self.directory, run_target)
        if not run_target.cancel(self.directory):
            raise MlnbError(
                f"run {self.name} ({self.id}) did not end when it was cancelled: {self.reason or self.state}"
            )
        return self

    def remove(self) -> int:
        """Delete the run's directory, and stored data that no other run uses. Returns how many bytes were freed.

        Raises
        ------
        UsageError
            if the run has not ended, or another process resumes or removes it.
        """
        attempts = self.attempts
        if not self.done:
            raise UsageError(f"run {self.name} ({self.id}) is {self.state}: cancel it first, or wait for its end")
        mirror = target(self.target, self.workspace).mirror if self.info.mirrored else None
        return remove_directory(self.directory, attempts, mirror)

    def checkpoints(self) -> list[Path]:
        """Its complete checkpoints, oldest first."""
        from mlnb.node.checkpoint.names import checkpoints

        fetch(self.directory, "checkpoints", self.workspace)
        return checkpoints(self.directory.checkpoints)

    def restore(self, **objects: Any) -> int:
        """Load the newest checkpoint into objects of this process, also while the run is running.

        Parameters
        ----------
        objects
            model, optimizer and so on, by the names that the script gave them in ``mlnb.epochs``.

        Returns
        -------
        int
            how many epochs were done at the checkpoint.

        Raises
        ------
        MlnbError
            if there is no checkpoint.
        UsageError
            for a name that the checkpoint lacks.
        NotTrusted
            if another user could have written it.
        """
        checkpoints = self.checkpoints()
        if not checkpoints:
            raise MlnbError(f"run {self.name} ({self.id}) has no checkpoint; mlnb.epochs(...) makes them")
        return restore_objects(checkpoints[-1], objects)

    def pull(self, bind: bool | None = None) -> Pulled:
        """Its outputs, loaded into this process.

        Parameters
        ----------
        bind
            whether they are bound to their names, as if the cell had run here; by default in a notebook.

        Raises
        ------
        MlnbError
            if the run has left none.
        NotTrusted
            if another user could have written them.
        """
        shell = _shell()
        if shell is not None and bind is not False:
            return self.deliver(shell.user_ns)
        from mlnb.api.results.outputs import pull
        from mlnb.node.data.kinds.code import ScriptCode

        fetch(self.directory, "outputs", self.workspace)
        if not self.directory.has_outputs:
            observed = self.observe()
            message = f"run {self.name} ({self.id}) is {observed.state} and has left no outputs. {observed.reason}"
            raise MlnbError(message.rstrip())
        script = ScriptCode(self.task.script, segments=self.task.segments)
        return pull(self.directory, self._link and replace(self._link, labels=None), script=script)

    def deliver(self, namespace: dict[str, Any], names: set[str] | None = None, newer: Collection[str] = ()) -> Pulled:
        """Bind its outputs in ``namespace``; see :func:`mlnb.api.results.bind.deliver`.

        Raises
        ------
        RunFailed
            if it did not succeed.
        NotTrusted
            if another user could have written its files.
        """
        from mlnb.api.results.bind import deliver

        observed = self.observe()
        if observed.state != "succeeded":
            reason = observed.reason or "it has not ended yet"
            raise RunFailed(end_sentence(self.name, observed.state, reason, self.task.resources.world_size))
        fetch(self.directory, "outputs", self.workspace)
        return deliver(self.directory, self.task, namespace, names, newer, self._link)

    def to_json(self) -> dict[str, Any]:
        """The run as ``--json`` prints it."""
        observed = self.observe()
        newest = {}
        with contextlib.suppress(Exception):  # one run with unreadable metrics must not keep the others from a list
            newest = {name: _last(series) for name, series in self.series().items()}
        return {
            "id": self.id,
            "name": self.name,
            "state": observed.state,
            "reason": observed.reason,
            "target": self.target,
            "dir": str(self.dir),
            "attempts": self.attempts,
            "exit_code": self.exit_code,
            "metrics": newest,
            "submitted": self.info.submitted,
            "seconds": (observed.result or {}).get("seconds"),
            "notes": (observed.result or {}).get("notes", []),
            "error": (observed.result or {}).get("error"),
        }

    def __repr__(self) -> str:
        observed = self.observe()
        reason = f": {observed.reason}" if observed.reason else ""
        return f"<mlnb run {self.name} ({self.id}): {observed.state}{reason}>"


def _shell() -> Any:
    """The IPython shell of this process; ``None`` outside of IPython."""
    module = sys.modules.get("IPython")
    return module.get_ipython() if module is not None else None


def _last(series: Series) -> dict[str, Any]:
    """The newest value for JSON: NaN and infinity as strings."""
    value = float(series.value[-1])
    plain = value if value == value and abs(value) != float("inf") else str(value)
    return {"step": int(series.step[-1]), "value": plain, "count": len(series)}
