"""What a batch system has to say beyond what dask-jobqueue knows of it: a class of a few dozen lines each."""

from __future__ import annotations

import abc
import contextlib
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, NamedTuple

from mlnb.errors import MlnbError, UsageError
from mlnb.node.rank.stop import REQUEUE as REQUEUE
from mlnb.rundir import JOB_LOG
from mlnb.targets.base import Placement, gpus_of
from mlnb.targets.batch.commands import PATIENCE, CommandFailed, NotThere, command
from mlnb.targets.batch.jobqueue_import import imported
from mlnb.targets.batch.jobqueue_section import Section
from mlnb.targets.config import settings
from mlnb.targets.environment import matching
from mlnb.targets.gpus import kinds as gpu_kinds
from mlnb.targets.gpus import selection as gpu_selection
from mlnb.task import Resources
from mlnb.units import parse_time

LOG = JOB_LOG
"""What the job itself prints, in the attempt's folder, where the job is submitted from: no path to be quoted."""

COUNTED = '$(echo >>"${0%/*}/starts"; echo $(($(wc -l <"${0%/*}/starts") - 1)))'
"""Shell for :attr:`System.restarts` where the system keeps no count: a line for each start, in the attempt's folder."""

_MEMORY = 4 * 2**30
"""Bytes a node where neither the person nor the site says."""


