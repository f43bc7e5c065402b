"""SLURM's own accounting (slurmdbd, MariaDB, sacct): how jobs ended that nothing else knows of any more.

No node program runs here that could tell: the jobs run a piece of shell in its place, and the queue has forgotten them.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from mlnb.api import Run
from mlnb.api.read.state import Observation, observe
from mlnb.rundir import FINAL, read_json, write_json
from mlnb.targets.batch.queue import listing as queue_listing
from mlnb.targets.batch.queue import states as batch_states
from tests.clusters.slurm.accounting import Accounting, forgetful, forgotten, node_kept, program, programs
from tests.clusters.slurm.commands import Commands
from tests.clusters.slurm.conftest import Slurm, Start, configured, job, slurm_up
from tests.testbeds.ordinary import OrdinaryUser
from tests.testbeds.sessions import slurms
from tests.waiting import until

pytestmark = [pytest.mark.accounting, pytest.mark.timeout(300)]

SLEEP = "exec sleep 300"
EAT = f"exec {sys.executable} -c \"import time; b = b'x' * (900 << 20); time.sleep(300)\""
AGAIN = "[ ${SLURM_RESTART_COUNT:-0} = 0 ] || exit 9; exec sleep 300"
ODD = "a|b \"c\" 'd' %j $(x)\n7|COMPLETED|0:0|0:0|None|0|0|0|gpu|node1"
AWAY = ("stop", "freeze", "stop_database")


def alone_on(node: str) -> list[str]:
    return [f"--nodelist={node}", "--exclusive"]


@dataclass
class Ends:
    """Runs by how they ended, what was seen of them at the first look, and the commands that this took."""

    runs: dict[str, Run] = field(repr=False)  # to show a run is to look at it
    seen: dict[str, Observation]
    commands: Counter[str]


@pytest.fixture(scope="module")
def slurm() -> Iterator[Slurm]:
    """A SLURM with accounting; the last of the testbeds, since the first may be up without."""
    if os.geteuid() != 0:
        pytest.skip("to stop SLURM's daemons takes root")
    with slurm_up(reversed(slurms()), "--accounting") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def accounting(slurm: Slurm) -> Iterator[Accounting]:
    """It is there; and there again when the tests are through."""
    yield (found := Accounting(slurm))
    found.mend()


@pytest.fixture(scope="module")
def ends(slurm: Slurm, accounting: Accounting, tmp_path_factory: pytest.TempPathFactory) -> Ends:
    """Jobs that ended in all ways, without an account of their own, and that the queue has forgotten."""
    folder = tmp_path_factory.mktemp("ends")
    with pytest.MonkeyPatch.context() as patch, node_kept(slurm, "node3"):
        patch.setenv("MLNB_RUNS", str(folder / "runs"))
        begun = {
            "held": program(folder, "held", SLEEP, directives=["--hold"]),
            "cancelled": program(folder, "cancelled", SLEEP),
            "memory": program(folder, "memory", EAT),
            "time": program(folder, "time", SLEEP),
            "preempted": program(folder, "preempted", SLEEP, directives=alone_on("node2")),
            "node": program(folder, "node", SLEEP, directives=alone_on("node3")),
            "launch": program(folder, "launch", SLEEP, directives=["--output=/no/such/folder/x"]),
            "code": program(folder, "code", "echo so it is; exit 7"),
            "signal": program(folder, "signal", "kill -9 $PPID; sleep 1"),
            "again": program(folder, "again", AGAIN, requeue=True),
            "called-back": program(folder, "called-back", SLEEP, requeue=True),
            "odd": program(folder, "odd", "exit 3", directives=["--hold"]),
            "long-ago": program(folder, "long-ago", "exit 4"),
            "reused": program(folder, "reused", "exit 5"),
            "unknown": program(folder, "unknown", "exit 6"),
            "runaway": program(folder, "runaway", "exit 6"),
            **{how: program(folder, how, "exit 8") for how in AWAY},
        }
        slurm.submitted += [job(run) for run in begun.values()]
        have_them_end(slurm, begun)
        with forgetful(slurm):
            forgotten(slurm, *begun.values())
        doctor(accounting, begun)
        commands = Commands(folder / "commands")
        patch.setenv("PATH", f"{commands.folder}:{os.environ['PATH']}")
        looked_at = {name: run for name, run in begun.items() if name not in AWAY}
        seen = dict(zip(looked_at, observe([run.observable for run in looked_at.values()]), strict=True))
        return Ends(begun, seen, Counter(commands.calls()))


def have_them_end(slurm: Slurm, begun: dict[str, Run]) -> None:
    for name in ("cancelled", "time", "preempted", "node", "again", "called-back"):
        slurm.wait_state(job(begun[name]), "RUNNING", patience=120)  # others' jobs may be there still
    slurm.command("scontrol", "update", f"jobid={job(begun['time'])}", "EndTime=now+1")
    slurm.sbatch("sleep 1", "--partition=high", *alone_on("node2"))
    slurm.command("scontrol", "update", "nodename=node3", "state=down", "reason=test")
    slurm.command("scontrol", "update", f"jobid={job(begun['odd'])}", f"JobName={ODD}")
    slurm.command("scontrol", "release", job(begun["odd"]))
    for name in ("again", "called-back"):
        slurm.command("scontrol", "requeue", job(begun[name]))
        slurm.wait_state(job(begun[name]), "PENDING")
    slurm.cancel(*(job(begun[name]) for name in ("held", "cancelled", "called-back")))
    slurm.start_now(job(begun["again"]))
    ended = ("CANCELLED", "COMPLETED", "FAILED", "NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "TIMEOUT")
    for run in begun.values():
        slurm.wait_state(job(run), *ended, patience=90)


def doctor(accounting: Accounting, begun: dict[str, Run]) -> None:
    """Have accounting's records be what takes years, or a database that was lost."""

    def record(name: str, change: str) -> None:
        assert accounting.sql(f"UPDATE mlnb_job_table SET {change} WHERE id_job={job(begun[name])}") is not None

    month = 40 * 86400
    for name in ("long-ago", "reused"):
        earlier = ", ".join(
            f"{what}={what}-{month}" for what in ("time_submit", "time_eligible", "time_start", "time_end")
        )
        record(name, earlier)
    handle = read_json(begun["long-ago"].directory.handle) or {}
    write_json(begun["long-ago"].directory.handle, {**handle, "submitted": handle["submitted"] - month})
    for run in begun.values():
        if run is not begun["long-ago"]:
            handle = read_json(run.directory.handle) or {}
            write_json(run.directory.handle, {**handle, "submitted": handle["submitted"] - 60})
    assert accounting.sql(f"DELETE FROM mlnb_job_table WHERE id_job={job(begun['unknown'])}") is not None
    record("runaway", "state=1, time_end=0, time_start=time_start-86400")


