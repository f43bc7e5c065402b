"""The SLURM batch system: its directives, its commands, and how its answers are explained."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from mlnb.errors import MlnbError, UsageError
from mlnb.targets.batch.commands import CommandFailed
from mlnb.targets.batch.queued_job import QueuedJob
from mlnb.targets.batch.request import (
    ArraySyntax,
    JobRequest,
    ResolvedRequest,
    SessionDefaults,
    directive_word,
    expand,
    format_clock,
    mebibytes,
)
from mlnb.targets.batch.system import System
from mlnb.targets.batch.systems.slurm import cluster, defaults, queue
from mlnb.targets.batch.systems.slurm.directives import merge, option_value
from mlnb.targets.batch.systems.slurm.ends import explain_end
from mlnb.targets.batch.systems.slurm.nodes import (
    NODES_COMMAND,
    PARTITIONS_COMMAND,
    Node,
    Partition,
    parse_nodes,
    parse_partitions,
)
from mlnb.targets.batch.systems.slurm.reasons import MAY_BE_IMPOSSIBLE, explain_wait
from mlnb.targets.batch.systems.slurm.session import session_defaults
from mlnb.targets.batch.systems.slurm.text import FORMATS
from mlnb.targets.config import settings
from mlnb.targets.config.options import NAME, TargetOption
from mlnb.targets.gpus import kinds as gpu_kinds
from mlnb.targets.gpus import selection as gpu_selection
from mlnb.task import Resources
from mlnb.units import format_time

_SCHEDULING = 5.0
"""Seconds that SLURM's scheduler may take to consider a new job; until then the job's reason is ``Priority``."""

_NODES_INTERVAL, _NODES_POLLS = 30.0, 6
"""Seconds between two readings of the nodes, which may be thousands; with ``poll``, this many polling intervals."""

_ACCOUNTING_TIMEOUT = 10.0
"""Seconds after which ``sacct`` is stopped: if its database hangs, it never ends."""

_JOB = "${SLURM_ARRAY_TASK_ID:+${SLURM_ARRAY_JOB_ID}_}${SLURM_ARRAY_TASK_ID:-$SLURM_JOB_ID}"
"""Shell: the job's id. SLURM_JOB_ID of one task of an array is the id of the whole array."""

_END = f"$(SLURM_TIME_FORMAT=%s timeout 3 squeue -ah -j {_JOB} -O EndTime 2>/dev/null | grep -xE '[0-9]+ *')"
"""Shell: the job's end, where SLURM sets no variable for it (22.05 doesn't): queries this job alone, some 5 ms.

A node without ``squeue``, or a controller that is down, delays nothing: the run then uses its own ``--time``.
"""

_BY_CAUSE = {"memory": "OUT_OF_MEMORY", "time": "TIMEOUT"}
"""Causes of an end whose explanation names what the run requested, by SLURM's state."""


