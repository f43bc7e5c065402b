"""The only module that uses dask-jobqueue: its Job classes render a job's directives and submit it.

dask-jobqueue starts Dask workers and documents no other use of its Job classes. So some of what this module uses is
private: the names in :data:`CLASS_MEMBERS` and :data:`INSTANCE_MEMBERS`. :func:`check` reports what a version lacks;
``tests/targets/batch/jobqueue/test_adapter.py`` checks the installed version.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import inspect
import secrets
import shlex
import signal
import threading
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib import metadata
from pathlib import Path
from types import ModuleType
from typing import Any

from mlnb.errors import MlnbError, UsageError
from mlnb.targets.batch.jobqueue.section import Section

CLASS_MEMBERS = ("_call", "_job_id_from_submit_output", "_submit_job", "job_script", "start", "submit_command")
"""Attributes that a Job class must have. The first three are overridden, so that its commands are run by mlnb."""

INSTANCE_MEMBERS = ("_command_template", "_job_script_prologue", "submit_command")
"""Attributes that a Job must have. The first is replaced: it is the command of a Dask worker."""

_KEYWORDS = ("scheduler", "name", "job_name", "cores", "memory", "processes", "config_name", "job_directives_skip")

Run = Callable[..., str]
"""``run(argv, env, stdin=b"")``: runs a command and returns what it printed, as ``run_command`` does."""

_importing, _making = threading.Lock(), threading.Lock()


class JobqueueJob:
    """A job as one of dask-jobqueue's Job classes makes it.

    Parameters
    ----------
    job_class
        the class, as ``slurm:SLURMJob``.
    line
        the shell command that the job runs.
    name
        the job's name.
    cores, memory
        of the node; memory in bytes.
    section
        the settings for dask-jobqueue.
    keywords
        further arguments of the class.
    skip
        parts of the class's directives that are left out.
    submit_command
        replaces the class's.
    reads_stdin
        whether that command reads the script from its standard input.
    run
        runs commands.

    Raises
    ------
    UsageError
        if the section has what the class can't use.
    MlnbError
        if this version of dask-jobqueue lacks something.
    """

    def __init__(
        self,
        job_class: str,
        line: str,
        *,
        name: str,
        cores: int,
        memory: int,
        section: Section,
        keywords: Mapping[str, Any],
        skip: Sequence[str],
        submit_command: str,
        reads_stdin: bool,
        run: Run,
    ) -> None:
        loaded = load_class(job_class)
        check(loaded, CLASS_MEMBERS, keywords=(*_KEYWORDS, *keywords))
        self._env: dict[str, str] = {}  # of the submit command, while it runs

        async def call(argv: list[str], *, shell: bool = False, stdin: bytes = b"", **_: Any) -> str:
            command = ["/bin/sh", "-c", *argv] if shell else argv
            return await asyncio.to_thread(partial(run, command, self._env, stdin=stdin))

        async def submit_by_stdin(made: Any, path: str) -> str:
            # dask-jobqueue itself uses a shell, which discards the command's errors
            return await call(shlex.split(made.submit_command), stdin=Path(path).read_bytes())

        members: dict[str, Any] = {
            "_call": staticmethod(call),
            "_job_id_from_submit_output": lambda _, output: output,  # mlnb reads it
            "submit_command": submit_command,
            **({"_submit_job": submit_by_stdin} if reads_stdin else {}),
        }
        with _making, _configured(section) as config_name, warnings.catch_warnings():
            warnings.simplefilter("ignore")  # they are about Dask workers
            try:
                self._job = type("RunJob", (loaded,), members)(
                    scheduler="",
                    name=name,
                    job_name=name,
                    cores=cores,
                    memory=f"{memory} B",
                    processes=1,
                    config_name=config_name,
                    job_directives_skip=skip,
                    **keywords,
                )
            except (KeyError, ValueError, TypeError) as error:
                raise UsageError(f"jobqueue.{section.name} of Dask's configuration: {error}") from None
        check(self._job, INSTANCE_MEMBERS)
        self._job._command_template = line

    @property
    def prologue(self) -> list[str]:
        """The lines of shell that the site runs before each job."""
        return [line for line in self._job._job_script_prologue or () if line]

    def script(self) -> str:
        """What is submitted."""
        return str(self._job.job_script())

    def submit(self, options: Sequence[str], env: Mapping[str, str]) -> str:
        """Submit it; returns what the submit command printed.

        Parameters
        ----------
        options
            more arguments of the submit command.
        env
            its complete environment.
        """
        self._job.submit_command = shlex.join([*shlex.split(self._job.submit_command), *options])
        self._env.update(env)
        with ThreadPoolExecutor(1) as pool:  # a notebook's thread already runs an event loop
            pool.submit(asyncio.run, self._job.start()).result()
        return str(self._job.job_id)


def load_class(job_class: str) -> type[Any]:
    """The Job class called ``module:Class``, as ``slurm:SLURMJob``. The first call imports dask-jobqueue.

    That import also gives Dask's configuration the defaults of ``jobqueue.yaml``.

    Raises
    ------
    MlnbError
        if the installed dask-jobqueue has no such class.
    """
    module, _, name = job_class.partition(":")
    try:
        return getattr(_import(f"dask_jobqueue.{module}"), name)  # type: ignore[no-any-return]
    except (ModuleNotFoundError, AttributeError) as error:
        raise MlnbError(_lacks([job_class])) from error


@contextlib.contextmanager
def _configured(section: Section) -> Iterator[str]:
    """Add ``section`` to this process's Dask configuration; yields the name that it has there.

    Job classes read no other configuration. The name is used once, so that no other thread that reads ``jobqueue``
    meanwhile finds another workspace's settings.

    Raises
    ------
    UsageError
        if the section is missing.
    """
    import dask.config

    values, name = section.values, f"mlnb-{secrets.token_hex(8)}"
    if not values:
        raise UsageError(f"jobqueue.{section.name} of Dask's configuration: there is no such section")
    with dask.config.set({f"jobqueue.{name}": values}):
        yield name


def check(made: Any, members: Iterable[str], keywords: Iterable[str] = ()) -> None:
    """Check that a Job class, or a Job, has what this module uses.

    Parameters
    ----------
    members
        names of attributes.
    keywords
        arguments that the class's constructor takes.

    Raises
    ------
    MlnbError
        naming what is missing, and dask-jobqueue's version.
    """
    kind = made if isinstance(made, type) else type(made)
    missing = [f"{kind.__name__}.{name}" for name in members if not hasattr(made, name)]
    if accepted := {name for base in kind.__mro__ for name in _parameters(base)} if keywords else set():
        missing += [f"{kind.__name__}({name}=)" for name in keywords if name not in accepted]
    if missing:
        raise MlnbError(_lacks(missing))


def _parameters(base: type) -> Iterable[str]:
    return inspect.signature(base.__init__).parameters if "__init__" in vars(base) else ()  # type: ignore[misc]


def _lacks(missing: Sequence[str]) -> str:
    version = metadata.version("dask-jobqueue")
    return f"dask-jobqueue {version} lacks {', '.join(missing)}, which mlnb uses: install dask-jobqueue 0.9.0"


def _import(module: str) -> ModuleType:
    """Import a module of dask-jobqueue without its handler of SIGINT.

    ``dask_jobqueue.runner``, which mlnb does not use, installs one that ends the process. In a notebook SIGINT
    interrupts a cell. Outside of the main thread the attempt would fail.
    """
    with _importing:
        importer, real = threading.get_ident(), signal.signal
        # other threads may install handlers meanwhile
        signal.signal = lambda *given: None if threading.get_ident() == importer else real(*given)
        try:
            return importlib.import_module(module)
        finally:
            signal.signal = real
