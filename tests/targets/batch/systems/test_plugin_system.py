"""A batch system of another distribution: the example of docs/contributing/add-a-batch-system.md."""

from __future__ import annotations

import ast
import io
import os
import re
import subprocess
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest

import mlnb
from mlnb.api import Run
from mlnb.api.submit.submit import Submission, submit_many
from mlnb.errors import UsageError
from mlnb.rundir import RunDir, write_json
from mlnb.targets import batch
from mlnb.targets.base import Placement
from mlnb.targets.batch.job_table import JobTable, State
from mlnb.targets.registry import names, target
from mlnb.task import Resources, Task
from tests.option_line import parse
from tests.scripts import write_command
from tests.targets.batch.played import aged, go, handle
from tests.targets.distributions import installed, write_distribution
from tests.waiting import until

PAGE = Path(__file__).parents[4] / "docs" / "contributing" / "add-a-batch-system.md"
GROUP = "mlnb.systems"

# A queue of one machine: a folder with the files ID.state, ID.run, ID.pid and ID.exit of each job.
TOYSUB = """\
for script; do :; done
cd {queue}
id=$(($(ls | grep -c 'run$') + 1))
cp "$script" $id.sh
sed -n 's/^#TOY --comment=//p' $id.sh >$id.run
log=$OLDPWD/$(sed -n 's/^#TOY --output=//p' $id.sh)
if [ -e full ]; then
    echo waiting >$id.state
else
    echo running >$id.state
    setsid sh -c 'trap : TERM; sh $0.sh >"$1" 2>&1; echo $? >$0.exit; echo done >$0.state' $id "$log" </dev/null \
>/dev/null 2>&1 &
    echo $! >$id.pid
fi
echo 'Welcome to Toy, 3 nodes are down'
echo "toy job $id accepted"
"""
TOYSTAT = """\
cd {queue}
echo >>{queue}.calls
separator='{{'
for run in *.run; do
    id=${{run%.run}}
    printf '%s"%s": {{"state": "%s", "host": "node1", "run": "%s", "exit": %s}}' "$separator" $id $(cat $id.state) \
$(cat $run) $(cat $id.exit 2>/dev/null || echo null)
    separator=,
done
echo '}}'
"""
TOYDEL = """\
cd {queue}
[ "$(cat $1.state)" != done ] || {{ echo "no such job" >&2; exit 1; }}
echo deleted >$1.state
[ ! -e $1.pid ] || kill -TERM -$(cat $1.pid)
"""


def blocks(language: str) -> list[str]:
    """The page's blocks of code in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M)


@pytest.fixture
def toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The page's system is installed, and so are the commands of a queue; the folder of that."""
    (source,) = blocks("python")
    (table,) = blocks("toml")
    name, point = re.findall(r'^(\w+) = "(\S+)"$', table, re.M)[0]
    assert f'"{GROUP}"' in table
    queue, commands = tmp_path / "queue", tmp_path / "bin"
    queue.mkdir()
    commands.mkdir()
    for command, script in (("toysub", TOYSUB), ("toystat", TOYSTAT), ("toydel", TOYDEL)):
        write_command(commands, command, script.format(queue=queue))
    monkeypatch.setenv("PATH", f"{commands}:{os.environ['PATH']}")
    monkeypatch.setenv("TOY_SERVER", str(queue))  # so that nobody shares what is known of this queue
    folder = write_distribution(tmp_path / "site-packages", "mlnb-toy", {"mlnb_toy": source}, {GROUP: {name: point}})
    with installed(folder), dask.config.set({"mlnb": {"targets": {"toy": {"poll": "1s"}}}}):
        yield queue


def exit_code(queue: Path) -> str:
    """That of the first job; empty while that runs."""
    file = queue / "1.exit"
    return file.read_text().strip() if file.exists() else ""


def test_a_run_runs_on_it(toy: Path):
    assert "toy" in names()
    assert "mlnb_toy" in sys.modules, "to know its command is to import it"
    run = go("print('from the job')", on="toy", cpus=1)
    assert run.wait(60).state == "succeeded"
    assert (run.target, handle(run)["kind"], handle(run)["job"]) == ("toy", "toy", "1")
    assert "from the job" in (run.directory.attempt(1).path / "rank-0.out").read_text()
    assert until(lambda: exit_code(toy)) == "0"


