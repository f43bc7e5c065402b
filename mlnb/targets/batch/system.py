"""The base class of batch systems. A subclass declares commands, directives and job states, and overrides what differs.

``docs/contributing/add-a-batch-system.md`` shows how to add one.
"""

from __future__ import annotations

import contextlib
import re
import shlex
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from mlnb.errors import MlnbError, UsageError
from mlnb.targets.base import gpus_of
from mlnb.targets.batch.commands import TIMEOUT, CommandFailed, SystemUnavailable, run_command
from mlnb.targets.batch.job_table import JobTable
from mlnb.targets.batch.jobqueue import adapter as jobqueue_adapter
from mlnb.targets.batch.jobqueue.section import Section
from mlnb.targets.batch.queued_job import QueuedJob
from mlnb.targets.batch.request import (
    CLOCK,
    ArraySyntax,
    JobRequest,
    ResolvedRequest,
    SessionDefaults,
    SubmittedJob,
    directive_word,
    expand,
    template_values,
)
from mlnb.targets.config import settings
from mlnb.targets.config.options import TargetOption
from mlnb.targets.environment import matching_variables
from mlnb.targets.gpus import kinds as gpu_kinds
from mlnb.targets.gpus import selection as gpu_selection
from mlnb.task import Resources
from mlnb.units import parse_time
from mlnb.workspace import Workspace

COUNT_STARTS = '$(echo >>"${0%/*}/starts"; echo $(($(wc -l <"${0%/*}/starts") - 1)))'
"""Shell for :attr:`System.restarts` where the system keeps no count: a line for each start, in the attempt's folder."""

_SELECTS_NODES = re.compile(r"^-.*\b(select|nodes)=")
"""A directive of the site for its GPUs that replaces all of ``resource_spec``."""

_ARRAY_TASKS = 1000
"""Tasks of an array at most, unless the system says otherwise."""

_MEMORY = 4 * 2**30
"""Bytes of memory per node if neither the user nor the site sets them."""


