"""One job of a batch system: its directives, and the script that it runs."""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from mlnb.errors import MlnbError, UsageError
from mlnb.rundir import RunDir, storage_errors
from mlnb.targets.base import SubmissionUnknown
from mlnb.targets.batch import states as batch_states
from mlnb.targets.batch.commands import CommandFailed, NoAnswer, SystemUnavailable, run_command
from mlnb.targets.batch.jobqueue_adapter import JobqueueJob
from mlnb.targets.batch.request import REQUEUE, JobRequest, SubmittedJob, mebibytes
from mlnb.targets.batch.submission import PlainScript, Submission
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
        """The submission for a person to read: the directives and the body."""
        submission = self._submission()
        return f"{submission.script().strip()}\n\n# {self._path}\n{self._job_sh(submission)}"

    @property
    def _path(self) -> str:
        return str(self.run.attempt(self.attempt).path / "job.sh")

    def submit(self) -> SubmittedJob:
        """Submit it.

        Raises
        ------
        SubmissionUnknown
            if the system did not answer, and has no job of this name so far.
        MlnbError
            if it refuses the job, or can't be reached.
        """
        path = self.run.attempt(self.attempt).path / "job.sh"
        submission = self._submission()
        with storage_errors(path):
            path.write_text(self._job_sh(submission), encoding="utf-8")
            path.chmod(0o700)
        try:
            with self.system.submission_environment(_environment(self.env, self.system)) as (options, env):
                output = submission.submit(options, env)
            if job := self.system.submitted_job(output):
                return job
            shown = " ".join(output.split())[:_OUTPUT_LENGTH] or "nothing"
            return self._find(MlnbError(f"{self.system.display_name} gave no job id, but printed: {shown}"))
        except NoAnswer as error:
            return self._find(SubmissionUnknown(f"{error}; whether it took the job isn't known yet"))
        except SystemUnavailable:
            raise
        except CommandFailed as error:
            return self._find(self.system.refusal(error, self.request))

    def _find(self, problem: MlnbError) -> SubmittedJob:
        """The job, if it is in the queue in spite of ``problem``, which is raised otherwise."""
        with contextlib.suppress(MlnbError):
            if match := batch_states.job_of(self.run, self.system.jobs()):
                return SubmittedJob(match[0], self.system.cluster)
        raise problem

    def _job_sh(self, submission: Submission) -> str:
        """``job.sh``: the body, after the site's prologue if the submission itself can't hold that."""
        prologue = [] if self.system.submits_script else submission.prologue
        shebang, _, rest = self.body.partition("\n")
        return "\n".join([shebang, *prologue, rest])

    def _submission(self) -> Submission:
        """The job with its directives; its submit command runs in the attempt's folder."""
        system, request = self.system, self.request
        folder = self.run.attempt(self.attempt).path
        forbidden = next((character for character in system.forbidden_in_paths if character in str(folder)), None)
        if forbidden is not None:
            name = system.display_name
            raise UsageError(
                f"{self.run.path}: {name} misreads '{forbidden}' in a path: set MLNB_RUNS to another folder"
            )
        run = partial(run_command, system=system.display_name, folder=folder, full_message=True)
        # exec: the system signals the process of its own shell, which has to be the one with the traps
        line = system.escape(f"exec /bin/sh {shlex.quote(self._path)}")
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
    return Job(system, request, run, attempt, env, body_of(system, request, run, wrapped))


def body_of(system: System, request: JobRequest, run: RunDir, wrapped: Wrapped) -> str:
    """The shell lines that start the node program, pass the system's signals on to it, and queue the job again."""
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


def _environment(requested: Mapping[str, str], system: System) -> dict[str, str]:
    session = {
        name: value for name, value in run_environment({}, system.workspace).items() if name not in _LOCAL_VARIABLES
    }
    return {**session, **{n: v for n, v in system.environment().items() if n not in ("LC_ALL",)}, **requested}
