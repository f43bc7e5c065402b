"""Reads what Grid Engine prints about jobs in its queue (qstat), and about those that have started and ended (qacct).

Formats: qstat(1), accounting(5), and the output of Son of Grid Engine 8.1.9. What is not XML is an error.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from dataclasses import replace

from mlnb.targets.batch.commands import unreadable
from mlnb.targets.batch.queued_job import HELD, SUSPENDED, TIME_LIMIT, QueuedJob, exited, task_indices
from mlnb.targets.batch.request import ARRAY_PREFIX

_REQUEUED, _LIMIT, _SIGNALLED = 25, 37, 100
"""Values of accounting's ``failed``: the job was queued again, went over a limit, was ended by a signal."""

_KILLED, _TERMINATED = 128 + 9, 128 + 15
"""Exit codes of a job that was killed, and of a node program that got SIGTERM."""


def parse(text: str) -> dict[str, QueuedJob]:
    """The jobs in the output of ``qstat -xml`` (qstat(1), OUTPUT FORMATS); of mlnb's arrays each task, as ``12.3``."""
    jobs: dict[str, QueuedJob] = {}
    for element in _root(text).iter("job_list"):
        number = element.findtext("JB_job_number")
        if number is None:
            continue
        run = (element.findtext("JB_name") or "").rpartition(".")[2]
        tasks = task_indices(element.findtext("tasks") or "") if run.startswith(ARRAY_PREFIX) else ()
        comments = {f"{number}.{task}": f"mlnb:{run}_{task}" for task in tasks} or {number: f"mlnb:{run}"}
        jobs |= {job_id: _job(job_id, comment, element) for job_id, comment in comments.items()}
    return jobs


def _job(job_id: str, comment: str, element: ElementTree.Element) -> QueuedJob:
    """A job from its element ``job_list``."""
    code, details = element.findtext("state") or "", {"comment": comment}
    if element.get("state") != "running":
        return QueuedJob("pending", *_pending(job_id, code), code, details=details)
    host = (element.findtext("queue_name") or "").rpartition("@")[2]
    reason = SUSPENDED if set(code) & set("sST") else ""
    return QueuedJob("running", reason=reason, code=code, nodes=(host,) if host else (), details=details)


def _pending(number: str, code: str) -> tuple[str, str]:
    """Cause and reason of a waiting job whose state has these letters."""
    if "E" in code:
        return "hold", _start_error(number, "")
    if "h" in code:
        return "hold", f"{HELD}: qrls {number} releases it"
    if "R" in code:
        return "requeue", "Queued again, waiting for free slots"
    return "resources", "Waiting for free slots: all suitable ones are in use"


def _start_error(number: str, message: str) -> str:
    detail = f" ({message})" if message else ""
    return f"Held: Grid Engine could not start it{detail}; qmod -cj {number} lets it try again"


def errors(text: str, jobs: Mapping[str, QueuedJob]) -> dict[str, QueuedJob]:
    """Those of ``jobs`` for which ``qstat -xml -j`` printed an error, with that error in their reason."""
    failed = {}
    for element in _root(text).iterfind("djob_info/element"):
        number = element.findtext("JB_job_number") or ""
        message = next((each.text or "" for each in element.iter("QIM_message")), "")
        message = message.partition("error: ")[2] or message
        for job_id, job in jobs.items() if message else ():
            if job_id.partition(".")[0] == number and "E" in job.code:
                failed[job_id] = replace(job, reason=_start_error(job_id, message))
    return failed


def parse_account(text: str) -> QueuedJob:
    """The end of a job from the output of ``qacct -j``, which has a record for each start: the last one counts."""
    record = dict(re.findall(r"^(\w+) +(\S.*?) *$", text.rpartition("=====")[2], re.MULTILINE))
    if "failed" not in record:
        return QueuedJob("ended", "vanished", "is gone, and its record in Grid Engine's accounting can't be parsed")
    failed, exit_code = _number(record, "failed"), _number(record, "exit_status")
    message = record.get("failed", "").partition(":")[2].strip()
    if failed == _REQUEUED:
        return QueuedJob("ended", "cancelled", "was deleted (qdel) while it waited to be started again")
    if failed == _LIMIT:
        limit = re.search(r"\bh_rt=(\d+)", record.get("category", ""))
        if limit and _number(record, "ru_wallclock") >= int(limit[1]):
            return QueuedJob("ended", *TIME_LIMIT)
        return QueuedJob("ended", "failed", f"went over a limit of its queue ({message})")
    if failed not in (0, _SIGNALLED):
        return QueuedJob("ended", "launch", f"was not started: Grid Engine could not run it: {message}")
    if exit_code == _TERMINATED or (failed and exit_code == _KILLED):
        return QueuedJob("ended", "cancelled", "was ended by Grid Engine, as qdel does")
    return exited(exit_code)


def _number(record: Mapping[str, str], name: str) -> int:
    """The number that a field begins with; 0 without."""
    match = re.match(r"\d{1,9}", record.get(name, ""))
    return int(match[0]) if match else 0


def _root(text: str) -> ElementTree.Element:
    try:
        return ElementTree.fromstring(text)  # noqa: S314 - the site's own command wrote it
    except ElementTree.ParseError:  # callers must not take missing jobs for jobs that ended
        raise unreadable(text, "Grid Engine") from None
