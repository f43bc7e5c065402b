"""What mlnb uses of dask-jobqueue is there in the installed version, and used by one module only."""

from __future__ import annotations

import ast
import asyncio
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

import mlnb
from mlnb.errors import MlnbError, UsageError
from mlnb.targets.batch import SYSTEMS, load_system
from mlnb.targets.batch.jobqueue import adapter as jobqueue_adapter
from mlnb.targets.batch.jobqueue.adapter import CLASS_MEMBERS, INSTANCE_MEMBERS, JobqueueJob, Run, check, load_class
from mlnb.targets.batch.jobqueue.section import Section
from mlnb.targets.batch.request import JobRequest
from mlnb.task import Resources
from mlnb.workspace import Workspace

KINDS = [kind for kind in SYSTEMS.names() if load_system(kind).job_class]
REQUEST = JobRequest("20261121-000000-abcdef", "digits", Resources(cpus=2, gpus=1, memory=2**30, time=3600))
LINE = "exec /bin/sh /somewhere/job.sh"


class Commands:
    """Notes commands instead of running them."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[str], Mapping[str, str], bytes]] = []
        self.scripts: list[str] = []

    def __call__(self, argv: Sequence[str], env: Mapping[str, str], *, stdin: bytes = b"") -> str:
        self.calls.append((list(argv), dict(env), stdin))
        path = Path(argv[-1])
        self.scripts.append(stdin.decode() or (path.read_text() if path.is_absolute() else argv[-1]))
        return "the output\n"


def job(kind: str, run: Run, **more: Any) -> JobqueueJob:
    system = load_system(kind)({}, Workspace.of_process())
    keywords = dict(system.keywords(REQUEST))
    skip = keywords.pop("job_directives_skip")
    given: dict[str, Any] = {
        "name": "digits",
        "cores": 2,
        "memory": 2**30,
        "section": system.section,
        "keywords": keywords,
        "skip": skip,
        "submit_command": system.submit_command,
        "reads_stdin": system.reads_stdin,
        "run": run,
    }
    return JobqueueJob(system.job_class, LINE, **{**given, **more})


@pytest.mark.parametrize("kind", KINDS)
def test_every_job_class_renders_our_command_and_submits_it_through_our_runner(kind: str):
    commands = Commands()
    made = job(kind, commands)
    assert LINE in made.script()
    assert made.prologue == []
    assert made.submit(["--more=words"], {"ASKED": "1"}) == "the output\n"
    ((argv, env, _),) = commands.calls
    program, *options = load_system(kind).submit_command.split()
    assert argv[: 2 + len(options)] == [program, *options, "--more=words"]
    assert env == {"ASKED": "1"}
    assert LINE in commands.scripts[0]


@pytest.mark.parametrize("kind", KINDS)
def test_the_commands_are_those_of_the_job_class(kind: str):
    """mlnb names them itself, so that it can cancel a job without dask-jobqueue."""
    system = load_system(kind)
    theirs = load_class(system.job_class)
    assert system.submit_command.split()[0] == theirs.submit_command
    assert system.cancel_command == theirs.cancel_command


@pytest.mark.parametrize("kind", KINDS)
def test_a_submission_waits_for_its_command_also_where_a_loop_runs_already(kind: str):
    async def submit() -> str:
        return job(kind, Commands()).submit([], {})

    assert asyncio.run(submit()) == "the output\n"


def test_a_failing_submit_command_is_the_callers_to_see():
    def fails(*_: object, **__: object) -> str:
        raise MlnbError("SLURM says no")

    made = job("slurm", fails)
    with pytest.raises(MlnbError, match="SLURM says no"):
        made.submit([], {})


@pytest.mark.parametrize("name", CLASS_MEMBERS)
def test_a_member_that_a_class_lacks_is_named_with_the_version(name: str, monkeypatch: pytest.MonkeyPatch):
    lacking = type("SLURMJob", (), {each: None for each in CLASS_MEMBERS if each != name})
    monkeypatch.setattr(jobqueue_adapter, "load_class", lambda _: lacking)
    with pytest.raises(MlnbError) as caught:
        job("slurm", Commands(), keywords={})
    version = metadata.version("dask-jobqueue")
    assert str(caught.value).startswith(f"dask-jobqueue {version} lacks SLURMJob.{name}, ")
    assert "\n" not in str(caught.value)


def test_a_keyword_that_a_class_does_not_take_is_named():
    with pytest.raises(MlnbError, match=r"lacks SLURMJob\(gpu_count=\), which mlnb uses"):
        job("slurm", Commands(), keywords={"gpu_count": 1})


@pytest.mark.parametrize("name", INSTANCE_MEMBERS)
def test_a_member_that_a_job_lacks_is_named(name: str):
    made = type("SLURMJob", (), {})()
    for each in INSTANCE_MEMBERS:
        if each != name:
            setattr(made, each, None)
    with pytest.raises(MlnbError, match=f"lacks SLURMJob.{name}, "):
        check(made, INSTANCE_MEMBERS)


@pytest.mark.parametrize("job_class", ["slurm:SlurmJob", "nomad:NomadJob"])
def test_a_class_that_is_missing_is_named(job_class: str):
    with pytest.raises(MlnbError, match=f"lacks {job_class}, which mlnb uses"):
        load_class(job_class)


def test_what_a_section_has_wrong_is_the_sites_to_mend():
    with pytest.raises(UsageError, match=r"jobqueue\.nosuch of Dask's configuration"):
        job("slurm", Commands(), section=Section("nosuch", Workspace.of_process()))


PRIVATE = {name for name in (*CLASS_MEMBERS, *INSTANCE_MEMBERS) if name.startswith("_")} | {"_script_template"}
ROOT = Path(mlnb.__file__).parent
OTHERS = [path for path in sorted(ROOT.rglob("*.py")) if path != Path(jobqueue_adapter.__file__)]


def test_no_other_module_uses_dask_jobqueue():
    users = {}
    for path in OTHERS:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            modules += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            modules += [node.value] if isinstance(node, ast.Constant) and isinstance(node.value, str) else []
            if any(module.split(".")[0] == "dask_jobqueue" for module in modules):
                users[path.name] = node.lineno
            # an attribute of self is the module's own, whatever its name
            attribute = node.attr if isinstance(node, ast.Attribute) else ""
            if attribute in PRIVATE and not (isinstance(node.value, ast.Name) and node.value.id == "self"):
                users[path.name] = node.lineno
    assert users == {}
