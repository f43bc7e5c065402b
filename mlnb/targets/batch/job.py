"""One job of a batch system: the directives by dask-jobqueue, and the lines of shell that it runs."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
import sys
import warnings
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from mlnb.errors import MlnbError, UsageError
from mlnb.rundir import RunDir, storage_errors
from mlnb.targets.base import SubmissionUnknown
from mlnb.targets.batch import states as batch_states
from mlnb.targets.batch.commands import CommandFailed, NotThere, Unanswered, command
from mlnb.targets.batch.system import REQUEUE, JobRequest, Submitted, System, mebibytes
from mlnb.targets.config import settings
from mlnb.targets.containers import Contained, Wrapped
from mlnb.targets.environment import passed

_NOT_THERE = ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "MLNB_RUNTIME", "TMPDIR", "HOSTNAME", "XDG_RUNTIME_DIR")
"""Variables that say something of this machine, which is not where the job runs."""

_SAID = 200


@dataclass(frozen=True)
class Job:
    """A job that can be read and submitted.

    Attributes
    ----------
    body
        the shell lines that the job runs, as ``attempts/NNN/job.sh`` (see :meth:`_lines`).
    """

    system: System
    request: JobRequest
    run: RunDir
    attempt: int
    env: Mapping[str, str]
    body: str

    def text(self) -> str:
        """The submission as a person reads it: the directives and the body."""
        made = self._make()
        return f"{made.job_script().strip()}\n\n# {self._path}\n{self._lines(made)}"

    @property
    def _path(self) -> str:
        return str(self.run.attempt(self.attempt).path / "job.sh")

    def submit(self) -> Submitted:
        """Submit it.

        Raises
        ------
        SubmissionUnknown
            if the system did not answer, and has no job of this name so far.
        MlnbError
            if it refuses the job, or is not there.
        """
        folder = self.run.attempt(self.attempt).path
        path = folder / "job.sh"
        made = self._make()
        with storage_errors(path):
            path.write_text(self._lines(made), encoding="utf-8")
            path.chmod(0o700)
        try:
            with self.system.submission_environment(_environment(self.env, self.system)) as (words, env):
                made.submit_command = shlex.join([*shlex.split(made.submit_command), *words])
                made.environment.update(env)
                _finish(made.start())
            if found := self.system.submitted(made.job_id):
                return found
            said = " ".join(made.job_id.split())[:_SAID] or "nothing"
            return self._taken(MlnbError(f"{self.system.display_name} gave no job id, but said: {said}"))
        except Unanswered as error:
            return self._taken(SubmissionUnknown(f"{error}; whether it took the job isn't known yet"))
        except NotThere:
            raise
        except CommandFailed as error:
            return self._taken(self.system.refusal(error, self.request))

    def _taken(self, problem: MlnbError) -> Submitted:
        """The job, if the queue has it in spite of ``problem``, which is raised otherwise."""
        with contextlib.suppress(MlnbError):
            if found := batch_states.job_of(self.run, self.system.jobs()):
                return Submitted(found[0], self.system.cluster)
        raise problem

    def _lines(self, made: Any) -> str:
        """``job.sh``: the body, and in front of it the site's prologue where the submission has no place for one."""
        prologue = [] if self.system.script else [line for line in made._job_script_prologue or () if line]
        shebang, _, rest = self.body.partition("\n")
        return "\n".join([shebang, *prologue, rest])

    def _make(self) -> Any:
        """dask-jobqueue's Job, its commands run as ours: with the run's environment, from the attempt's folder."""
        system, request = self.system, self.request
        env: dict[str, str] = {}  # of the command, when it is submitted
        folder = self.run.attempt(self.attempt).path
        odd = next((character for character in system.patterns if character in str(folder)), None)
        if odd is not None:
            raise UsageError(
                f"{self.run.path}: {system.display_name} misreads '{odd}' in a path: set MLNB_RUNS to another folder"
            )

        async def call(argv: list[str], *, shell: bool = False, given: bytes = b"", **_: Any) -> str:
            words = ["/bin/sh", "-c", *argv] if shell else argv
            submitting = partial(command, system=system.display_name, folder=folder, whole=True)
            return await asyncio.to_thread(submitting, words, env, given=given)

        async def feed(made: Any, script: str) -> str:
            # dask-jobqueue has a shell do it that throws away what is said of refusals
            return await call(shlex.split(made.submit_command), given=Path(script).read_bytes())

        section, keywords = system.section, dict(system.keywords(request))
        skipped = [*keywords.pop("job_directives_skip", ()), *section.skipped]
        own: dict[str, Any] = {
            "_call": staticmethod(call),
            "_job_id_from_submit_output": lambda _, said: said,
            "submit_command": system.submit_command,
        }
        if system.stdin:
            own["_submit_job"] = feed
        kind = type("RunJob", (system.job_class(),), own)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about Dask workers, which these jobs are not
            try:
                made = kind(
                    scheduler="",
                    name=request.name,
                    job_name=request.name,
                    cores=request.cpus,
                    memory=f"{mebibytes(request.resources.memory or 2**30) * 2**20} B",
                    processes=1,
                    config_name=section.name,
                    job_directives_skip=skipped,
                    **keywords,
                )
            except (KeyError, ValueError, TypeError) as error:
                raise UsageError(f"jobqueue.{section.name} of Dask's configuration: {error}") from None
        made.environment = env
        # exec: the system's signals are for its own shell, which has to be the one with the traps
        made._command_template = system.escaped(f"exec /bin/sh {shlex.quote(self._path)}")
        return made


