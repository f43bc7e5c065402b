"""Grid Engine: Debian's, Altair's and Son of Grid Engine. Tested with Son of Grid Engine 8.1.9."""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mlnb.errors import MlnbError, UsageError
from mlnb.targets.batch.commands import CommandFailed, SystemUnavailable
from mlnb.targets.batch.queued_job import QueuedJob
from mlnb.targets.batch.request import ArraySyntax, JobRequest, ResolvedRequest
from mlnb.targets.batch.system import COUNT_STARTS, System
from mlnb.targets.batch.systems.gridengine import text
from mlnb.task import Resources

_UNLIMITED = 75_000
"""Tasks of an array where the site sets no limit: Grid Engine's own default."""


class GridEngine(System):
    """Grid Engine. Settings: ``parallel-environment`` for several cores on one node, ``gpu-resource`` (``gpu``)."""

    kind = "sge"
    display_name = "Grid Engine"
    job_class = "sge:SGEJob"
    submit_command = "qsub"
    cancel_command = "qdel"
    # the number alone, with the tasks of an array: qsub -terse
    accepted = r'(?:Your job(?:-array)? )?(?P<job>[0-9]+)(?:\.[0-9]+-[0-9]+:[0-9]+)?(?: \(".*"\) has been submitted)?'
    own_settings = frozenset({"parallel-environment", "gpu-resource"})
    variables = ("SGE_*",)
    passes_variables = False  # qstat -j shows everyone the variables of a job
    forbidden_in_paths = "$\n"  # it substitutes $JOB_ID and the like; "#$" begins a directive on any line
    restarts = COUNT_STARTS  # RESTARTED is 1 after any number of restarts
    deadline = "${MLNB_H_RT:+$(($(date +%s) + MLNB_H_RT))}"
    requeue_command = "code=99"
    array = ArraySyntax(
        "-t {first_task}-{last_task}", index="$SGE_TASK_ID", log_index="$TASK_ID", job_id="{job}.{index}", first=1
    )
    signals = {**System.signals, "USR2": "TERM"}  # noqa: RUF012 - with -notify it sends USR2 before SIGKILL
    account_keyword = "project"
    directives = ("-S /bin/sh", "-V", "-v MLNB_H_RT={seconds}", "-o {log}", "-r {requeue}", "-notify", "-w e")

    def keywords(self, request: JobRequest) -> dict[str, Any]:
        """See :class:`System`."""
        return {**super().keywords(request), "job_directives_skip": ["-N "]}  # mlnb_lines names the job

    def gpu_lines(self, request: JobRequest) -> tuple[str, ...]:
        """See :class:`System`. The site names the resource."""
        count, resource = request.resources.gpus, self.settings.get("gpu-resource", "gpu")
        return request.gpu_directives or ((f"-l {resource}={count}",) if count else ())

    def mlnb_lines(self, request: JobRequest) -> list[str]:
        """See :class:`System`. The name ends with the run's id, by which the job is found again: qstat shows names."""
        environment = self.settings.get("parallel-environment")
        return [
            f"-N {'' if request.name[:1].isalpha() else '_'}{request.name}.{request.run}",
            *super().mlnb_lines(request),
            *([f"-pe {environment} {request.cpus}"] if environment and request.cpus > 1 else []),
        ]

    def launch(self, request: JobRequest, program: Sequence[str], options: Sequence[str] = ()) -> list[str]:
        """See :class:`System`. Grid Engine signals all of the job's processes, also those that have no handler."""
        return ["/bin/sh", "-c", 'trap "" USR1 USR2; exec "$@"', "sh", *super().launch(request, program, options)]

    def resolve(self, requested: Resources, partition: str | None) -> ResolvedRequest:
        """See :class:`System`. Memory is requested only if ``--memory`` is given: its resource has different names."""
        resolved = super().resolve(requested, partition)
        cores = resolved.resources.ranks * (resolved.resources.cpus or 1)
        if cores > 1 and not self.settings.get("parallel-environment"):
            available = ", ".join(self.run(["qconf", "-spl"]).split())
            raise UsageError(
                f"{cores} cores on one node: Grid Engine gives them through a parallel environment whose "
                f"allocation_rule is $pe_slots; set parallel-environment: of the target to one of: {available}"
            )
        return replace(resolved, resources=replace(resolved.resources, memory=requested.memory))

    def jobs(self) -> dict[str, QueuedJob]:
        """See :class:`System`. Jobs that ended are not listed; the errors of jobs take a second command."""
        jobs = text.parse(self.run(["qstat", "-xml", "-u", pwd.getpwuid(os.geteuid()).pw_name]))
        failed = ",".join(dict.fromkeys(job_id.partition(".")[0] for job_id, job in jobs.items() if "E" in job.code))
        return jobs | (text.errors(self.run(["qstat", "-xml", "-j", failed]), jobs) if failed else {})

    def ended(self, ids: Sequence[str]) -> dict[str, QueuedJob]:
        """See :class:`System`. Accounting has only jobs that have started."""
        jobs = {}
        for job_id in ids:
            number, _, task = job_id.partition(".")
            try:
                jobs[job_id] = text.parse_account(self.run(["qacct", "-j", number, *(["-t", task] if task else [])]))
            except SystemUnavailable:
                raise
            except CommandFailed as error:
                if "not found" in error.output:
                    reason = "left the queue without a record, as a job that is deleted (qdel) before it starts"
                    jobs[job_id] = QueuedJob("ended", "cancelled", reason)
        return jobs

    def max_array_tasks(self) -> int:
        """See :class:`System`. ``max_aj_tasks`` of the cluster's configuration; 0 is no limit."""
        match = re.search(r"^max_aj_tasks +([0-9]+)", self.run(["qconf", "-sconf"]), re.MULTILINE)
        return int(match[1]) or _UNLIMITED if match else super().max_array_tasks()

    def refusal(self, error: CommandFailed, request: JobRequest) -> MlnbError:
        """See :class:`System`."""
        message = " ".join(error.output.replace("Exiting.", "").split()).removeprefix("Unable to run job: ")
        if "no suitable queues" in message:
            advice = "Grid Engine has no queue that could ever run this: ask for fewer cores or GPUs, or less time"
            if request.site_directives:
                advice += "; if directives: of the target ask for load values, put '-w n' after them"
            return UsageError(advice)
        option = f"--partition {request.partition}: " if request.partition and "queue" in message else ""
        return UsageError(f"{option}Grid Engine says: {message}") if message else error
