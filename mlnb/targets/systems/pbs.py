"""PBS (OpenPBS and PBS Professional), and Moab in front of Torque."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from mlnb.targets.systems.base import LOG, Ask, Queued, System, clock

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
    words = "PBS"
    job = "pbs:PBSJob"
    variables: ClassVar[tuple[str, ...]] = ("PBS_CONF_FILE", "PBS_DEFAULT", "PBS_SERVER")
    restarts = "$((${PBS_RUNCOUNT:-1} - 1))"

    def keywords(self, ask: Ask) -> dict[str, Any]:
        """See :class:`System`."""
        return {
            "queue": ask.partition,
            "account": ask.account,
            "walltime": clock(ask.resources.time) if ask.resources.time else None,
            "resource_spec": None if ask.gpus else self.spec(ask),
            "job_extra_directives": [
                "-V",
                "-j oe",
                f"-o {LOG}",
                f"-r {'y' if ask.requeue else 'n'}",
                *ask.gpus,
                *ask.extra,
            ],
        }

    def spec(self, ask: Ask) -> str:
        """The chunk of resources on a node."""
        gpus = f":ngpus={ask.resources.gpus}" if ask.resources.gpus else ""
        memory = f":mem={-(-(ask.resources.memory or 2**30) // 2**20)}mb"
        return f"select={ask.resources.nodes}:ncpus={ask.cpus}{memory}{gpus}"

    def jobs(self) -> dict[str, Queued]:
        """See :class:`System`. ``-x``: jobs that have ended, as long as the server keeps them."""
        return parse(self.run(["qstat", "-x", "-f", "-F", "json"]), self.environment().get("USER", ""))


def parse(text: str, user: str) -> dict[str, Queued]:
    """The jobs of ``user`` in what ``qstat -x -f -F json`` printed; ids as qsub prints them."""
    try:
        jobs = json.loads(text)["Jobs"]
    except (ValueError, KeyError, TypeError):
        return {}
    found = {}
    for number, job in jobs.items():
        if user and str(job.get("Job_Owner", "")).partition("@")[0] != user:
            continue
        state = str(job.get("job_state", ""))
        if state in ("R", "E", "B", "S", "U"):
            host = str(job.get("exec_host", "")).partition("/")[0]
            seen = Queued("running", code=state, nodes=(host,) if host else ())
        elif state in ("F", "X"):
            code = job.get("Exit_status")
            cause = "completed" if code == 0 else "failed"
            seen = Queued("ended", cause, f"its job ended with exit code {code}", state)
        else:
            cause, words = _WAITING.get(state, ("other", f"PBS says {state}"))
            said = str(job.get("comment", ""))
            seen = Queued("pending", cause, f"{words}: {said}" if said else words, state)
        found[number] = seen
        found[number.partition(".")[0]] = seen  # dask-jobqueue keeps the digits only
    return found


class Moab(Pbs):
    """Moab, which takes PBS's directives; its jobs are looked up with Torque's ``qstat``."""

    kind = "moab"
    words = "Moab"
    job = "moab:MoabJob"
    variables = ("MOABHOMEDIR", "PBS_*")

    def spec(self, ask: Ask) -> str:
        """The nodes, as Torque writes them."""
        gpus = f":gpus={ask.resources.gpus}" if ask.resources.gpus else ""
        memory = f",mem={-(-(ask.resources.memory or 2**30) // 2**20)}mb"
        return f"nodes={ask.resources.nodes}:ppn={ask.cpus}{gpus}{memory}"