class Slurm(System):
    """SLURM, 20.11 or newer (``squeue --me``)."""

    kind = "slurm"
    options = (TargetOption("--qos", type=NAME, for_pools=True, help="quality of service that it is queued with"),)
    own_settings = frozenset({"cluster"})
    display_name = "SLURM"
    job_class = "slurm:SLURMJob"
    submit_command = "sbatch --parsable"
    cancel_command = "scancel"
    gpu_syntax = gpu_kinds.SLURM
    # the second form is that of wrappers that print what sbatch does without it
    accepted = r"(?:Submitted batch job )?(?P<job>[0-9]+)(?:(?:;| on cluster )(?P<cluster>[A-Za-z0-9_.-]+))?"
    variables = ("SLURM_CONF",)
    accounting_lags = True
    forbidden_in_paths = "%\\"  # in the folder of the log, too: sbatch(1), filename pattern
    restarts = "${SLURM_RESTART_COUNT:-0}"
    deadline = f"${{SLURM_JOB_END_TIME:-{_END}}}"
    requeue_command = f'scontrol requeue "{_JOB}"'
    array = ArraySyntax("--array={first_task}-{last_task}", index="$SLURM_ARRAY_TASK_ID", log_index="%a")

    @cached_property
    def cluster(self) -> str:  # cached: all commands of one operation must use the same cluster
        """See :class:`System`. The target's own, else that of its directives, else the session's."""
        given = self.settings.get("cluster")
        if given is None:
            given = option_value(self._directives, "--clusters")
        if given is None:
            given = os.environ.get("SBATCH_CLUSTERS") or os.environ.get("SLURM_CLUSTERS") or ""
        return _cluster_name(str(given)) if given else ""

    @property
    def _directives(self) -> tuple[str, ...]:
        return (*settings.lines(self.settings, "directives"), *self.section.directives)

    @property
    def session_defaults(self) -> SessionDefaults:
        """See :class:`System`."""
        return session_defaults(os.environ, self._directives)

    def on_cluster(self, cluster: str) -> System:
        """See :class:`System`."""
        return self if cluster == self.cluster else Slurm({**self.settings, "cluster": cluster}, self.workspace)

    def keywords(self, request: JobRequest) -> dict[str, Any]:
        """See :class:`System`. One task on each node: it is the node program, which starts the ranks."""
        nodes = request.resources.nodes
        gpus = self.gpu_lines(request)
        ours = [
            f"--nodes={nodes}",
            "--ntasks-per-node=1",
            f"--comment=mlnb:{request.run}",
            f"--output={request.log}",
            f"--error={request.log}",
            "--open-mode=append",
            f"--signal=B:USR1@{request.warning_time}",
            "--requeue" if request.requeue else "--no-requeue",
            *expand((*self.directives, *([self.array.directive] if request.tasks else [])), self._values(request)),
        ]
        extra = (
            *request.site_directives,
            *([f"--qos={request.qos}"] if request.qos else []),
        )  # of equal options the last holds
        memory, time = request.resources.memory, request.resources.time
        rendered = {
            "--job-name": f"-J {request.name}",
            "--cpus-per-task": f"--cpus-per-task={request.cpus}",
            **({"--partition": f"-p {request.partition}"} if request.partition else {}),
            **({"--account": f"-A {request.account}"} if request.account else {}),
            **({"--mem": f"--mem={mebibytes(memory)}M"} if memory is not None else {}),
            **({"--time": f"-t {format_clock(time)}"} if time else {}),
        }
        skipped = self.section.skipped
        rendered_names = [name for name, line in rendered.items() if not any(part in line for part in skipped)]
        return {
            "queue": request.partition,
            "account": request.account,
            "walltime": format_clock(time) if time else None,
            "job_cpu": request.cpus,
            "job_mem": None if memory is None else f"{mebibytes(memory)}M",
            "job_directives_skip": ["-n 1", *(["--mem="] if memory is None else [])],
            "job_extra_directives": merge(ours, gpus, extra, request.default_directives, rendered_names),
        }

    def launch(self, request: JobRequest, program: Sequence[str], options: Sequence[str] = ()) -> list[str]:
        """See :class:`System`. One node needs no ``srun``: the job's script runs on it already."""
        nodes = request.resources.nodes
        if nodes == 1 and not options:
            return list(program)
        # cores again: since 22.05 steps don't inherit them from the job
        step = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", f"--cpus-per-task={request.cpus}"]
        return ["srun", *step, "--kill-on-bad-exit=1", "--input=none", "--export=ALL", *options, *program]

    def resolve(self, requested: Resources, partition: str | None) -> ResolvedRequest:
        """See :class:`System`. Defaults come from the partition's limits and its nodes."""
        resolved = defaults.resolve(requested, partition, self._nodes, self._partitions_with(partition), self.settings)
        if requested.memory is None and any(part in "--mem=" for part in self.section.skipped):
            return replace(resolved, resources=replace(resolved.resources, memory=None))  # the site requests none
        return resolved

    @cached_property
    def _nodes(self) -> dict[str, Node]:
        return parse_nodes(self.run(NODES_COMMAND))

    @cached_property
    def _partitions(self) -> dict[str, Partition]:
        return parse_partitions(self.run(PARTITIONS_COMMAND))

    def partitions(self) -> Iterable[str]:
        """See :class:`System`."""
        return self._partitions

    def _partitions_with(self, named: str | None) -> dict[str, Partition]:
        """The partitions that SLURM lists, and the hidden ones among ``named``."""
        hidden = {name for name in (named or "").split(",") if name} - set(self._partitions)
        if not hidden:
            return self._partitions
        every = parse_partitions(self.run([PARTITIONS_COMMAND[0], "--all", *PARTITIONS_COMMAND[1:]]))
        return {**self._partitions, **{name: part for name, part in every.items() if name in hidden}}

    def resources(self) -> Mapping[str, Any]:
        """Nodes and GPUs of the default partition (or the target's own)."""
        name = self.settings.get("partition") or self.section.queue
        part = self._partitions.get(str(name)) if name else defaults.default(self._partitions)
        nodes = [self._nodes[node] for node in part.nodes if node in self._nodes] if part else []
        gpus = [f"{node.name}:{index}" for node in nodes for index in range(node.gpu_count)]
        return {"nodes": len(nodes), "cpus": sum(node.cpus for node in nodes), "gpus": gpus}

    def jobs(self) -> dict[str, QueuedJob]:
        """See :class:`System`."""
        return queue.parse(self.run(queue.QUEUE_COMMAND))

    def explain(self, number: str, job: QueuedJob, resources: Resources) -> str:
        """See :class:`System`."""
        details = job.details
        if details.get("state") == "PENDING":
            code = "" if job.code == "PENDING" else job.code
            if job.cause == "priority" and time.time() - float(details.get("submitted") or 0.0) < _SCHEDULING:
                code = ""
            restarts = int(details.get("restarts") or 0)
            partition = details.get("partition") or None
            more: dict[str, Any] = {"job": number, "start": job.start, "restarts": restarts}
            if code and job.cause in MAY_BE_IMPOSSIBLE:
                poll = settings.seconds(self.settings, "poll")
                interval = _NODES_INTERVAL if poll is None else poll * _NODES_POLLS
                nodes, more["partitions"] = cluster.read_cluster(self, interval)
                more["nodes"] = gpu_selection.machines_for(resources, self.settings, nodes)
            return explain_wait(code, resources, partition, **more).reason
        if job.cause in _BY_CAUSE:
            return explain_end(_BY_CAUSE[job.cause], resources=resources).reason
        return job.reason

    def ended(self, ids: Sequence[str]) -> dict[str, QueuedJob]:
        """See :class:`System`. Without a database SLURM forgets a job some minutes after its end."""
        try:
            return queue.parse_account(self.run(queue.account_command(ids), _ACCOUNTING_TIMEOUT))
        except CommandFailed as error:
            missing = shutil.which("sacct", path=self.environment().get("PATH")) is None
            if missing or "accounting storage is disabled" in error.output.lower():
                return {number: self.vanished(number, {}) for number in ids}
            raise

    def vanished(self, job: str, recorded: Mapping[str, QueuedJob]) -> QueuedJob:
        """See :class:`System`. SLURM keeps no record of a task of an array that was cancelled before it started."""
        array, of_array, _ = job.partition("_")
        if of_array and any(other.startswith(f"{array}_") for other in recorded):
            return QueuedJob("ended", "cancelled", "was cancelled before it started; SLURM does not record by whom")
        return super().vanished(job, recorded)

    def max_array_tasks(self) -> int:
        """See :class:`System`. An index is below ``MaxArraySize``; ``max_array_tasks`` may set a lower limit."""
        text = self.run(("scontrol", "show", "config"))
        limits = re.findall(r"^MaxArraySize\s*=\s*([0-9]+)|\bmax_array_tasks=([0-9]+)", text, re.MULTILINE)
        return min((int(size or tasks) for size, tasks in limits), default=super().max_array_tasks())

    def refusal(self, error: CommandFailed, request: JobRequest) -> MlnbError:
        """See :class:`System`. It names the option that can be changed."""
        output = error.output.lower()
        if "violates" in output:  # a limit of the account or the QOS, which are right
            return error
        for word, flag, given, setting in (
            (r"\bqos\b", "--qos", request.qos, "directives:"),
            (r"\baccount\b", "--account", request.account, "account:"),
        ):
            if re.search(word, output):
                prefix, article = (f"{flag} {given}: ", "another") if given else ("", "one")
                return UsageError(
                    f"{prefix}{error}; choose {article} with {flag}, or with the target's setting {setting}"
                )
        for word, flag, value in (
            ("partition", "--partition", request.partition),
            ("time limit", "--time", request.resources.time and format_time(request.resources.time)),
        ):
            if word in output and value:
                return UsageError(f"{flag} {value}: {error}")
        return error

    @contextlib.contextmanager
    def submission_environment(self, env: Mapping[str, str]) -> Iterator[tuple[list[str], dict[str, str]]]:
        """See :class:`System`. The job's variables are in a file, so that it does not get those of the site's plugins.

        The file is in memory; sbatch finds it under this process. (``--export=NAMES`` would have a node read the user's
        login files, and pass on all variables of SLURM's.)
        """
        if not self.site_variables:
            yield [], dict(env)
            return
        with os.fdopen(os.memfd_create("mlnb"), "wb") as file:
            file.write(b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in env.items()))
            file.flush()
            yield [f"--export-file=/proc/{os.getpid()}/fd/{file.fileno()}"], {**env, **self.site_variables}

    def environment(self) -> dict[str, str]:
        """See :class:`System`; also the variables that make what the commands print unambiguous and complete."""
        selected = {"SLURM_CLUSTERS": self.cluster} if self.cluster else {}
        return {**super().environment(), **FORMATS, **selected}


def _cluster_name(text: str) -> str:
    """``text``, if it names one cluster: the plan uses its nodes, and states come from its queue."""
    if "," in text or text == "all":
        raise UsageError(f"cluster {text}: a run needs one cluster; set it with the target's setting cluster:")
    return directive_word(text, "cluster")