@pytest.mark.parametrize(
    ("how", "state", "words"),
    [
        ("held", "cancelled", "was cancelled by you"),
        ("cancelled", "cancelled", "was cancelled by you"),
        ("memory", "failed", r"exceeded its memory limit \(537 MB on each node\); more --memory may help"),
        ("time", "failed", r"reached its time limit \(5 min\); try a longer --time, or --resume.*"),
        ("preempted", "failed", "had to make room for a job of higher priority"),
        ("node", "failed", "its node node3 failed"),
        ("launch", "failed", r"the job script could not be started on node\d; .* folder of its log can't be written"),
        ("code", "failed", "ended with exit code 7, before the node program began; it printed: so it is"),
        ("signal", "failed", "was ended by SIGKILL"),
        ("again", "failed", "ended with exit code 9"),
        ("called-back", "cancelled", "was cancelled by you"),
        ("odd", "failed", "ended with exit code 3"),
        ("long-ago", "failed", "ended with exit code 4"),
    ],
)
def test_how_a_job_ended_that_only_accounting_knows(ends: Ends, how: str, state: str, words: str):
    assert ends.seen[how].state == state
    printed = "(, before the node program began; it printed: .*)?"
    assert re.fullmatch(f"job {job(ends.runs[how])}: {words}{printed}", ends.seen[how].reason), ends.seen[how].reason


def test_one_look_at_the_queue_and_one_at_accounting_tell_of_all(ends: Ends):
    assert ends.commands == {"squeue": 1, "sacct": 1}
    assert len([seen for seen in ends.seen.values() if seen.state in FINAL]) == 13


