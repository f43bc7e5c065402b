"""Grid Engine, in Debian's, Altair's and Son of Grid Engine's kinds."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from typing import Any

from mlnb.targets.systems.base import LOG, Ask, Queued, System, clock

_STATES = {"r": "running", "t": "running", "s": "running", "S": "running", "T": "running"}


class GridEngine(System):
    """Grid Engine. Settings: ``parallel-environment`` for several cores on one node, ``gpu-resource`` (``gpu``)."""

    kind = "sge"
    words = "Grid Engine"
    variables = ("SGE_*",)
    restarts = "${RESTARTED:-0}"

    def job_class(self) -> type[Any]:
        """See :class:`System`."""
        from dask_jobqueue.sge import SGEJob

        return SGEJob

    def keywords(self, ask: Ask) -> dict[str, Any]:
        """See :class:`System`."""
        environment = self.settings.get("parallel-environment")
        gpus = f"-l {self.settings.get('gpu-resource', 'gpu')}={ask.resources.gpus}"
        return {
            "queue": ask.partition,
            "project": ask.account,
            "walltime": clock(ask.resources.time) if ask.resources.time else None,
            "job_extra_directives": [
                "-V",
                f"-o {LOG}",
                f"-r {'y' if ask.requeue else 'n'}",
                f"-ac mlnb={ask.run}",
                *([f"-pe {environment} {ask.cpus}"] if environment and ask.cpus > 1 else []),
                *([gpus] if ask.resources.gpus and not ask.gpus else []),
                *ask.gpus,
                *ask.extra,
            ],
        }

    def jobs(self) -> dict[str, Queued]:
        """See :class:`System`. ``qstat -xml`` knows jobs that wait and run; those that ended are gone from it."""
        return parse(self.run(["qstat", "-xml", "-u", self.environment().get("USER", "*")]))


def parse(text: str) -> dict[str, Queued]:
    """The jobs of what ``qstat -xml`` printed (qstat(1), OUTPUT FORMATS)."""
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - the site's own command wrote it
    except ElementTree.ParseError:
        return {}
    found = {}
    for job in root.iter("job_list"):
        number, state = job.findtext("JB_job_number"), job.findtext("state") or ""
        if number is None:
            continue
        host = (job.findtext("queue_name") or "").rpartition("@")[2]
        if "E" in state:
            words = "Grid Engine could not start it (qstat -j says why): it is held in error; cancel it"
            found[number] = Queued("pending", "hold", words, state)
        elif "h" in state:
            found[number] = Queued("pending", "hold", "held: by its owner or an administrator (qstat -j)", state)
        elif state[:1] in _STATES or state[-1:] in _STATES:
            found[number] = Queued("running", code=state, nodes=(host,) if host else ())
        else:
            found[number] = Queued("pending", "resources", "waits for free cores or GPUs", state)
    return found
