"""The IBM Spectrum LSF batch system."""

from __future__ import annotations

from typing import Any

from mlnb.targets.batch.job_table import JobTable, State
from mlnb.targets.batch.queued_job import HELD, MEMORY_LIMIT, SUSPENDED, TIME_LIMIT, WAITING
from mlnb.targets.batch.request import JobRequest
from mlnb.targets.batch.system import COUNT_STARTS, System
from mlnb.targets.gpus.kinds import RequestSyntax


class Lsf(System):
    """LSF 10.1 or newer (``bsub -gpu``, ``bjobs -json``)."""

    kind = "lsf"
    display_name = "LSF"
    job_class = "lsf:LSFJob"
    submit_command = "bsub"
    reads_stdin = True
    cancel_command = "bkill"
    accepted = r"Job <(?P<job>[0-9]+)> is submitted to .*"
    variables = ("LSF_*", "LSB_*", "EGO_*")
    restarts = COUNT_STARTS  # LSB_RESTART says only that there was one
    account_keyword = "project"
    memory_directive = "-M "
    time_format = "{hours:02d}:{minutes:02d}"
    gpu_syntax = RequestSyntax('-gpu "num={count}:gmodel={type}"', any_type='-gpu "num={count}"')
    directives = ("-o {log}",)
    requeue_directives = ("-r", "-Q {requeue_code}")
    no_requeue_directives = ("-rn",)
    table = JobTable(
        system=display_name,
        # bjobs(1): all values are strings; a missing value is an empty one
        command=("bjobs", "-a", "-json", "-o", "jobid stat exit_code exit_reason exec_host pend_reason"),
        records="RECORDS",
        job_id="{JOBID}",
        state_field="STAT",
        states={
            **dict.fromkeys(("PEND", "WAIT"), State("pending", "resources", WAITING)),
            "PSUSP": State("pending", "hold", f"{HELD}: bresume {{job}} releases it"),
            **dict.fromkeys(("USUSP", "SSUSP"), State("running", reason=SUSPENDED)),
            "DONE": State("ended", "completed", "ended with exit code 0"),
            "EXIT": State("ended", "failed"),
            "ZOMBI": State("ended", "node", "is lost: its node does not answer"),
        },
        other_state=State("running"),
        nodes_field="EXEC_HOST",
        node_pattern=r"(?:[^:]*\*)?([^:]*)",
        reason_field="PEND_REASON",
        exit_field="EXIT_CODE",
        end_field="EXIT_REASON",
        ends={  # IBM's documentation of bjobs -l, and bhist
            "TERM_RUNLIMIT": TIME_LIMIT,
            **dict.fromkeys(("TERM_MEMLIMIT", "TERM_SWAP"), MEMORY_LIMIT),
            **dict.fromkeys(("TERM_OWNER", "TERM_FORCE_OWNER"), ("cancelled", "was killed by its owner, not by mlnb")),
            **dict.fromkeys(("TERM_ADMIN", "TERM_FORCE_ADMIN"), ("cancelled", "was killed by an administrator")),
            "TERM_PREEMPT": ("preempted", "had to make room for a job of higher priority"),
        },
    )

    def keywords(self, request: JobRequest) -> dict[str, Any]:
        """See :class:`System`."""
        lsf_only = {"ncpus": request.cpus, "mem": request.resources.memory, "use_stdin": True}
        return {**super().keywords(request), **lsf_only}