class System:
    """A batch system. Subclasses set at least the attributes without a value, and ``table`` or :meth:`jobs`.

    Directives are templates: see :func:`mlnb.targets.batch.request.template_values` for what they may name. A
    template that names what was not requested is left out.

    Parameters
    ----------
    settings
        of the target: see docs/site-setup.md.
    workspace
        whose jobs it runs.
    """

    kind: ClassVar[str]
    """Its name in settings, and of its section in ``jobqueue.yaml``."""

    display_name: ClassVar[str]
    """Its name in texts."""

    submit_command: ClassVar[str]
    """Submits a job. Its program on PATH shows that this machine submits to this system."""

    cancel_command: ClassVar[str]
    """Ends the job whose id follows; with :attr:`array` the jobs, of which some may be tasks of an array."""

    accepted: ClassVar[str]
    """Regular expression of the line by which the submit command reports the job, whose id is the group ``job``.

    Sites have their wrappers print other lines around it. A group ``cluster`` names the cluster.
    """

    table: ClassVar[JobTable]
    """How it lists jobs."""

    job_class: ClassVar[str] = ""
    """dask-jobqueue's Job class that renders its directives, as ``slurm:SLURMJob``; empty if that has none for it."""

    directive_prefix: ClassVar[str] = ""
    """Put before each directive in a script, as ``#SBATCH``; for systems without a ``job_class``."""

    directives: ClassVar[Sequence[str]] = ()
    """mlnb's directives for every job, beyond those of ``job_class``."""

    requeue_directives: ClassVar[Sequence[str]] = ()
    """Further directives of a job that may be queued again."""

    no_requeue_directives: ClassVar[Sequence[str]] = ()
    """Further directives of a job that may not."""

    resources_template: ClassVar[Sequence[str]] = ()
    """Templates that make up the value of ``resource_spec`` of the job class, where it has one."""

    gpu_syntax: ClassVar[gpu_kinds.RequestSyntax] = gpu_kinds.RequestSyntax()
    """How GPUs are requested."""

    account_keyword: ClassVar[str] = "account"
    """The job class's keyword for the account."""

    memory_directive: ClassVar[str] = ""
    """Part of the job class's line for memory, which is left out where no memory is requested."""

    time_format: ClassVar[str] = CLOCK
    """How directives write times, with ``hours`` and ``minutes``."""

    reads_stdin: ClassVar[bool] = False
    """Whether the submit command reads the script from its standard input; else the script's path is its last word."""

    submits_script: ClassVar[bool] = True
    """Whether what is submitted is a script, so that the prologue of ``jobqueue.yaml`` is in it, not in ``job.sh``."""

    variables: ClassVar[tuple[str, ...]] = ()
    """Patterns of the environment variables that its commands need."""

    passes_variables: ClassVar[bool] = True
    """Whether a job gets the environment of the command that submits it, and no other user can read it."""

    options: ClassVar[tuple[TargetOption, ...]] = ()
    """Options that targets of this system have beyond those of all batch systems. Templates may name their values."""

    own_settings: ClassVar[frozenset[str]] = frozenset()
    """Settings that targets of this system have beyond those of all batch systems."""

    forbidden_in_paths: ClassVar[str] = ""
    """Characters that a run's path must not have, since the system substitutes values of its own for them."""

    requeues: ClassVar[bool] = True
    """Whether it can queue a job again, as the same job."""

    accounting_lags: ClassVar[bool] = False
    """Whether its accounting says who cancelled a job, and may hear of an end later than the queue."""

    restarts: ClassVar[str] = "0"
    """Shell: how often this job was started before; see also :data:`COUNT_STARTS`."""

    signals: ClassVar[Mapping[str, str]] = {"TERM": "TERM", "USR1": "USR1"}
    """Signals that the system sends to the job's shell, and the one that the node program gets for each."""

    deadline: ClassVar[str] = ""
    """Shell: when the job's time is over, in seconds since the epoch; prints nothing if that is not known."""

    array: ClassVar[ArraySyntax | None] = None
    """How many jobs are submitted as one array; ``None`` if each is submitted by itself."""

    requeue_command: ClassVar[str] = ""
    """Shell command by which a job has itself queued again, where its exit code does not."""

    def __init__(self, settings: Mapping[str, Any], workspace: Workspace) -> None:
        self.settings, self.workspace = settings, workspace

    @property
    def section(self) -> Section:
        """The site's settings for dask-jobqueue."""
        return Section(str(self.settings.get("jobqueue", self.kind)), self.workspace)

    @property
    def session_defaults(self) -> SessionDefaults:
        """Defaults that the session's environment sets for jobs."""
        return SessionDefaults()

    # submitting

    def submitted_job(self, output: str) -> SubmittedJob | None:
        """The job that the submit command's output reports; ``None`` if it reports none."""
        matches = [match for line in output.splitlines() if (match := re.fullmatch(self.accepted, line.strip()))]
        return SubmittedJob(**{n: text for n, text in matches[-1].groupdict().items() if text}) if matches else None

    @property
    def cluster(self) -> str:
        """The cluster that jobs go to, if the system has several; empty for the usual one."""
        return ""

    def on_cluster(self, cluster: str) -> System:  # noqa: ARG002
        """The same system, for jobs on ``cluster``."""
        return self

    def keywords(self, request: JobRequest) -> dict[str, Any]:
        """Arguments of the Job class, beyond cores, memory and name."""
        values, memory = self._values(request), request.resources.memory
        spec = self.resource_spec(request)
        return {
            "queue": request.partition,
            self.account_keyword: request.account,
            "walltime": values["time"],
            **({"resource_spec": spec} if spec else {}),
            "job_directives_skip": [
                *([self.memory_directive] if self.memory_directive and memory is None else []),
                *([f"-l {spec}"] if any(map(_SELECTS_NODES.search, request.gpu_directives)) else []),
            ],
            "job_extra_directives": self.lines(request),
        }

    def lines(self, request: JobRequest) -> list[str]:
        """Directives beyond the job class's, without prefix. The last of two that contradict each other holds."""
        gpus = [line for line in self.gpu_lines(request) if line.startswith("-") or not self.resources_template]
        return [*request.default_directives, *self.mlnb_lines(request), *gpus, *request.site_directives]

    def mlnb_lines(self, request: JobRequest) -> list[str]:
        """The directives that mlnb itself adds."""
        requeue = self.requeue_directives if request.requeue else self.no_requeue_directives
        array = (self.array.directive,) if self.array and request.tasks else ()
        return expand((*self.directives, *requeue, *array), self._values(request))

    def gpu_lines(self, request: JobRequest) -> tuple[str, ...]:
        """The directives that request the GPUs: the site's for their kind, else a plain count."""
        count, plain = request.resources.gpus, self.gpu_syntax.any_type
        return request.gpu_directives or ((plain.replace("{count}", str(count)),) if count and plain else ())

    def resource_spec(self, request: JobRequest) -> str:
        """The value of ``resource_spec``: GPU directives that are no options of their own stand in it."""
        return "".join(expand(self.resources_template, self._values(request)))

    def _values(self, request: JobRequest) -> dict[str, object]:
        gpus = ":".join(line for line in self.gpu_lines(request) if not line.startswith("-"))
        given = {option.key: request.options.get(option.key) for option in self.options}
        checked = {
            key: directive_word(value, f"--{key}") if isinstance(value, str) else value for key, value in given.items()
        }
        return {**checked, **template_values(request, gpus or None, self.time_format)}

    def launch(self, request: JobRequest, program: Sequence[str], options: Sequence[str] = ()) -> list[str]:
        """The command that starts ``program`` once on each node of the job.

        Parameters
        ----------
        options
            options that a container engine adds to the launcher.

        Raises
        ------
        UsageError
            for several nodes, which only SLURM has.
        """
        if request.resources.nodes > 1:
            raise UsageError(f"--nodes {request.resources.nodes}: on {self.display_name} a run has one node")
        if options:
            raise UsageError(f"this container engine works with SLURM's srun only, not with {self.display_name}")
        return list(program)

    def escape(self, line: str) -> str:
        """A line of shell as the submission has to hold it, where the system substitutes values of its own."""
        return line

    def partitions(self) -> Iterable[str]:
        """The partitions (queues) that completion offers; none where they aren't looked up."""
        return ()

    def resolve(self, requested: Resources, partition: str | None) -> ResolvedRequest:
        """Fill in what was left open.

        Raises
        ------
        UsageError
            for what the system can never satisfy, with the nearest that it can.
        """
        gpus = gpus_of(requested, gpu_selection.most_gpus(self.settings, (), self.gpu_syntax))
        time = requested.time or self._default_time()
        resolved = replace(
            requested, gpus=gpus, cpus=requested.cpus or 1, memory=requested.memory or _MEMORY, time=time
        )
        choice = gpu_selection.selection_for(resolved, self.settings, (), self.gpu_syntax)
        if choice is None:
            return ResolvedRequest(resolved, partition)
        return ResolvedRequest(resolved, partition, (choice.kinds[0].directive_for(gpus),), choice.summary_lines)

    def _default_time(self) -> int | None:
        """Seconds that ``jobqueue.yaml`` gives every job."""
        self.prepare()
        text = self.section.walltime
        if text is not None and text.count(":") == 1 and not self.time_format.endswith(":00"):
            text += ":00"
        try:
            return None if text is None else parse_time(text)
        except ValueError as error:
            raise UsageError(f"walltime: {text!r} of jobqueue.{self.section.name} is not {error}") from None

    def prepare(self) -> None:
        """Import dask-jobqueue, which takes long, and with it the defaults of ``jobqueue.yaml``."""
        if self.job_class:
            jobqueue_adapter.load_class(self.job_class)

    @contextlib.contextmanager
    def submission_environment(self, env: Mapping[str, str]) -> Iterator[tuple[list[str], dict[str, str]]]:
        """Further options and the environment of the submit command, so that the job gets ``env``.

        Most systems give the job the command's environment.
        """
        yield [], {**env, **self.site_variables}

    def max_array_tasks(self) -> int:
        """How many tasks an array may have; below 2 where arrays are not possible.

        Raises
        ------
        SystemUnavailable
            if the system does not answer.
        """
        return _ARRAY_TASKS if self.array else 0

    def refusal(self, error: CommandFailed, request: JobRequest) -> MlnbError:  # noqa: ARG002
        """The error to show for a submission that failed with ``error``."""
        return error

    # queue and accounting

    def jobs(self) -> dict[str, QueuedJob]:
        """All of the user's jobs that the queue lists, by job id. Runs one command."""
        return self.table.parse(self.run(self.table.command), self.environment().get("USER", ""))

    def ended(self, ids: Sequence[str]) -> dict[str, QueuedJob]:
        """What accounting reports of jobs that the queue no longer lists, by job id; empty without accounting.

        Raises
        ------
        CommandFailed
            if accounting does not answer.
        """
        if not self.table.ended_command:
            return {}
        arguments = [argument for job in ids for argument in (*self.table.ended_option, job)]
        return self.table.parse(self.run([*self.table.ended_command, *arguments]))

    def vanished(self, job: str, recorded: Mapping[str, QueuedJob]) -> QueuedJob:  # noqa: ARG002
        """The end of a job that neither queue nor accounting has any more; ``recorded`` are others in accounting."""
        return QueuedJob("ended", "vanished", f"{self.display_name} no longer knows it")

    def explain(self, number: str, job: QueuedJob, resources: Resources) -> str:  # noqa: ARG002
        """Why job ``number`` waits or how it ended, in terms of the resources that it requested."""
        return job.reason

    def resources(self) -> Mapping[str, Any]:
        """The system's nodes and GPUs, as far as its commands report them."""
        return {"gpus": []}

    def cancel(self, *jobs: str) -> None:
        """End jobs: by one command, where the system has arrays. A job that has already ended is no error.

        Raises
        ------
        SystemUnavailable
            if the system does not answer.
        """
        for ids in [jobs] if self.array else [(job,) for job in jobs]:
            try:
                self.run([*shlex.split(self.cancel_command), *ids])
            except SystemUnavailable:
                raise
            except CommandFailed:
                continue

    def run(self, argv: Sequence[str], timeout: float = TIMEOUT) -> str:
        """What one of the system's commands prints; see :func:`mlnb.targets.batch.commands.run_command`."""
        env = {**self.site_variables, **self.environment()}
        return run_command(argv, env, system=self.display_name, timeout=timeout)

    @property
    def site_variables(self) -> dict[str, str]:
        """The session's variables that the site's plugins for the system's commands need (``command-variables``)."""
        return matching_variables(settings.lines(self.settings, "command-variables"))

    def environment(self) -> dict[str, str]:
        """The environment of the system's commands other than the submit command."""
        names = ("PATH", "HOME", "USER", "LOGNAME", "TZ", "LD_LIBRARY_PATH", *self.variables)
        return {**matching_variables(names), "LC_ALL": "C"}
