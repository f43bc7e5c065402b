"""The Moab batch system with Torque: directives are those of PBS, and Torque's ``qstat`` lists jobs."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace

from mlnb.targets.batch.commands import unreadable
from mlnb.targets.batch.systems.pbs import Pbs
from mlnb.targets.gpus.kinds import RequestSyntax


def _read(text: str, system: str) -> dict[str, dict[str, dict[str, str]]]:
    """The output of ``qstat -x`` in the form of PBS's JSON; empty without jobs."""
    if not text.strip():
        return {}
    try:
        root = ElementTree.fromstring(text)  # noqa: S314 - the site's own command wrote it
    except ElementTree.ParseError:
        raise unreadable(text, system) from None
    jobs = {job.findtext("Job_Id") or "": {each.tag: each.text or "" for each in job} for job in root.iter("Job")}
    return {"Jobs": {job_id: job for job_id, job in jobs.items() if job_id}}


class Moab(Pbs):
    """Moab."""

    kind = "moab"
    display_name = "Moab"
    job_class = "moab:MoabJob"
    submit_command = "msub"
    cancel_command = "canceljob"
    accepted = rf"(?:Moab\.)?{Pbs.accepted}"
    variables = ("MOABHOMEDIR", "PBS_*")  # type: ignore[assignment] # mypy infers the length of that of Pbs
    gpu_syntax = RequestSyntax(any_type="gpus={count}")
    resources_template = ("nodes={nodes}:ppn={cpus}", ":{gpus}", ",mem={memory}mb")
    # Torque's -x means XML; jobs that ended stay for some minutes, with state C
    table = replace(
        Pbs.table,
        system="Torque",
        command=("qstat", "-x"),
        read=_read,
        end_field="exit_status",
        exit_field="exit_status",
    )