def test_a_run_is_cancelled(toy: Path):
    run = go("import time\nprint('begun', flush=True)\ntime.sleep(600)", on="toy", cpus=1)
    until(lambda: run.state == "running", 60)
    run.cancel()
    assert run.state == "cancelled"
    assert until(lambda: exit_code(toy)) != "0", "the job has ended, too"


def test_many_runs_are_submitted_and_cancelled_one_by_one(toy: Path):
    (toy / "full").touch()
    place = target("toy")
    trials = [Submission(Task(script=""), {}, f"trial-{number}") for number in range(3)]
    found = [Run(directory) for directory in submit_many(trials, place, place.offer(Resources(cpus=1)))]
    assert [handle(run)["job"] for run in found] == ["1", "2", "3"]
    for run in found[:2]:
        write_json(run.directory.cancel, {"by": "somebody"})
    assert place.cancel_many([run.directory for run in found[:2]]) == [True, True]
    assert [(toy / f"{job}.state").read_text() for job in (1, 2, 3)] == ["deleted\n", "deleted\n", "waiting\n"]


def test_a_run_that_waits_is_taken_out_of_the_queue(toy: Path):
    (toy / "full").touch()
    run = go(on="toy", cpus=1)
    assert (run.state, run.reason) == ("pending", "Waiting for free cores or GPUs")
    run.cancel()
    assert run.state == "cancelled"
    assert (toy / "1.state").read_text() == "deleted\n"


@pytest.mark.parametrize(
    ("state", "exit_code", "end"),
    [
        ("done", "3", ("failed", "job 1: ended with exit code 3")),
        ("deleted", "null", ("cancelled", "job 1: was deleted with toydel, not by mlnb")),
    ],
)
def test_a_job_that_ended_before_the_run_began(toy: Path, state: str, exit_code: str, end: tuple[str, str]):
    (toy / "full").touch()
    run = go(on="toy", cpus=1)
    (toy / "1.state").write_text(f"{state}\n")
    (toy / "1.exit").write_text(f"{exit_code}\n")
    until(lambda: run.done)
    assert (run.state, run.reason) == end


def test_a_job_is_found_again_whose_submission_was_interrupted(toy: Path):
    (toy / "full").touch()
    run = go(on="toy", cpus=1)
    run.directory.handle.unlink()
    assert (run.state, handle(run)["job"]) == ("pending", "1")


def test_a_job_that_the_queue_has_lost(toy: Path):
    (toy / "full").touch()
    run = aged(go(on="toy", cpus=1))
    for file in toy.glob("1.*"):
        file.unlink()
    (toy / "2.run").write_text("another's\n")
    (toy / "2.state").write_text("waiting\n")
    until(lambda: run.done)
    assert (run.state, run.reason) == ("lost", "job 1: Toy no longer knows it; it wrote no result")


@pytest.mark.usefixtures("toy")
def test_the_directives_are_what_was_requested():
    place = target("toy")

    def directives(asked: Resources, placement: Placement = Placement("x")) -> list[str]:  # noqa: B008 - frozen
        shown = place.preview(RunDir(Path("/somewhere/RUN")), place.offer(asked, placement))
        return [line.removeprefix("#TOY ") for line in shown.splitlines() if line.startswith("#TOY")]

    assert directives(Resources(cpus=2)) == [
        "--name=x",
        "--comment=RUN",
        "--cores=2",
        "--memory=4096M",
        "--output=job.log",
    ]
    asked = Resources(gpus=2, time=5400, memory=2**30)
    placement = Placement("y", {"partition": "long", "account": "physics", "lane": "left"})
    assert directives(asked, placement) == [
        "--name=y",
        "--comment=RUN",
        "--queue=long",
        "--lane=left",
        "--project=physics",
        "--cores=1",
        "--memory=1024M",
        "--time=01:30:00",
        "--output=job.log",
        "--gpus=2",
    ]