@pytest.mark.parametrize("how", ["unknown", "reused", "runaway"])
def test_a_job_whose_end_no_accounting_knows_is_lost_but_not_at_once(
    ends: Ends, how: str, monkeypatch: pytest.MonkeyPatch
):
    """There is no record of it, or an earlier job's with its number, or one by which it runs longer than it can."""
    run = ends.runs[how]
    assert (ends.seen[how].state, ends.seen[how].reason) == (
        "pending",
        f"SLURM no longer has job {job(run)} in its queue"
        + (
            ", but accounting reports RUNNING"
            if how == "runaway"
            else "; waiting for accounting to report how it ended"
        ),
    )
    monkeypatch.setattr(batch_states, "ACCOUNTING_DELAY", 2.0)
    with configured(poll="1s"):
        until(lambda: run.done, 20)
    assert (run.state, run.reason) == ("lost", f"job {job(run)}: SLURM no longer knows it; it wrote no result")


@pytest.fixture
def away(accounting: Accounting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Accounting]:
    """To take accounting away. What other tests were answered is not known here."""
    monkeypatch.setenv("MLNB_RUNTIME", str(tmp_path / "runtime"))
    yield accounting
    accounting.mend()


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("stop", "SLURM says: Problem talking to the database: Connection refused"),
        ("freeze", "SLURM does not answer: sacct timed out after 10 s. Try again later"),
        ("stop_database", "SLURM says: Problem talking to the database: Unable to connect to database"),
    ],
)
def test_while_accounting_is_away_no_run_is_lost_and_it_is_not_asked_in_a_row(
    ends: Ends, away: Accounting, commands: Commands, monkeypatch: pytest.MonkeyPatch, how: str, said: str
):
    run = ends.runs[how]
    getattr(away, how)()
    with configured(poll="1s"):
        seen = run.observe()
        assert seen.state == "pending"
        assert seen.reason == f"SLURM no longer has job {job(run)} in its queue, and how it ended isn't known: {said}"
        until(lambda: run.state != "pending" or commands.calls().count("squeue") == 4)
        assert run.state == "pending"
        assert commands.calls().count("sacct") == 1
        away.mend()
        monkeypatch.setattr(queue_listing, "ACCOUNTING_RETRY", 0.0)
        until(lambda: run.done)
    assert run.state == "failed"
    assert run.reason.startswith(f"job {job(run)}: ended with exit code 8")


def test_of_a_job_that_ends_while_accounting_is_away_it_tells_when_it_is_back(
    slurm: Slurm, away: Accounting, tmp_path: Path
):
    away.stop()
    with forgetful(slurm):
        run = program(tmp_path, "meanwhile", "exit 8")
        until(lambda: slurm.state(job(run)) == "FAILED")
        forgotten(slurm, run)
    away.mend()  # SLURM's controller has not noticed yet
    with configured(poll="1s"):
        until(lambda: run.done)
    assert run.state == "failed", run.reason
    assert run.reason.startswith(f"job {job(run)}: ended with exit code 8")


def test_without_a_word_from_accounting_all_else_goes_on(
    slurm: Slurm, away: Accounting, start: Start, tmp_path: Path, commands: Commands
):
    away.freeze()
    with configured(poll="1s"):
        assert start("print('through')").wait(60).logs() == "through\n"
        waits, cancelled = (program(tmp_path, name, SLEEP, directives=["--hold"]) for name in ("waits", "cancelled"))
        assert waits.reason.startswith("Held by you")
        assert waits.cancel().state == "cancelled"
        assert "sacct" not in commands.calls()
        slurm.cancel(job(cancelled))
        until(lambda: cancelled.done)
    assert (cancelled.state, cancelled.reason) == ("cancelled", f"job {job(cancelled)}: was cancelled")


TASK = "case $SLURM_ARRAY_TASK_ID in 1) exit 7;; *) exec sleep 300;; esac"