@dataclass(frozen=True)
class JobRequest:
    """One job: what the directives are made from.

    Attributes
    ----------
    run
        the run's id; needs no quoting.
    name
        the run's name; letters, digits, ``.``, ``_`` and ``-`` only.
    resources
        complete: ``cpus`` a rank, ``memory`` in bytes a node, ``time`` in seconds.
    partition, account, qos
        where to submit, who pays, and how well; ``None`` leaves it to the system.
    requeue
        whether the system may queue it again after preemption or the loss of a node.
    gpus
        directives that ask for the GPUs; empty where the system's plain count will do.
    extra
        directives of the site, without the system's prefix.
    usual
        those that it has for dask-jobqueue, which yield to all others.
    """

    run: str
    name: str
    resources: Resources
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    requeue: bool = True
    gpus: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()
    usual: tuple[str, ...] = ()

    @property
    def cpus(self) -> int:
        """Cores on each node."""
        return self.resources.ranks * (self.resources.cpus or 1)

    @property
    def warning(self) -> int:
        """Seconds before its end at which the job is to be warned."""
        return max(1, min(60, (self.resources.time or 600) // 10))


@dataclass(frozen=True)
class QueuedJob:
    """A job as its system reports it.

    Attributes
    ----------
    state
        ``pending``, ``running`` or ``ended``.
    cause
        the reason, normalised: while pending ``resources priority limit dependency impossible hold requeue begin
        down other``; at the end ``completed failed memory time preempted node cancelled launch vanished``.
    words
        the reason in plain words, with what would start it sooner or what to do.
    code
        the system's own word for it.
    start
        seconds since the epoch: when it started, or when the system expects it to.
    nodes
        the nodes it holds.
    ending
        whether it runs on only to have cleared away what it has left.
    """

    state: str
    cause: str = ""
    words: str = ""
    code: str = ""
    start: float | None = None
    nodes: tuple[str, ...] = ()
    about: Mapping[str, Any] = field(default_factory=dict)
    ending: bool = False


@dataclass(frozen=True)
class Session:
    """What the session's environment wants of every job, where neither the person nor the target says it.

    Attributes
    ----------
    partition, account, qos, time
        as those of a run.
    directives
        more, without the system's prefix.
    words
        what is wanted and not done.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: int | None = None
    directives: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


class Submitted(NamedTuple):
    """A job that was accepted: its id, and the cluster that it is on where the system has said one."""

    job: str
    cluster: str = ""


@dataclass(frozen=True)
class ResolvedRequest:
    """What a system makes of the resources asked for: complete, the directives for its GPUs, and in plain words."""

    resources: Resources
    partition: str | None = None
    gpus: tuple[str, ...] = ()
    words: tuple[str, ...] = ()


class System(abc.ABC):
    """A batch system.

    Parameters
    ----------
    settings
        of the target: see docs/site-setup.md.
    """

    kind: ClassVar[str]
    """As settings name it, and as dask-jobqueue calls its section."""

    display_name: ClassVar[str]
    """As people call it."""

    own_settings: ClassVar[frozenset[str]] = frozenset()
    """Settings that only targets of this system have; docs/site-setup.md has those of all."""

    job: ClassVar[str]
    """Module of dask-jobqueue and class in it that renders its directives, as in ``slurm:SLURMJob``."""

    accepted: ClassVar[str]
    """Pattern of the line by which its command says that it took a job, with the id as ``job``: sites print others."""

    submit_command: ClassVar[str]
    """The command that submits a job; its program on PATH shows that this machine submits to this system."""

    cancel_command: ClassVar[str]
    """The command that ends jobs, without their ids."""

    stdin: ClassVar[bool] = False
    """Whether that command reads the submission from its standard input."""

    variables: ClassVar[tuple[str, ...]] = ()
    """Patterns of the environment variables that its commands need."""

    script: ClassVar[bool] = True
    """Whether what is submitted is a script, which holds the prologue of ``jobqueue.yaml``; else ``job.sh`` has it."""

    passes_variables: ClassVar[bool] = True
    """Whether a job gets the environment of the command that submits it."""

    gpus: ClassVar[gpu_kinds.RequestSyntax] = gpu_kinds.RequestSyntax()
    """How it is asked for GPUs of a kind."""

    qualities: ClassVar[bool] = False
    """Whether it knows what SLURM calls a quality of service (``--qos``)."""

    patterns: ClassVar[str] = ""
    """Characters that a run's path must not have, since the system puts values of its own in their place."""

    requeues: ClassVar[bool] = True
    """Whether it can queue a job again, as the same job."""

    accounting_lags: ClassVar[bool] = False
    """Whether its accounting may hear of an end after the queue has forgotten the job; it knows who cancelled one."""

    restarts: ClassVar[str] = "0"
    """Shell: how often this job was started before; see also :data:`COUNTED`."""

    signals: ClassVar[Mapping[str, str]] = {"TERM": "TERM", "USR1": "USR1"}
    """Signals that the system sends to the job's shell, and which of them the node program gets for each."""

    deadline: ClassVar[str] = ""
    """Shell: when the job's time is over, in seconds since the epoch; nothing if that can't be told."""

    requeue_command: ClassVar[str] = ""
    """Shell command by which a job has itself queued again."""

    def __init__(self, settings: Mapping[str, Any]) -> None:
        self.settings = settings

    @property
    def section(self) -> Section:
        """What the site has written for dask-jobqueue."""
        return Section(str(self.settings.get("jobqueue", self.kind)))

    @property
    def session(self) -> Session:
        """What the session's environment wants of every job."""
        return Session()

    # submitting

    def job_class(self) -> type[Any]:
        """dask-jobqueue's Job class; imported only when a job is made or cancelled, since it brings a lot."""
        module, _, name = self.job.partition(":")
        return getattr(imported(f"dask_jobqueue.{module}"), name)  # type: ignore[no-any-return]

    def submitted(self, said: str) -> Submitted | None:
        """The job in what the command that submits printed; ``None`` if it names none."""
        found = [match for line in said.splitlines() if (match := re.fullmatch(self.accepted, line.strip()))]
        return Submitted(**{name: text for name, text in found[-1].groupdict().items() if text}) if found else None

    @property
    def cluster(self) -> str:
        """The cluster that is submitted to and asked, of a system that has several; empty for the usual one."""
        return ""

    def at(self, cluster: str) -> System:  # noqa: ARG002
        """The same system, to be asked for what is on ``cluster``."""
        return self

    @abc.abstractmethod
    def keywords(self, request: JobRequest) -> dict[str, Any]:
        """What the Job class is to be made with, beyond cores, memory and name."""

    def launch(self, request: JobRequest, program: Sequence[str], options: Sequence[str] = ()) -> list[str]:
        """The command that starts ``program`` once on each node of the job.

        Parameters
        ----------
        options
            what a container engine wants of the launcher.

        Raises
        ------
        UsageError
            for several nodes, where we know no way.
        """
        if request.resources.nodes > 1:
            raise UsageError(f"--nodes {request.resources.nodes}: on {self.display_name} a run has one node")
        if options:
            raise UsageError(f"this container engine works with SLURM's srun only, not with {self.display_name}")
        return list(program)

    def escaped(self, line: str) -> str:
        """A line of shell as the submission has to hold it, where the system itself puts in values of its own."""
        return line

    def fill(self, asked: Resources, placement: Placement) -> ResolvedRequest:
        """Fill in what was left open.

        Raises
        ------
        UsageError
            for what the system can never satisfy, with the nearest that it can.
        """
        gpus = gpus_of(asked, gpu_selection.most(self.settings, (), self.gpus))
        time = asked.time or self._walltime()
        filled = replace(asked, gpus=gpus, cpus=asked.cpus or 1, memory=asked.memory or _MEMORY, time=time)
        choice = gpu_selection.choice_for(filled, self.settings, (), self.gpus)
        if choice is None:
            return ResolvedRequest(filled, placement.partition)
        return ResolvedRequest(filled, placement.partition, (choice.kinds[0].line(gpus),), choice.words)

    def _walltime(self) -> int | None:
        """Seconds that dask-jobqueue gives a job for which nobody says any."""
        self.job_class()  # brings its defaults
        text = self.section.walltime
        try:
            return None if text is None else parse_time(self.full_clock(text))
        except ValueError as error:
            raise UsageError(f"walltime: {text!r} of jobqueue.{self.section.name} is not {error}") from None

    def full_clock(self, text: str) -> str:
        """A time as the system writes it, as one with seconds."""
        return text

    # asking

    @abc.abstractmethod
    def jobs(self) -> dict[str, QueuedJob]:
        """All of the user's jobs that the system still knows, by job id: one command."""

    def ended(self, ids: Sequence[str]) -> dict[str, QueuedJob]:  # noqa: ARG002
        """What accounting knows of jobs that the queue has forgotten; nothing where there is none.

        Raises
        ------
        CommandFailed
            if there is one that does not answer.
        """
        return {}

    def vanished(self) -> QueuedJob:
        """A job of which nothing is known any more."""
        return QueuedJob("ended", "vanished", f"{self.display_name} no longer knows it")

    def explained(self, number: str, job: QueuedJob, resources: Resources) -> str:  # noqa: ARG002
        """Why job ``number`` waits or how it ended, in the words of what it asked for."""
        return job.words

    def resources(self) -> Mapping[str, Any]:
        """What the system has, as far as it says."""
        return {"gpus": []}

    def cancel(self, job: str) -> None:
        """Have the system end a job; one that is gone already is none of our concern.

        Raises
        ------
        NotThere
            if the system does not answer.
        """
        try:
            self.run([*shlex.split(self.cancel_command), job])
        except NotThere:
            raise
        except CommandFailed:
            return

    def refusal(self, error: CommandFailed, request: JobRequest) -> MlnbError:  # noqa: ARG002
        """The error of a submission in words for whoever asked."""
        return error

    def run(self, argv: Sequence[str], patience: float = PATIENCE) -> str:
        """What one of the system's commands prints; see :func:`mlnb.targets.batch.commands.command`."""
        return command(argv, {**self.site, **self.environment()}, system=self.display_name, patience=patience)

    @contextlib.contextmanager
    def submission_environment(self, env: Mapping[str, str]) -> Iterator[tuple[list[str], dict[str, str]]]:
        """How a job is submitted that is to have ``env``: more words for the command, and the command's environment.

        That of the command is what most systems give the job.
        """
        yield [], {**env, **self.site}

    @property
    def site(self) -> dict[str, str]:
        """The session's variables that the site's plugins for the system's commands need (``command-variables``)."""
        return matching(settings.words(self.settings, "command-variables"))

    def environment(self) -> dict[str, str]:
        """The environment of the system's commands: those that read things, not those that submit."""
        kept = ("PATH", "HOME", "USER", "LOGNAME", "TZ", "LD_LIBRARY_PATH", *self.variables)
        return {**matching(kept), "LC_ALL": "C"}


def plain(text: str, what: str) -> str:
    """``text`` if it may stand in a directive as it is.

    Raises
    ------
    UsageError
        naming ``what`` it was given as.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.,@+:/-]*", text):
        raise UsageError(f"{what} {text!r}: letters, digits and '_.,@+:/-' are allowed, none of the latter first")
    return text


def mebibytes(memory: int) -> int:
    """``memory`` in bytes as batch systems count it, up to the next one: no more than a whole node has of them."""
    return -(-memory // 2**20)


def clock(seconds: int) -> str:
    """``seconds`` as batch systems write times: ``26:30:00``, up to the next minute."""
    minutes = -(-seconds // 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:00"
