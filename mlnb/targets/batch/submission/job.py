"""One job of a batch system: its directives, and the script that it runs."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlnb.errors import MlnbError, UsageError, storage_errors
from mlnb.rundir import Attempt, RunDir
from mlnb.targets.base import SubmissionUnknown
from mlnb.targets.batch.commands import CommandFailed, NoAnswer, SystemUnavailable, run_command
from mlnb.targets.batch.jobqueue.adapter import JobqueueJob
from mlnb.targets.batch.queue import states as batch_states
from mlnb.targets.batch.request import REQUEUE, JobRequest, SubmittedJob, mebibytes
from mlnb.targets.batch.submission.plain_script import PlainScript, Submission
from mlnb.targets.batch.system import System
from mlnb.targets.config import settings
from mlnb.targets.containers import Contained, Wrapped
from mlnb.targets.environment import run_environment

_LOCAL_VARIABLES = (
    *("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES", "MLNB_RUNTIME", "TMPDIR", "HOSTNAME", "XDG_RUNTIME_DIR"),
)
"""Variables that describe this machine: they are wrong on the machine that the job runs on."""

_OUTPUT_LENGTH = 200


@dataclass(frozen=True)
class Job:
    """A job that can be shown and submitted.

    Attributes
    ----------
    env
        the variables of ``--env``.
    body
        the shell lines that the job runs, as ``attempts/NNN/job.sh``; see :func:`body_of`.
    """

    system: System
    request: JobRequest
    run: RunDir
    attempt: int
    env: Mapping[str, str]
    body: str

    def text(self) -> str:
        """The submission as text to show: the directives and the body."""
        submission = self._submission()
        return f"{submission.script().strip()}\n\n# {self.files.job_script}\n{self._job_sh(submission.prologue)}"

    @property
    def files(self) -> Attempt:
        """The files of the attempt that it runs."""
        return self.run.attempt(self.attempt)

    def submit(self) -> SubmittedJob:
        """Submit it.

        Raises
        ------
        SubmissionUnknown
            if the system did not answer, and has no job of this name so far.
        MlnbError
            if it refuses the job, or can't be reached.
        """
        submission = self._submission()
        self.write_script(submission.prologue)
        return send(self.system, self.request, submission, self.env, self._find)

    def write_script(self, prologue: Sequence[str] = (), variables: Sequence[str] = ()) -> None:
        """Write ``job.sh``.

        Parameters
        ----------
        prologue
            the site's lines of shell that precede each job.
        variables
            lines of shell that set the job's own environment variables.
        """
        with storage_errors(self.files.job_script):
            self.files.job_script.write_text(self._job_sh(prologue, variables), encoding="utf-8")
            self.files.job_script.chmod(0o700)

    def _find(self) -> SubmittedJob | None:
        match = batch_states.job_of(self.run, self.system.jobs())
        return SubmittedJob(match[0], self.system.cluster) if match else None

    def _job_sh(self, prologue: Sequence[str], variables: Sequence[str] = ()) -> str:
        """``job.sh``: the body, after the site's prologue if the submission itself can't hold that."""
        shebang, _, rest = self.body.partition("\n")
        return "\n".join([shebang, *variables, *([] if self.system.submits_script else prologue), rest])

    def _submission(self) -> Submission:
        """The job with its directives; its submit command runs in the attempt's folder."""
        return make_submission(self.system, self.request, self.files.path, shlex.quote(str(self.files.job_script)))


def make_submission(system: System, request: JobRequest, folder: Path, script: str) -> Submission:
    """A job with its directives, which is submitted from ``folder``.

    Parameters
    ----------
    script
        shell: the path of the script that the job runs.

    Raises
    ------
    UsageError
        if the system can't have its log in this folder.
    """
    forbidden = next((character for character in system.forbidden_in_paths if character in str(folder)), None)
    if forbidden is not None:
        name = system.display_name
        raise UsageError(f"{folder}: {name} misreads '{forbidden}' in a path: set MLNB_RUNS to another folder")
    run = partial(run_command, system=system.display_name, folder=folder, full_message=True)
    # exec: the system signals the process of its own shell, which has to be the one with the traps
    line = system.escape(f"exec /bin/sh {script}")
    section = system.section
    if not system.job_class:
        return PlainScript(
            line,
            prefix=system.directive_prefix,
            directives=system.lines(request),
            prologue=section.prologue,
            submit_command=system.submit_command,
            reads_stdin=system.reads_stdin,
            run=run,
        )
    keywords = dict(system.keywords(request))
    return JobqueueJob(
        system.job_class,
        line,
        name=request.name,
        cores=request.cpus,
        memory=mebibytes(request.resources.memory or 2**30) * 2**20,
        section=section,
        skip=[*keywords.pop("job_directives_skip", ()), *section.skipped],
        keywords=keywords,
        submit_command=system.submit_command,
        reads_stdin=system.reads_stdin,
        run=run,
    )