def test_of_an_array_that_the_queue_has_forgotten_each_task_has_its_end(
    slurm: Slurm, away: Accounting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found = programs(tmp_path, "array", TASK, 6, directives=["--hold"])
    jobs = [job(run) for run in found]
    array = jobs[0].partition("_")[0]
    slurm.command("scontrol", "release", jobs[0], jobs[1])
    slurm.wait_state(jobs[0], "RUNNING")
    slurm.wait_state(jobs[1], "FAILED")
    slurm.cancel(jobs[2])
    slurm.cancel(array)
    slurm.wait_state(jobs[0], "CANCELLED")
    with forgetful(slurm):
        forgotten(slurm, *found)
    for run in found:
        handle = read_json(run.directory.handle) or {}
        write_json(run.directory.handle, {**handle, "submitted": handle["submitted"] - 60})
    monkeypatch.setattr(batch_states, "ACCOUNTING_DELAY", 2.0)
    with configured(poll="1s"):
        until(lambda: all(run.done for run in found))
    states = ["cancelled", "failed", *["cancelled"] * 4]
    assert [run.state for run in found] == states, [run.reason for run in found]
    assert found[1].reason.startswith(f"job {jobs[1]}: ended with exit code 7")
    assert found[2].reason == f"job {jobs[2]}: was cancelled before it started; SLURM does not record by whom"
    for index in (0, 3, 4, 5):
        assert found[index].reason == f"job {jobs[index]}: was cancelled by you"


def test_a_task_that_waits_is_cancelled_at_once_though_slurm_keeps_no_record_of_it(
    slurm: Slurm, away: Accounting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    found = programs(tmp_path, "array", TASK, 4, directives=["--hold"])
    last = job(found[3])
    array = last.partition("_")[0]
    until(lambda: f"{array}_[0-3]" in slurm.command("sacct", "-nXo", "JobID%20", "-j", array))  # and so it stays
    monkeypatch.setattr(batch_states, "ACCOUNTING_DELAY", 2.0)
    with configured(poll="1s"):
        found[1].cancel()
        assert (found[1].state, found[1].reason) == ("cancelled", "stopped by you; it had not started")
        assert [run.state for run in found] == ["pending", "cancelled", "pending", "pending"]
        slurm.cancel(last)
        handle = read_json(found[3].directory.handle) or {}
        write_json(found[3].directory.handle, {**handle, "submitted": handle["submitted"] - 60})
        until(lambda: found[3].done)
        assert found[3].reason == f"job {last}: was cancelled before it started; SLURM does not record by whom"
        for run in found[:3:2]:
            assert run.cancel().state == "cancelled"


BEGIN = """
import json, dask
from mlnb.api import Run
from mlnb.api.submit.submit import submit
from mlnb.rundir import read_json
from mlnb.targets.base import Placement
from mlnb.targets.registry import target
from mlnb.task import Resources, Task

with dask.config.set({"mlnb": {"targets": {"slurm": {"directives": ["--hold"]}}}}):
    place = target("slurm")
    offer = place.offer(Resources(cpus=1, memory=2**29, time=300), Placement("held"))
    found = [submit(Task(script="", seed=0), {}, place, offer, name="held", env={}) for _ in range(3)]
print(json.dumps([[str(run.path), read_json(run.handle)["job"]] for run in found]))
"""
LOOK = """
import json, sys, time, dask
from pathlib import Path
from mlnb.api import Run
from mlnb.rundir import RunDir

with dask.config.set({"mlnb": {"targets": {"slurm": {"poll": "1s"}}}}):
    found = [Run(RunDir(Path(path))) for path in sys.argv[1:]]
    while not all(run.done for run in found):
        time.sleep(0.1)
print(json.dumps([[run.state, run.reason] for run in found]))
"""


def test_who_cancelled_a_job_is_said_at_once(slurm: Slurm, ordinary_user: OrdinaryUser):
    begun = json.loads(ordinary_user.snippet(BEGIN))
    (by_root, by_owner, through_mlnb), jobs = zip(*begun, strict=True)
    slurm.cancel(jobs[0])
    ordinary_user.run("scancel", jobs[1])
    ordinary_user.snippet("import mlnb, sys; mlnb.runs[sys.argv[1]].cancel()", Path(through_mlnb).name)
    seen = json.loads(ordinary_user.snippet(LOOK, by_root, by_owner, through_mlnb))
    assert seen[:2] == [
        ["cancelled", f"job {jobs[0]}: was cancelled by root (an administrator)"],
        ["cancelled", f"job {jobs[1]}: was cancelled by you"],
    ]
    assert seen[2][1].startswith("stopped by you")
    assert slurm.squeue(jobs[0]) is None
