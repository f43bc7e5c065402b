"""The request for one job of a batch system, its resolved form, and how directives are written."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import Formatter
from typing import Any, NamedTuple

from mlnb.errors import UsageError
from mlnb.node.rank.stop import REQUEUE as REQUEUE
from mlnb.rundir import JOB_LOG
from mlnb.task import Resources

LOG = JOB_LOG
"""The file for what the job itself prints. The job is submitted from its folder, so that no path needs quoting."""


@dataclass(frozen=True)
class JobRequest:
    """One job: what its directives are made from.

    Attributes
    ----------
    run
        the run's id; needs no quoting.
    name
        the run's name; letters, digits, ``.``, ``_`` and ``-`` only.
    resources
        complete: ``cpus`` per rank, ``memory`` in bytes per node, ``time`` in seconds.
    partition, account, qos
        ``None`` leaves it to the system.
    requeue
        whether the system may queue the job again after preemption or the loss of a node.
    gpu_directives
        request the GPUs; empty where a plain count will do.
    site_directives
        those of the target's settings, without the system's prefix.
    default_directives
        those of ``jobqueue.yaml``; all others override them.
    options
        values of the options of :attr:`mlnb.targets.batch.system.System.options` by key, as they were given.
    tasks
        indices of the tasks, if it is a job array; then ``run`` is the array's id.
    log
        path of the job's own output, relative to the folder that it is submitted from.
    """

    run: str
    name: str
    resources: Resources
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    requeue: bool = True
    gpu_directives: tuple[str, ...] = ()
    site_directives: tuple[str, ...] = ()
    default_directives: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    tasks: range = range(0)
    log: str = LOG

    @property
    def cpus(self) -> int:
        """Cores on each node."""
        return self.resources.ranks * (self.resources.cpus or 1)

    @property
    def warning_time(self) -> int:
        """How many seconds before its time limit the job is warned."""
        return max(1, min(60, (self.resources.time or 600) // 10))


@dataclass(frozen=True)
class ResolvedRequest:
    """A request for resources after the system has filled in what was open.

    Attributes
    ----------
    resources
        complete.
    partition
        where the job goes; ``None`` for the system's default.
    gpu_directives
        request the GPUs.
    summary_lines
        the choices, a line each, for the plan.
    """

    resources: Resources
    partition: str | None = None
    gpu_directives: tuple[str, ...] = ()
    summary_lines: tuple[str, ...] = ()


@dataclass(frozen=True)
class SessionDefaults:
    """Defaults that the session's environment sets for jobs, as ``SBATCH_PARTITION`` does. Options override them.

    Attributes
    ----------
    partition, account, qos, time
        as those of a run; ``time`` in seconds.
    directives
        more, without the system's prefix.
    summary_lines
        lines of the plan: which of the environment's variables are ignored.
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    time: int | None = None
    directives: tuple[str, ...] = ()
    summary_lines: tuple[str, ...] = ()


ARRAY_PREFIX = "array-"
"""What the id of an array begins with; the id of a run begins with a digit."""


@dataclass(frozen=True)
class ArraySyntax:
    """How a system starts many jobs by one submission, and tells them apart.

    Attributes
    ----------
    directive
        template of the directive that makes a job an array; may name ``first_task`` and ``last_task``.
    index
        shell: the index of the task that runs it.
    log_index
        the index as the directive for the log's path writes it.
    job_id
        template of a task's job id, from the array's ``job`` and the task's ``index``.
    first
        the index of the first task.
    """

    directive: str
    index: str
    log_index: str
    job_id: str = "{job}_{index}"
    first: int = 0


class SubmittedJob(NamedTuple):
    """A job that the system accepted: its id, and its cluster where the system named one."""

    job: str
    cluster: str = ""


def template_values(request: JobRequest, gpus: str | None, time_format: str) -> dict[str, object]:
    """The values that templates of directives may name; ``None`` for what was not requested.

    ``run``, ``name``, ``partition``, ``account``, ``nodes``, ``cpus`` (per node), ``memory`` (MiB per node), ``time``
    and ``seconds`` (both up to the next minute), ``warning`` (seconds before the end), ``gpus`` (what requests them),
    ``log``, ``requeue`` (``y`` or ``n``) and ``requeue_code`` (the exit code by which a job asks to be queued again),
    ``first_task`` and ``last_task`` (of an array).
    """
    resources, time = request.resources, request.resources.time
    return {
        "run": request.run,
        "name": request.name,
        "partition": request.partition,
        "account": request.account,
        "requeue": "y" if request.requeue else "n",
        "nodes": resources.nodes,
        "cpus": request.cpus,
        "memory": mebibytes(resources.memory) if resources.memory else None,
        "time": format_clock(time, time_format) if time else None,
        "seconds": -(-time // 60) * 60 if time else None,
        "warning": request.warning_time,
        "gpus": gpus,
        "log": request.log,
        "requeue_code": REQUEUE,
        "first_task": request.tasks[0] if request.tasks else None,
        "last_task": request.tasks[-1] if request.tasks else None,
    }


def expand(templates: Sequence[str], values: Mapping[str, object]) -> list[str]:
    """The templates, filled in; templates that name a value that is ``None`` are left out."""
    lines = []
    for template in templates:
        names = {name for _, name, _, _ in Formatter().parse(template) if name}
        if all(values[name] is not None for name in names):
            lines.append(template.format_map(values))
    return lines


def directive_word(text: str, option: str) -> str:
    """``text``, after a check that directives may contain it without quotes.

    Raises
    ------
    UsageError
        if they may not. ``option`` is where the text comes from, for the message.
    """
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.,@+:/-]*", text):
        raise UsageError(
            f"{option} {text!r}: use letters, digits and '_.,@+:/-', and begin with one of the first three"
        )
    return text


def mebibytes(memory: int) -> int:
    """Bytes as MiB, rounded up: the memory of a whole node then fits on that node."""
    return -(-memory // 2**20)


CLOCK = "{hours:02d}:{minutes:02d}:00"
"""How most batch systems write times."""


def format_clock(seconds: int, template: str = CLOCK) -> str:
    """``seconds``, rounded up to the next minute, as a batch system writes them: ``26:30:00``."""
    minutes = -(-seconds // 60)
    return template.format(hours=minutes // 60, minutes=minutes % 60)
