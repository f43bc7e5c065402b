"""PBS (OpenPBS and PBS Professional), and Moab in front of Torque."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from typing import Any, ClassVar

from mlnb.targets.batch.commands import CommandFailed, named, read_json
from mlnb.targets.batch.system import COUNTED, LOG, JobRequest, QueuedJob, System, clock, mebibytes

_WAITING = {
    "Q": ("resources", "waits for free cores or GPUs"),
    "H": ("hold", "held: by its owner or an administrator"),
    "W": ("begin", "waits for its start time"),
    "T": ("other", "is being moved"),
    "M": ("other", "was moved to another server"),
}


class Pbs(System):
    """OpenPBS and PBS Professional."""

    kind = "pbs"
    display_name = "PBS"
    job = "pbs:PBSJob"
    submit_command = "qsub"
    cancel_command = "qdel"
    accepted = r"(?:Moab\.)?(?P<job>[0-9]+)(?:\.[A-Za-z0-9_.-]+)?"
    variables: ClassVar[tuple[str, ...]] = ("PBS_CONF_FILE", "PBS_DEFAULT", "PBS_SERVER")
    passes_variables = False  # qstat -f shows a job's Variable_List
    restarts = COUNTED

    def keywords(self, request: JobRequest) -> dict[str, Any]:
        """See :class:`System`."""
        spec = self.spec(request)
        lines = [line for line in request.gpus if line.startswith("-")]
        own = any(re.search(r"\b(select|nodes)=", line) for line in lines)
        return {
            "queue": request.partition,
            "account": request.account,
            "walltime": clock(request.resources.time) if request.resources.time else None,
            "resource_spec": spec,
            "job_directives_skip": [f"-l {spec}"] if own else [],
            "job_extra_directives": [
                *request.usual,
                "-V",
                "-j oe",
                f"-o {LOG}",
                f"-r {'y' if request.requeue else 'n'}",
                *lines,
                *request.extra,
            ],
        }

    def spec(self, request: JobRequest) -> str:
        """The chunk of resources on a node."""
        gpus = self.chunk(request, "ngpus")
        memory = f":mem={mebibytes(request.resources.memory)}mb" if request.resources.memory else ""
        return f"select={request.resources.nodes}:ncpus={request.cpus}{memory}{gpus}"

    def chunk(self, request: JobRequest, resource: str) -> str:
        """What asks for the GPUs in the chunk: what the site says, unless that is a line of its own."""
        if request.gpus:
            return "".join(f":{each}" for each in request.gpus if not each.startswith("-"))
        return f":{resource}={request.resources.gpus}" if request.resources.gpus else ""

    def jobs(self) -> dict[str, QueuedJob]:
        """See :class:`System`. ``-x``: jobs that have ended, as long as the server keeps them."""
        return parse(self.run(["qstat", "-x", "-f", "-F", "json"]), self.environment().get("USER", ""))


def parse(text: str, user: str) -> dict[str, QueuedJob]:
    """The jobs of ``user`` in what ``qstat -x -f -F json`` printed; ids as qsub prints them."""
    data = read_json(text, "PBS")
    return _jobs(named(data.get("Jobs") if isinstance(data, dict) else None), user)


def _jobs(jobs: Mapping[str, Mapping[str, Any]], user: str) -> dict[str, QueuedJob]:
    found = {}
    for number, job in jobs.items():
        if user and str(job.get("Job_Owner", "")).partition("@")[0] != user:
            continue
        state = str(job.get("job_state", ""))
        if state in ("R", "E", "B", "S", "U"):
            host = str(job.get("exec_host", "")).partition("/")[0]
            words = "is suspended" if state in ("S", "U") else ""
            seen = QueuedJob("running", words=words, code=state, nodes=(host,) if host else (), ending=state == "E")
        elif state in ("F", "X", "C"):
            seen = _ended(job.get("Exit_status", job.get("exit_status")), state)
        else:
            cause, words = _WAITING.get(state, ("other", f"PBS says {state}"))
            said = str(job.get("comment", ""))
            seen = QueuedJob("pending", cause, f"{words}: {said}" if said else words, state)
        found[number] = seen
        found[number.partition(".")[0]] = seen  # what is kept of it
    return found


_BY_PBS = {
    -29: ("time", "reached its time limit; a longer --time may help, or --resume"),
    -28: ("failed", "took more processor time than it may have"),
    -27: ("memory", "took more memory than it may have; more --memory may help"),
    -26: ("memory", "took more virtual memory than it may have"),
}
"""What PBS itself ended a job for, by the exit status that it gives it."""

_SIGNALLED = 256
"""What PBS adds to the number of the signal that ended a job."""


def _ended(status: Any, state: str) -> QueuedJob:
    try:
        code = int(status)
    except (TypeError, ValueError, OverflowError):
        return QueuedJob("ended", "cancelled", "was deleted (qdel) before it started", state)
    if code in _BY_PBS:
        return QueuedJob("ended", *_BY_PBS[code], state)
    if code in (_SIGNALLED + 15, _SIGNALLED + 9):
        return QueuedJob("ended", "cancelled", f"was ended by PBS (signal {code - _SIGNALLED}), as qdel does", state)
    if code > _SIGNALLED:
        return QueuedJob("ended", "failed", f"its job was ended by signal {code - _SIGNALLED}", state)
    if code < 0:
        return QueuedJob("ended", "launch", f"PBS could not run it (exit status {code})", state)
    return QueuedJob("ended", "failed" if code else "completed", f"its job ended with exit code {code}", state)


class Moab(Pbs):
    """Moab, which takes PBS's directives; its jobs are looked up with Torque's ``qstat``."""

    kind = "moab"
    display_name = "Moab"
    job = "moab:MoabJob"
    submit_command = "msub"
    cancel_command = "canceljob"
    variables = ("MOABHOMEDIR", "PBS_*")

    def spec(self, request: JobRequest) -> str:
        """The nodes, as Torque writes them."""
        gpus = self.chunk(request, "gpus")
        memory = f",mem={mebibytes(request.resources.memory)}mb" if request.resources.memory else ""
        return f"nodes={request.resources.nodes}:ppn={request.cpus}{gpus}{memory}"

    def jobs(self) -> dict[str, QueuedJob]:
        """See :class:`System`. Torque's ``-x`` means XML; jobs that ended stay for some minutes, with state C."""
        return parse_torque(self.run(["qstat", "-x"]), self.environment().get("USER", ""))


def parse_torque(text: str, user: str) -> dict[str, QueuedJob]:
    """The jobs of ``user`` in what Torque's ``qstat -x`` printed; nothing where there are none."""
    if not text.strip():
        return {}
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - the site's own command wrote it
    except ElementTree.ParseError:
        raise CommandFailed(f"Torque printed what can't be read: {' '.join(text.split())[:60]}") from None
    jobs = {job.findtext("Job_Id") or "": {one.tag: one.text or "" for one in job} for job in root.iter("Job")}
    return _jobs({number: job for number, job in jobs.items() if number}, user)