def send(
    system: System,
    request: JobRequest,
    submission: Submission,
    env: Mapping[str, str],
    find: Callable[[], SubmittedJob | None],
) -> SubmittedJob:
    """Submit a job.

    Parameters
    ----------
    env
        the variables of ``--env``.
    find
        looks for the job in the queue; called if the submit command did not report it.

    Raises
    ------
    SubmissionUnknown
        if the system did not answer, and the job isn't in the queue so far.
    MlnbError
        if it refuses the job, or can't be reached.
    """
    problem: MlnbError
    try:
        with system.submission_environment(_environment(env, system)) as (options, environment):
            output = submission.submit(options, environment)
        if job := system.submitted_job(output):
            return job
        shown = " ".join(output.split())[:_OUTPUT_LENGTH] or "nothing"
        problem = MlnbError(f"{system.display_name} gave no job id, but printed: {shown}")
    except NoAnswer as error:
        problem = SubmissionUnknown(f"{error}; whether it took the job isn't known yet")
    except SystemUnavailable:
        raise
    except CommandFailed as error:
        problem = system.refusal(error, request)
    with contextlib.suppress(MlnbError):
        if job := find():
            return job
    raise problem


def make_job(
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
        if the system can't run it.
    """
    if env and not system.passes_variables:
        name = system.display_name
        raise UsageError(f"--env {next(iter(env))}: {name} would keep the value where others can read it")
    program = ["-m", "mlnb.node", str(run.path), "--attempt", str(attempt)]
    if container is None:
        wrapped = Wrapped([str(system.settings.get("python") or sys.executable), *program])
    else:
        container.check_kind(system.kind)
        wrapped = container.wrap(program, run, request.resources, env)
    exit_code = run.attempt(attempt).exit_code if request.resources.nodes > 1 else None
    return Job(system, request, run, attempt, env, body_of(system, request, run, wrapped, exit_code))


def body_of(system: System, request: JobRequest, run: RunDir, wrapped: Wrapped, exit_code: Path | None = None) -> str:
    """The shell lines that start the node program, pass the system's signals on to it, and queue the job again.

    Parameters
    ----------
    exit_code
        the file in which the node program writes its exit code, where a launcher may return another one.
    """
    written = None if exit_code is None else shlex.quote(str(exit_code))
    lines = [
        "#!/bin/sh",
        f"# Runs at each start of run {request.run} ({request.name}). Written by mlnb.",
        f"cd {shlex.quote(str(run.path))} || exit 1",
        f'PYTHONPATH={shlex.quote(str(run.node_zip))}"${{PYTHONPATH:+:$PYTHONPATH}}"; export PYTHONPATH',
        f'MLNB_RESTARTS="{system.restarts}"; export MLNB_RESTARTS',
    ]
    if system.deadline:
        lines.append(f'MLNB_DEADLINE="{system.deadline}"; export MLNB_DEADLINE')
    lines += [*settings.lines(system.settings, "setup"), *wrapped.before]
    if wrapped.after:
        lines += ["leave() {", *wrapped.after, "}", "trap leave EXIT"]
    lines += [] if written is None else [f"rm -f {written}"]
    lines += [
        f"{shlex.join(system.launch(request, wrapped.command, wrapped.launcher))} &",
        "node=$!",
        # signals that the system sends to this shell alone
        *(f"trap 'kill -{given} $node 2>/dev/null' {name}" for name, given in system.signals.items()),
        "while :; do wait $node; code=$?; kill -0 $node 2>/dev/null || break; done",
    ]
    if written is not None:
        lines.append(f"[ ! -f {written} ] || read -r code < {written}")
    if system.requeue_command and request.requeue:
        lines.append(f"[ $code -ne {REQUEUE} ] || {system.requeue_command}")
    return "\n".join([*lines, "exit $code"]) + "\n"


def _environment(requested: Mapping[str, str], system: System) -> dict[str, str]:
    session = {
        name: value for name, value in run_environment({}, system.workspace).items() if name not in _LOCAL_VARIABLES
    }
    return {**session, **{n: v for n, v in system.environment().items() if n not in ("LC_ALL",)}, **requested}
