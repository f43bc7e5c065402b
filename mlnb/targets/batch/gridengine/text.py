"""What Grid Engine says of jobs: of those in its queue (qstat), and of those that have started and ended (qacct).

Formats: qstat(1), accounting(5), and the output of Son of Grid Engine 8.1.9. What is no XML is an error.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import replace

from mlnb.targets.batch.commands import CommandFailed
from mlnb.targets.batch.system import QueuedJob

_RESCHEDULED, _LIMIT, _AFTER = 25, 37, 100
"""What accounting's ``failed`` says of a job that was queued again, went over a limit, ran and left with a signal."""

_KILLED, _TOLD = 137, 143
"""Exit codes of a job that was killed, and of a node program that was told to end (128 + signal)."""


def parse(text: str) -> dict[str, QueuedJob]:
    """The jobs of what ``qstat -xml`` printed (qstat(1), OUTPUT FORMATS)."""
    found = {}
    for job in _root(text).iter("job_list"):
        number, code = job.findtext("JB_job_number"), job.findtext("state") or ""
        if number is None:
            continue
        host = (job.findtext("queue_name") or "").rpartition("@")[2]
        about = {"comment": f"mlnb:{(job.findtext('JB_name') or '').rpartition('.')[2]}"}
        if job.get("state") == "running":
            words = "is suspended: it goes on when Grid Engine, or who suspended it, lets it" * bool(
                set(code) & set("sST")
            )
            found[number] = QueuedJob("running", words=words, code=code, nodes=(host,) if host else (), about=about)
        else:
            found[number] = QueuedJob("pending", *_waits(number, code), code, about=about)
    return found


def _waits(number: str, code: str) -> tuple[str, str]:
    """Cause and words of a job that waits with these letters."""
    if "E" in code:
        return "hold", _error(number, "")
    if "h" in code:
        return "hold", f"is held, by its owner or an administrator; qrls {number} lets it go on"
    if "R" in code:
        return "requeue", "was queued again, and waits for free slots"
    return "resources", "waits for free slots: others run on all that would fit"


def _error(number: str, said: str) -> str:
    words = f"Grid Engine could not start it{f' ({said})' if said else ''}, and holds it"
    return f"{words}; qmod -cj {number} lets it try again"


def errors(text: str, jobs: Mapping[str, QueuedJob]) -> dict[str, QueuedJob]:
    """Those of ``jobs`` that ``qstat -xml -j`` printed an error of, with it in their words."""
    found = {}
    for one in _root(text).iterfind("djob_info/element"):
        number, said = (
            one.findtext("JB_job_number") or "",
            next((each.text or "" for each in one.iter("QIM_message")), ""),
        )
        if said and number in jobs:
            found[number] = replace(jobs[number], words=_error(number, said.partition("error: ")[2] or said))
    return found


def parse_account(text: str) -> QueuedJob:
    """How the job ended of which ``qacct -j`` printed this: a record for each start; the last counts."""
    record = dict(re.findall(r"^(\w+) +(\S.*?) *$", text.rpartition("=====")[2], re.MULTILINE))
    if "failed" not in record:
        return QueuedJob("ended", "vanished", "is gone, and its record in Grid Engine's accounting can't be read")
    failed, code = _first(record, "failed"), _first(record, "exit_status")
    said = record.get("failed", "").partition(":")[2].strip()
    if failed == _RESCHEDULED:
        return QueuedJob("ended", "cancelled", "was deleted (qdel) while it waited to be started again")
    if failed == _LIMIT:
        limit = re.search(r"\bh_rt=(\d+)", record.get("category", ""))
        if limit and _first(record, "ru_wallclock") >= int(limit[1]):
            return QueuedJob("ended", "time", "reached its time limit; a longer --time may help, or --resume")
        return QueuedJob("ended", "failed", f"went over a limit of its queue ({said})")
    if failed not in (0, _AFTER):
        return QueuedJob("ended", "launch", f"Grid Engine could not run it: {said}")
    if code == _TOLD or (failed and code == _KILLED):
        return QueuedJob("ended", "cancelled", "was ended by Grid Engine, as qdel does")
    return QueuedJob("ended", "failed" if code else "completed", f"its job ended with exit code {code}")


def _first(record: Mapping[str, str], name: str) -> int:
    found = re.match(r"\d{1,9}", record.get(name, ""))
    return int(found[0]) if found else 0


def _root(text: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(text)  # noqa: S314 - the site's own command wrote it
    except ElementTree.ParseError:  # then nothing is known of the jobs, and none is gone
        raise CommandFailed(f"Grid Engine printed what can't be read: {' '.join(text.split())[:60]}") from None