def job_of(
    system: System,
    request: JobRequest,
    run: RunDir,
    attempt: int,
    env: Mapping[str, str],
    container: Contained | None = None,
) -> Job:
    """The job that runs attempt ``attempt`` of ``run``.

    Parameters
    ----------
    container
        what it runs in; ``None`` for the session's own Python.

    Raises
    ------
    UsageError
        if the system can't do what is asked.
    """
    if env and not system.passes_variables:
        raise UsageError(
            f"--env {next(iter(env))}: {system.display_name} gives a job no variables but by writing them down"
        )
    program = ["-m", "mlnb.node", str(run.path), "--attempt", str(attempt)]
    if container is None:
        wrapped = Wrapped([str(system.settings.get("python") or sys.executable), *program])
    else:
        container.check_kind(system.kind)
        wrapped = container.wrap(program, run, request.resources, env)
    return Job(system, request, run, attempt, env, body_of(system, request, run, wrapped))


def body_of(system: System, request: JobRequest, run: RunDir, wrapped: Wrapped) -> str:
    """The lines of shell: they start the node program, hand it the system's signals, and queue the job again."""
    lines = [
        "#!/bin/sh",
        f"# What each start of run {request.run} ({request.name}) executes; made by mlnb.",
        f"cd {shlex.quote(str(run.path))} || exit 1",
        f'PYTHONPATH={shlex.quote(str(run.node_zip))}"${{PYTHONPATH:+:$PYTHONPATH}}"; export PYTHONPATH',
        f'MLNB_RESTARTS="{system.restarts}"; export MLNB_RESTARTS',
    ]
    if system.deadline:
        lines.append(f'MLNB_DEADLINE="{system.deadline}"; export MLNB_DEADLINE')
    lines += [*settings.words(system.settings, "setup"), *wrapped.before]
    if wrapped.after:
        lines += ["leave() {", *wrapped.after, "}", "trap leave EXIT"]
    lines += [
        f"{shlex.join(system.launch(request, wrapped.command, wrapped.launcher))} &",
        "node=$!",
        # signals that the system sends to this shell alone
        *(f"trap 'kill -{given} $node 2>/dev/null' {name}" for name, given in system.signals.items()),
        "while :; do wait $node; code=$?; kill -0 $node 2>/dev/null || break; done",
    ]
    if system.requeue_command and request.requeue:
        lines.append(f"[ $code -ne {REQUEUE} ] || {system.requeue_command}")
    return "\n".join([*lines, "exit $code"]) + "\n"


def _environment(asked: Mapping[str, str], system: System) -> dict[str, str]:
    kept = {name: value for name, value in passed({}).items() if name not in _NOT_THERE}
    return {**kept, **{n: v for n, v in system.environment().items() if n not in ("LC_ALL",)}, **asked}


def _finish(coroutine: Coroutine[Any, Any, Any]) -> None:
    """Run a coroutine to its end in a thread of its own: a notebook's thread has a loop that runs already."""
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, coroutine).result()
