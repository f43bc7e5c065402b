"""Grid Engine, in Debian's, Altair's and Son of Grid Engine's kinds. Tested with Son of Grid Engine 8.1.9."""

from __future__ import annotations

import os
import pwd
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from mlnb.errors import MlnbError, UsageError
from mlnb.targets.base import Placement
from mlnb.targets.batch.commands import CommandFailed, NotThere
from mlnb.targets.batch.gridengine import text as gridengine_text
from mlnb.targets.batch.system import COUNTED, LOG, JobRequest, QueuedJob, ResolvedRequest, System, clock
from mlnb.task import Resources


class GridEngine(System):
    """Grid Engine. Settings: ``parallel-environment`` for several cores on one node, ``gpu-resource`` (``gpu``)."""

    kind = "sge"
    own_settings = frozenset({"parallel-environment", "gpu-resource"})
    display_name = "Grid Engine"
    job = "sge:SGEJob"
    submit_command = "qsub"
    cancel_command = "qdel"
    accepted = r'(?:Your job )?(?P<job>[0-9]+)(?: \(".*"\) has been submitted)?'  # the number alone: qsub -terse
    variables = ("SGE_*",)
    passes_variables = False  # qstat -j shows everyone what a job was given
    patterns = "$\n"  # $JOB_ID and the like in a folder are put in; "#$" begins a directive on any line
    restarts = COUNTED  # RESTARTED is 1 however often it was
    deadline = "${MLNB_H_RT:+$(($(date +%s) + MLNB_H_RT))}"
    requeue_command = "code=99"
    signals = {**System.signals, "USR2": "TERM"}  # noqa: RUF012 - what -notify has sent before SIGKILL

    def keywords(self, request: JobRequest) -> dict[str, Any]:
        """See :class:`System`. The name ends with the run's id, since no other of our words is in the queue's list."""
        environment, time = self.settings.get("parallel-environment"), request.resources.time
        gpus = f"-l {self.settings.get('gpu-resource', 'gpu')}={request.resources.gpus}"
        return {
            "queue": request.partition,
            "project": request.account,
            "walltime": clock(time) if time else None,
            "job_directives_skip": ["-N "],
            "job_extra_directives": [
                *request.usual,
                f"-N {'' if request.name[:1].isalpha() else '_'}{request.name}.{request.run}",
                "-S /bin/sh",
                "-V",
                *([f"-v MLNB_H_RT={-(-time // 60) * 60}"] if time else []),
                f"-o {LOG}",
                f"-r {'y' if request.requeue else 'n'}",
                "-notify",
                "-w e",
                *([f"-pe {environment} {request.cpus}"] if environment and request.cpus > 1 else []),
                *([gpus] if request.resources.gpus and not request.gpus else []),
                *request.gpus,
                *request.extra,
            ],
        }

    def launch(self, request: JobRequest, program: Sequence[str], options: Sequence[str] = ()) -> list[str]:
        """See :class:`System`. Signals go to the job's processes, too: those they don't know must not end them."""
        return ["/bin/sh", "-c", 'trap "" USR1 USR2; exec "$@"', "sh", *super().launch(request, program, options)]

    def fill(self, asked: Resources, placement: Placement) -> ResolvedRequest:
        """See :class:`System`. Memory is limited only if someone says so: sites name it differently."""
        filled = super().fill(asked, placement)
        cores = filled.resources.ranks * (filled.resources.cpus or 1)
        if cores > 1 and not self.settings.get("parallel-environment"):
            there = ", ".join(self.run(["qconf", "-spl"]).split())
            raise UsageError(
                f"{cores} cores on one node: Grid Engine gives them through a parallel environment whose "
                f"allocation_rule is $pe_slots; set parallel-environment: of the target to one of: {there}"
            )
        return replace(filled, resources=replace(filled.resources, memory=asked.memory))

    def jobs(self) -> dict[str, QueuedJob]:
        """See :class:`System`. Jobs that ended are gone from it; what is wrong with one is told by a second command."""
        found = gridengine_text.parse(self.run(["qstat", "-xml", "-u", pwd.getpwuid(os.geteuid()).pw_name]))
        wrong = ",".join(number for number, job in found.items() if "E" in job.code)
        return found | (gridengine_text.errors(self.run(["qstat", "-xml", "-j", wrong]), found) if wrong else {})

    def ended(self, ids: Sequence[str]) -> dict[str, QueuedJob]:
        """See :class:`System`. Only jobs that have started are on record."""
        found = {}
        for number in ids:
            try:
                found[number] = gridengine_text.parse_account(self.run(["qacct", "-j", number]))
            except NotThere:
                raise
            except CommandFailed as error:
                if "not found" in error.said:
                    words = "left the queue and is on no record, as one that is deleted (qdel) before it starts"
                    found[number] = QueuedJob("ended", "cancelled", words)
        return found

    def refusal(self, error: CommandFailed, request: JobRequest) -> MlnbError:
        """See :class:`System`."""
        said = " ".join(error.said.replace("Exiting.", "").split()).removeprefix("Unable to run job: ")
        if "no suitable queues" in said:
            words = "Grid Engine has no queue that could ever run this: ask for fewer cores or GPUs, or less time"
            if request.extra:
                words += "; if directives: of the target ask for load values, put '-w n' behind them"
            return UsageError(words)
        flag = f"--partition {request.partition}: " if request.partition and "queue" in said else ""
        return UsageError(f"{flag}Grid Engine says: {said}") if said else error
