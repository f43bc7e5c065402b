"""The PBS batch systems: OpenPBS and PBS Professional."""

from __future__ import annotations

from mlnb.targets.batch.job_table import JobTable, State
from mlnb.targets.batch.queued_job import HELD, MEMORY_LIMIT, SUSPENDED, TIME_LIMIT, WAITING, QueuedJob, exited, killed
from mlnb.targets.batch.system import COUNT_STARTS, System
from mlnb.targets.gpus.kinds import RequestSyntax

_SIGNALLED = 256
"""PBS adds this to the number of the signal that ended a job."""


def _read_status(status: int, code: str) -> QueuedJob:
    if status in (_SIGNALLED + 15, _SIGNALLED + 9):
        return QueuedJob("ended", "cancelled", f"was ended by PBS (signal {status - _SIGNALLED}), as qdel does", code)
    if status > _SIGNALLED:
        return killed(status - _SIGNALLED, code)
    if status < 0:
        return QueuedJob("ended", "launch", f"was not started: PBS could not run it (exit status {status})", code)
    return exited(status, code)


class Pbs(System):
    """OpenPBS and PBS Professional."""

    kind = "pbs"
    display_name = "PBS"
    job_class = "pbs:PBSJob"
    submit_command = "qsub"
    cancel_command = "qdel"
    accepted = r"(?P<job>[0-9]+)(?:\.[A-Za-z0-9_.-]+)?"
    variables = ("PBS_CONF_FILE", "PBS_DEFAULT", "PBS_SERVER")
    passes_variables = False  # qstat -f shows a job's Variable_List
    restarts = COUNT_STARTS
    gpu_syntax = RequestSyntax(any_type="ngpus={count}")
    resources_template = ("select={nodes}:ncpus={cpus}", ":mem={memory}mb", ":{gpus}")
    directives = ("-V", "-j oe", "-o {log}", "-r {requeue}")
    table = JobTable(
        system=display_name,
        command=("qstat", "-x", "-f", "-F", "json"),  # -x: with jobs that have ended, as long as the server keeps them
        records="Jobs",
        short_id=r"[^.]*",  # without the server's name
        owner_field="Job_Owner",
        state_field="job_state",
        states={
            "Q": State("pending", "resources", WAITING),
            "H": State("pending", "hold", HELD),
            "W": State("pending", "begin", "Waiting for its start time"),
            "T": State("pending", "other", "Being moved"),
            "M": State("pending", "other", "Moved to another server"),
            **dict.fromkeys("RB", State("running")),
            "E": State("running", cleaning_up=True),
            **dict.fromkeys("SU", State("running", reason=SUSPENDED)),
            **dict.fromkeys("FXC", State("ended")),
        },
        other_state=State("pending", "other", "PBS says {code}"),
        nodes_field="exec_host",
        node_pattern=r"[^/]*",
        reason_field="comment",
        end_field="Exit_status",
        ends={  # by which PBS ended a job itself
            "-29": TIME_LIMIT,
            "-28": ("failed", "exceeded its limit of processor time"),
            "-27": MEMORY_LIMIT,
            "-26": ("memory", "exceeded its limit of virtual memory"),
        },
        exit_field="Exit_status",
        read_status=_read_status,
        no_exit_code=("cancelled", "was deleted (qdel) before it started"),
    )
