"""Submits many jobs as one job array: one command, and a task of the array for each run.

The tasks of an array share a script, a log's path and an environment. The array has a folder of its own,
``.arrays/ARRAY`` beside the runs, with a symbolic link to each run's attempt, named by the index of the task. So the
path ``INDEX/job.sh`` is the run's own script, and ``INDEX/job.log`` its log.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shlex
import shutil
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from mlnb.errors import UsageError, storage_errors
from mlnb.rundir import JOB_LOG, write_json
from mlnb.targets.base import SubmissionUnknown
from mlnb.targets.batch.request import ARRAY_PREFIX, ArraySyntax, JobRequest, SubmittedJob
from mlnb.targets.batch.submission.job import Job, make_submission, send

_FOLDER = ".arrays"

_VARIABLES = 2**18
"""Bytes of variables that are not the same for all tasks: all tasks get them, and a process has 2 MiB in all."""

_TASK_VARIABLE = "MLNB_TASK_{index}_{name}"
"""The name that a variable of one task has in the environment of the array."""

_UNSET = """for name in $(env | sed -n 's/^\\(MLNB_TASK_[0-9]*_[A-Za-z0-9_]*\\)=.*/\\1/p'); do unset "$name"; done"""
"""Shell: removes the variables of single tasks. It may find names in values of several lines; these are not set."""

_UNUSED = 3600.0
"""Seconds after which the folder of an array is removed if none of its runs exists: it may still be written before."""


@dataclass(frozen=True)
class JobArray:
    """An array that can be submitted.

    Attributes
    ----------
    jobs
        jobs of one system whose requests differ in run and name only: see :func:`group`.
    syntax
        how the system writes arrays.
    id
        which array this is: in the comment of its jobs, and in its runs' ``array.json``.
    """

    jobs: Sequence[Job]
    syntax: ArraySyntax
    id: str = field(default_factory=lambda: f"{ARRAY_PREFIX}{secrets.token_hex(8)}")

    @property
    def tasks(self) -> range:
        """The index of each job's task."""
        return range(self.syntax.first, self.syntax.first + len(self.jobs))

    @property
    def folder(self) -> Path:
        """The array's folder, beside the runs."""
        return self.jobs[0].run.path.parent / _FOLDER / self.id

    @property
    def request(self) -> JobRequest:
        """The request for all of the jobs."""
        return replace(
            self.jobs[0].request,
            run=self.id,
            name=_common_name([job.request.name for job in self.jobs]),
            tasks=self.tasks,
            log=f"{self.syntax.log_index}/{JOB_LOG}",
        )

    def submit(self) -> list[SubmittedJob]:
        """Submit it: all of the jobs, or none.

        Returns
        -------
        list of SubmittedJob
            in the order of ``jobs``.

        Raises
        ------
        SubmissionUnknown
            if the system did not answer, and has no job of this array so far.
        MlnbError
            if it refuses the array, or can't be reached. Then nothing is left of it.
        """
        system, request = self.jobs[0].system, self.request
        try:
            script = f'{shlex.quote(str(self.folder))}/"{self.syntax.index}"/{self.jobs[0].files.job_script.name}'
            submission = make_submission(system, request, self.folder, script)
            self._write(submission.prologue)
            array = send(system, request, submission, self.variables(), self._find)
        except SubmissionUnknown:
            raise
        except BaseException:
            shutil.rmtree(self.folder, ignore_errors=True)
            for job in self.jobs:
                job.files.array.unlink(missing_ok=True)
            raise
        return [array._replace(job=self.syntax.job_id.format(job=array.job, index=task)) for task in self.tasks]

    def variables(self) -> dict[str, str]:
        """The variables of ``--env`` of all tasks: those that all have by their names, others with the task's index."""
        shared = shared_variables(self.jobs)
        of_tasks = {
            _TASK_VARIABLE.format(index=task, name=name): value
            for task, job in zip(self.tasks, self.jobs, strict=True)
            for name, value in job.env.items()
            if name not in shared
        }
        return {**shared, **of_tasks}

    def _write(self, prologue: Sequence[str]) -> None:
        """Write the array's folder, and each job's script."""
        _remove_unused(self.folder.parent)
        shared = shared_variables(self.jobs)
        differ = any(set(job.env) - set(shared) for job in self.jobs)
        with storage_errors(self.folder):
            self.folder.parent.mkdir(mode=0o700, exist_ok=True)
            self.folder.mkdir(mode=0o700)
            for task, job in zip(self.tasks, self.jobs, strict=True):
                of_task = {name: _TASK_VARIABLE.format(index=task, name=name) for name in job.env if name not in shared}
                lines = [f'{name}="${{{variable}}}"; export {name}' for name, variable in of_task.items()]
                write_json(job.files.array, {"array": self.id, "task": task})
                job.write_script(prologue, [*lines, *([_UNSET] if differ else [])])
                (self.folder / str(task)).symlink_to(os.path.relpath(job.files.path, self.folder))

    def _find(self) -> SubmittedJob | None:
        """The array, if any of its tasks is in the queue."""
        system, comment = self.jobs[0].system, f"mlnb:{self.id}_"
        pattern = re.escape(self.syntax.job_id).replace(r"\{job\}", "(?P<job>.+)").replace(r"\{index\}", "[0-9]+")
        for job_id, job in system.jobs().items():
            match = re.fullmatch(pattern, job_id)
            if match and str(job.details.get("comment", "")).startswith(comment):
                return SubmittedJob(match["job"], system.cluster)
        return None