@pytest.mark.usefixtures("toy")
def test_its_own_option_is_an_option_of_its_targets_only():
    assert parse("--on toy --lane left --partition long").target_options == {"lane": "left", "partition": "long"}
    with pytest.raises(UsageError, match=r"^--lane left: target slurm has no .*\. Targets that have it: toy\.$"):
        parse("--on slurm --lane left")
    with pytest.raises(UsageError, match="--lane 'a b': use letters"):
        target("toy").preview(RunDir(Path("/RUN")), target("toy").offer(Resources(), Placement("x", {"lane": "a b"})))


@pytest.mark.usefixtures("toy")
def test_a_target_of_its_kind_has_the_settings_of_batch_systems():
    sections = {"prologue": {"job-script-prologue": ["module load site"]}}
    settings = {"kind": "toy", "directives": ["--site=x"], "jobqueue": "prologue"}
    with dask.config.set({"mlnb": {"targets": {"mine": settings}}, "jobqueue": sections}):
        place = target("mine")
        shown = place.preview(RunDir(Path("/somewhere/RUN")), place.offer(Resources()))
    assert shown.index("#TOY --site=x\n") < shown.index("module load site\nexec /bin/sh /somewhere/RUN/")
    with (
        dask.config.set({"mlnb": {"targets": {"mine": {"kind": "toy", "disk": "1GB"}}}}),
        pytest.raises(UsageError, match="disk: a toy target has no such setting"),
    ):
        target("mine")


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("Odd = 1", "batch system odd of the distribution mlnb-odd is not a subclass of mlnb.targets.batch"),
        (
            "from mlnb.targets.batch.system import System\nclass Odd(System): kind = display_name = accepted = ''",
            "batch system odd of the distribution mlnb-odd does not define "
            "submit_command, cancel_command, table, job_class or directive_prefix",
        ),
        ("raise RuntimeError('no license')", "batch system odd of the distribution mlnb-odd can't be loaded: Runtime"),
    ],
)
def test_one_that_can_not_be_used_is_one_line_that_says_whose_it_is(tmp_path: Path, source: str, line: str):
    folder = write_distribution(tmp_path / "odd", "mlnb-odd", {"mlnb_odd": source}, {GROUP: {"odd": "mlnb_odd:Odd"}})
    with installed(folder):
        assert "odd" not in names()
        with pytest.raises(UsageError) as caught:
            target("odd")
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


def test_a_command_that_several_systems_have_shows_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    for command in ("qsub", "bsub"):
        write_command(tmp_path, command)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert batch.detected() == ["lsf"]


def test_to_list_the_systems_imports_none_and_to_load_them_not_dask():
    code = (
        "import sys\n"
        "from mlnb.targets import batch\n"
        "assert {'lsf', 'slurm'} <= set(batch.SYSTEMS.names())\n"
        "assert 'mlnb.targets.batch.system' not in sys.modules\n"
        "assert batch.submit_commands()['lsf'] == 'bsub'\n"
        "assert not {'dask', 'distributed', 'dask_jobqueue', 'torch'} & set(sys.modules)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def code_lines(text: str) -> int:
    """Lines that hold code: neither blank nor comment nor docstring."""
    ignored = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER}
    tokens = (t for t in tokenize.generate_tokens(io.StringIO(text).readline) if t.type not in ignored)
    lines = {line for token in tokens for line in range(token.start[0], token.end[0] + 1)}
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


@pytest.mark.parametrize("name", ["lsf", "moab", "oar", "pbs"])
def test_a_system_is_sixty_lines_at_most(name: str):
    assert code_lines((Path(mlnb.__file__).parent / f"targets/batch/systems/{name}.py").read_text()) <= 60
    assert code_lines(blocks("python")[0]) <= 60


def test_a_table_reads_what_the_page_shows():
    (sample,) = blocks("json")
    table = JobTable(
        system="Toy",
        command=(),
        state_field="state",
        states={"running": State("running")},
        other_state=State("pending"),
        nodes_field="host",
        run_field="run",
    )
    (job,) = table.parse(sample).values()
    assert (job.state, job.nodes, job.details["comment"]) == ("running", ("node1",), "mlnb:20261121-000000-abcdef")
