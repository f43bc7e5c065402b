"""Submits a task: writes its run directory and starts one job. If either fails, nothing is left of both."""

from __future__ import annotations

import contextlib
import getpass
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mlnb.api.index import record_change
from mlnb.api.read.mirrored import fetch
from mlnb.api.submit import sending
from mlnb.api.submit.claim import claim_attempt
from mlnb.api.submit.job_start import JobStart, uninterrupted
from mlnb.api.submit.store import Store
from mlnb.capture.ship.contents import Bytes, Content
from mlnb.errors import MlnbError, UsageError, storage_errors
from mlnb.rundir import RunDir, check_trusted, read_json, write_json
from mlnb.runinfo import RunInfo
from mlnb.targets.base import Offer, Target
from mlnb.targets.node_zip import node_zip
from mlnb.task import File, Task

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def check_name(name: str) -> str:
    """``name``, after a check that a run may have it.

    Raises
    ------
    UsageError
        if it has a character that would need quoting in a shell or a path.
    """
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"--name {name!r}: letters, digits, '.', '_' and '-' are allowed, 64 at most, a letter or digit first"
        )
    return name


def new_id() -> str:
    """A run id: sorts by time, is unique, needs no quoting."""
    return time.strftime("%Y%m%d-%H%M%S-", time.gmtime()) + secrets.token_hex(4)


@dataclass(frozen=True)
class Submission:
    """One run to be submitted.

    Attributes
    ----------
    task
        complete but for ``files`` and ``resources``, which come from ``contents`` and the target's offer.
    contents
        path in the run directory → content.
    name
        the run's name.
    env
        the variables of ``--env``; only their names are written.
    info_fields
        further fields of :class:`mlnb.runinfo.RunInfo`: ``cell``, ``git``, ``asked``, ``resume``.
    """

    task: Task
    contents: Mapping[str, Content]
    name: str
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    info_fields: Mapping[str, Any] = field(default_factory=dict)


def submit(
    task: Task,
    contents: Mapping[str, Content],
    target: Target,
    offer: Offer,
    *,
    name: str,
    env: Mapping[str, str],
    info_fields: Mapping[str, Any] | None = None,
) -> RunDir:
    """Write the run directory and start the job, in the workspace of the target.

    See :class:`Submission` for the parameters.

    Raises
    ------
    StorageError
        if the run directory can't be written.
    MlnbError
        if the target refuses the job. In both cases, and after an interrupt, no files and no job remain.
    """
    return submit_many([Submission(task, contents, name, env, info_fields or {})], target, offer)[0]


def submit_many(submissions: Sequence[Submission], target: Target, offer: Offer) -> list[RunDir]:
    """Write the run directories and start the jobs: all of them, or none. Equal inputs are stored once.

    Raises
    ------
    StorageError
        if a run directory can't be written.
    MlnbError
        if the target refuses a job. In both cases, and after an interrupt, no files and no jobs remain.
    """
    root = target.workspace.root
    with storage_errors(root):
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        check_trusted(root, "no run is put there")
    store = Store(root)
    runs = [RunDir(root / new_id()) for _ in submissions]
    job_start = JobStart(runs, target)
    try:
        for run, submission in zip(runs, submissions, strict=True):
            building = RunDir(_temporary_path(run))
            with storage_errors(root):
                building.path.mkdir(mode=0o700)
            _write_run_dir(building, run.path.name, store, submission, target, offer)
        with storage_errors(root):
            for run in runs:
                _temporary_path(run).rename(run.path)
        envs = [{**item.env, **sending.send(run, target)} for run, item in zip(runs, submissions, strict=True)]
        job_start.start(envs)
    except BaseException:
        with uninterrupted():
            if not job_start.has_jobs:
                for run in runs:
                    shutil.rmtree(_temporary_path(run), ignore_errors=True)
                    _remove_remote(run, target)
                    shutil.rmtree(run.path, ignore_errors=True)
                store.undo()
        raise
    return runs


def _temporary_path(run: RunDir) -> Path:
    """Where a run directory is written before it is renamed."""
    return run.path.with_name(f".{run.path.name}.tmp")