def group(jobs: Sequence[Job], max_tasks: int) -> list[list[int]]:
    """Indices of the jobs that can be one array: their requests differ in run and name only.

    Parameters
    ----------
    max_tasks
        tasks of an array at most.

    Raises
    ------
    UsageError
        for a variable whose name the shell can't set.
    """
    requests: list[JobRequest] = []
    groups: list[list[int]] = []
    for index, job in enumerate(jobs):
        for name in job.env:
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise UsageError(f"--env {name}: use letters, digits and '_', and begin with a letter or '_'")
        request = replace(job.request, run="", name="")
        if request not in requests:
            requests.append(request)
            groups.append([])
        groups[requests.index(request)].append(index)
    return [chunk for indices in groups for chunk in _chunks(jobs, indices, max_tasks)]


def _chunks(jobs: Sequence[Job], indices: Sequence[int], max_tasks: int) -> Iterable[list[int]]:
    """A group in chunks that are not too large."""
    shared = shared_variables([jobs[index] for index in indices])
    chunk: list[int] = []
    size = 0
    for index in indices:
        added = sum(len(os.fsencode(name + value)) for name, value in jobs[index].env.items() if name not in shared)
        if chunk and (len(chunk) == max_tasks or size + added > _VARIABLES):
            yield chunk
            chunk, size = [], 0
        chunk.append(index)
        size += added
    yield chunk


def shared_variables(jobs: Sequence[Job]) -> dict[str, str]:
    """The variables of ``--env`` that all of these jobs have with the same value."""
    first, *others = [job.env for job in jobs]
    return {name: value for name, value in first.items() if all(env.get(name) == value for env in others)}


def _common_name(names: Sequence[str]) -> str:
    """What the names begin with, up to a separator: ``trial`` of ``trial-1`` and ``trial-12``; else the first name."""
    if len(set(names)) == 1:
        return names[0]
    match = re.match(r"(.*[A-Za-z0-9])[._-]", os.path.commonprefix(names))  # noqa: RUF071 - they are no paths
    return match[1] if match else names[0]


def _remove_unused(arrays: Path) -> None:
    """Remove the folders of arrays whose runs were all removed."""
    for folder in arrays.glob(f"{ARRAY_PREFIX}*"):
        with contextlib.suppress(OSError):  # another process removes it
            if time.time() - folder.stat().st_mtime > _UNUSED and not any(link.exists() for link in folder.iterdir()):
                shutil.rmtree(folder)