def _write_run_dir(
    building: RunDir, run_id: str, store: Store, submission: Submission, target: Target, offer: Offer
) -> None:
    """Write all files of a run directory that neither the job nor the target writes."""
    fields = dict(submission.info_fields)
    complete = _write_files(building, store, submission.task, submission.contents, offer)
    if target.mirror is not None:
        checkpoints = fields.pop("resume", None)
        sending.seal(building, None if checkpoints is None else Path(checkpoints))
        fields |= {} if checkpoints is None else {"resume": sending.RESUME}
    info = RunInfo(
        id=run_id,
        name=check_name(submission.name),
        target=target.name,
        task=complete.digest,
        submitted=time.time(),
        user=getpass.getuser(),
        host=socket.gethostname(),
        pid=os.getpid(),
        cwd=str(Path.cwd()),
        mirrored=target.mirror is not None,
        seed=secrets.randbelow(2**31),
        node=offer.node,
        placement=offer.placement,
    )
    replace(info, **fields).write(building)


def resume(
    run: RunDir,
    target: Target,
    env: Mapping[str, str],
    offer: Offer | None = None,
    info_fields: Mapping[str, Any] | None = None,
    after_attempt: int | None = None,
) -> RunDir:
    """Start the next attempt of a run that has ended; it continues from its newest checkpoint.

    Parameters
    ----------
    offer
        the resources of the attempt, as ``target`` offers them; without it, those of the attempt before.
    info_fields
        further fields of :class:`mlnb.runinfo.RunInfo`.
    after_attempt
        the number of the attempt that has ended; without it, the newest.

    Raises
    ------
    UsageError
        if another process resumes the run at the same time, or removes it. It is not disturbed.
    MlnbError
        if the target refuses the job, or the run directory can't be written. Then the run is unchanged.
    """
    number = (len(run.attempts()) if after_attempt is None else after_attempt) + 1
    claim_attempt(run, number, "--resume")
    moved = RunInfo.read(run).target != target.name
    before = {path: read_json(path) for path in (run.task, run.run, run.handle, run.cancel)}
    job_start = JobStart([run], target)
    try:
        fetch(run, "checkpoints", target.workspace)
        with storage_errors(run.path):
            if offer is not None:
                _update_files(run, target, env, offer, info_fields or {})
            run.handle.unlink(missing_ok=True)  # its job has ended
            run.cancel.unlink(missing_ok=True)
        job_start.start([{**env, **sending.send_changes(run, target, moved=moved)}])
    except BaseException:
        with uninterrupted():
            if not job_start.has_jobs:
                _restore_files(run, number, before)
        raise
    return run


def _update_files(
    run: RunDir, target: Target, env: Mapping[str, str], offer: Offer, info_fields: Mapping[str, Any]
) -> None:
    """Write the resources and the target of a run's next attempt to ``task.json`` and ``run.json``."""
    task = Task.from_json(read_json(run.task) or {})
    changed = replace(task, resources=offer.resources, environment={**task.environment, "env": sorted(env)})
    info = replace(
        RunInfo.read(run),
        target=target.name,
        task=changed.digest,
        mirrored=target.mirror is not None,
        node=offer.node,
        placement=offer.placement,
    )
    write_json(run.task, changed.to_json(), durable=True)
    replace(info, **info_fields).write(run, durable=True)
    record_change(run)


def _remove_remote(run: RunDir, target: Target) -> None:
    """Remove what was sent to a target that does not share the session's file system."""
    if target.mirror is not None:
        with contextlib.suppress(MlnbError):
            target.mirror.remove(run)


def _restore_files(run: RunDir, attempt: int, before: Mapping[Path, dict[str, Any] | None]) -> None:
    """Undo the preparations for an attempt that could not be started. ``before``: content by path."""
    shutil.rmtree(run.attempt(attempt).path, ignore_errors=True)
    for path, content in before.items():
        if content is None:
            path.unlink(missing_ok=True)
        else:
            write_json(path, content)
    record_change(run)


def _write_files(run: RunDir, store: Store, task: Task, contents: Mapping[str, Content], offer: Offer) -> Task:
    files = []
    for path, content in contents.items():
        store.put(content, run.path / path)
        files.append(File(path, content.digest(), content.size))
    complete = replace(task, files=tuple(sorted(files, key=lambda file: file.path)), resources=offer.resources)
    store.put(Bytes(node_zip().data), run.node_zip)
    with storage_errors(run.path):
        for folder in (run.inputs, run.modules, run.attempt(1).path.parent, run.attempt(1).path):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        run.script.write_text(task.script, encoding="utf-8")
    write_json(run.task, complete.to_json())
    return complete
