"""Many runs are one job array where the system has arrays, and are all submitted or none. The SLURM here is played."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from mlnb.api import Run, runs
from mlnb.api.submit.submit import Submission, submit_many
from mlnb.errors import MlnbError, UsageError
from mlnb.rundir import RunDir, read_json, write_json
from mlnb.targets.base import Placement
from mlnb.targets.batch.target import BatchTarget
from mlnb.targets.registry import target
from mlnb.task import Resources, Task
from tests.targets.batch.played import Played, handle, played

LOST = "echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1"
REFUSED = "echo 'sbatch: error: Batch job submission failed: Job violates accounting/QOS policy' >&2; exit 1"
DOWN = "echo 'sbatch: error: Unable to contact slurm controller (connect failure)' >&2; exit 1"
COMMENT = 'array=$(sed -n "s/.*--comment=mlnb://p" "$2"); tasks=$(sed -n "s/.*--array=//p" "$2"); now=$(date +%s)'


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Played]:
    with played(tmp_path / "slurm") as commands:
        keep(commands)
        yield commands


def keep(slurm: Played, then: str = "echo 12345") -> None:
    """sbatch keeps each script and its environment, and then does this."""
    count = f"n=$(ls {slurm.folder} | grep -c script)"
    slurm.say("sbatch", f'{count}; cp "$2" {slurm.folder}/script$n; env -0 >{slurm.folder}/env$n; {COMMENT}; {then}')


def scripts(slurm: Played) -> list[str]:
    """The scripts that were submitted."""
    return [file.read_text() for file in sorted(slurm.folder.glob("script*"))]


def directives(script: str) -> list[str]:
    return [line.removeprefix("#SBATCH ") for line in script.splitlines() if line.startswith("#SBATCH")]


def go(count: int, *, envs: Sequence[Mapping[str, str]] = (), names: str = "trial-{}") -> list[Run]:
    """Submit many runs."""
    place = target("slurm")
    offer = place.offer(Resources(), Placement("trial"))
    trials = [
        Submission(Task(script="", seed=0), {}, names.format(number), envs[number] if envs else {})
        for number in range(count)
    ]
    return [Run(directory) for directory in submit_many(trials, place, offer)]


def left(root: Path) -> list[str]:
    """What is left of runs and arrays."""
    return [str(path) for path in (*root.glob("[!.]*"), *root.glob(".arrays/*"))]


def jobs(found: Sequence[Run]) -> list[object]:
    return [handle(run)["job"] for run in found]


def test_an_array_is_one_script_and_a_folder_that_leads_to_each_run(slurm: Played, runs_root: Path):
    found = go(3)
    assert jobs(found) == ["12345_0", "12345_1", "12345_2"]
    (script,) = scripts(slurm)
    (folder,) = (runs_root / ".arrays").iterdir()
    assert folder.stat().st_mode & 0o777 == 0o700
    lines = directives(script)
    assert {"--array=0-2", "--output=%a/job.log", "--error=%a/job.log", f"--comment=mlnb:{folder.name}"} <= set(lines)
    assert "-J trial" in lines
    assert script.splitlines()[-1] == f'exec /bin/sh {folder}/"$SLURM_ARRAY_TASK_ID"/job.sh'
    for index, run in enumerate(found):
        attempt = run.directory.attempt(1)
        assert (folder / str(index)).resolve() == attempt.path.resolve()
        assert not (folder / str(index)).readlink().is_absolute()
        assert read_json(attempt.array) == {"array": folder.name, "task": index}
        assert f"mlnb.node {run.dir} --attempt 1 &" in attempt.job_script.read_text()
        assert "MLNB_TASK" not in attempt.job_script.read_text()


def test_each_task_gets_its_own_variables_and_none_of_the_others(slurm: Played, tmp_path: Path):
    values = ["plain", 'it\'s\n$HOME `id` "quoted"\n']
    found = go(2, envs=[{"OWN": value, "SAME": "same", f"ONLY_{n}": "x"} for n, value in enumerate(values)])
    pairs = (slurm.folder / "env0").read_bytes().rstrip(b"\0").split(b"\0")
    env = dict(os.fsdecode(pair).split("=", 1) for pair in pairs)
    assert env["SAME"] == "same"
    assert "OWN" not in env
    for run, value in zip(found, values, strict=True):
        script = run.directory.attempt(1).job_script.read_text()
        assert value not in script
        setting = script[: script.index("cd ")]
        done = subprocess.run(["/bin/sh", "-c", f"{setting}\nenv -0"], env=env, capture_output=True, text=True)
        assert done.stderr == ""
        own = dict(pair.split("=", 1) for pair in done.stdout.rstrip("\0").split("\0"))
        assert (own["OWN"], own["SAME"]) == (value, "same")
        assert sorted(name for name in own if "ONLY" in name) == [f"ONLY_{found.index(run)}"]
        assert not [name for name in own if name.startswith("MLNB_TASK")]


def test_a_name_that_the_shell_can_not_set_is_refused(slurm: Played, runs_root: Path):
    with pytest.raises(UsageError, match="--env A-B: use letters"):
        go(2, envs=[{"A-B": "1"}, {"A-B": "2"}])
    assert left(runs_root) == []


@pytest.mark.parametrize(
    ("config", "arrays"),
    [
        (["MaxArraySize            = 1001"], ["0-6"]),
        (["MaxArraySize = 3"], ["0-2", "0-2", None]),
        (["MaxArraySize = 1001", "SchedulerParameters     = bf_interval=5,max_array_tasks=4"], ["0-3", "0-2"]),
        (["MaxArraySize = 0"], [None] * 7),
        ([], ["0-6"]),
    ],
)
def test_an_array_is_not_larger_than_slurm_takes(slurm: Played, config: list[str], arrays: list[str | None]):
    slurm.config(*config)
    keep(slurm, f"echo $((12345 + $(ls {slurm.folder} | grep -c script)))")
    found = go(7)
    ranges = [re.search("--array=(.*)", script) for script in scripts(slurm)]
    assert [match and match[1] for match in ranges] == arrays
    assert len(set(jobs(found))) == 7


def test_many_bytes_of_variables_are_several_arrays(slurm: Played):
    go(4, envs=[{"LONG": str(number) * 100_000} for number in range(4)])
    assert [re.findall("--array=(.*)", script) for script in scripts(slurm)] == [["0-1"], ["0-1"]]
    go(4, envs=[{"LONG": "x" * 100_000}] * 4)
    assert re.findall("--array=(.*)", scripts(slurm)[-1]) == ["0-3"]


def test_runs_of_unequal_resources_are_not_in_one_array(slurm: Played):
    place = target("slurm")
    assert isinstance(place, BatchTarget)
    found = go(5)
    for number, run in enumerate(found):
        task = Task.from_json(read_json(run.directory.task) or {}).to_json()
        cpus = 2 if number in (1, 3) else 3 if number == 4 else 1
        write_json(run.directory.task, {**task, "resources": {**task["resources"], "cpus": cpus}})
    handles = place.submit_many([run.directory for run in found], [{}] * 5)
    pairs, twos, one = scripts(slurm)[1:]
    assert "--array=0-1" in directives(pairs)
    assert "--array=0-1" in directives(twos)
    assert not [line for line in directives(one) if line.startswith("--array")]
    assert [each["job"] for each in handles] == ["12345_0", "12345_0", "12345_1", "12345_1", "12345"]


@pytest.mark.parametrize(
    ("names", "name"), [("resnet50-{}", "resnet50"), ("lr-0.0{}", "lr-0"), ("{}", "0"), ("same", "same")]
)
def test_an_array_is_named_by_what_its_runs_are(slurm: Played, names: str, name: str):
    go(2, names=names)
    assert f"-J {name}" in directives(scripts(slurm)[0])


# half submitted


@pytest.mark.parametrize("refusal", [REFUSED, "echo gibberish", DOWN])
def test_a_refusal_leaves_nothing(slurm: Played, refusal: str, runs_root: Path):
    keep(slurm, refusal)
    with pytest.raises(MlnbError):
        go(3)
    assert left(runs_root) == []
    assert len(runs) == 0


def test_if_the_second_array_is_refused_the_first_is_cancelled(slurm: Played, runs_root: Path):
    slurm.config("MaxArraySize = 3")
    keep(slurm, f"[ $n = 0 ] || {{ {REFUSED}; }}; echo 12345")
    with pytest.raises(MlnbError, match="violates"):
        go(6)
    assert slurm.calls("scancel") == [": 12345_0 12345_1 12345_2"]
    assert [path for path in left(runs_root) if ".arrays" not in path] == []


def taken(slurm: Played, then: str) -> None:
    """sbatch has the array taken, and then does this."""
    row = "12345_[$tasks]|PENDING|None|$now|$now|1:00:00|1|gpu|0|0||mlnb:$array|"
    keep(slurm, f'echo "{row}" >{slurm.folder}/listed; {then}')


@pytest.mark.parametrize("then", [LOST, "kill -9 $$", "echo I am a wrapper"])
def test_an_array_that_was_taken_is_the_runs_whatever_became_of_the_command(slurm: Played, then: str):
    taken(slurm, then)
    found = go(3)
    assert jobs(found) == ["12345_0", "12345_1", "12345_2"]
    assert {run.state for run in found} == {"pending"}


def test_an_array_that_appears_when_everybody_has_given_up_waiting_is_the_runs(slurm: Played, runs_root: Path):
    keep(slurm, LOST)
    found = go(3)
    assert [handle(run) for run in found] == [{}] * 3
    assert {run.reason for run in found} == {"being submitted"}
    (folder,) = (runs_root / ".arrays").iterdir()
    slurm.queue(f"12345_[0-1] PENDING {folder.name}", f"12345_2 RUNNING {folder.name}")
    slurm.say("scancel", f"sed -i s/0-1/0/ {slurm.folder}/listed")
    found[1].cancel()
    assert slurm.calls("scancel") == [": 12345_1"]
    assert found[1].state == "cancelled"
    assert [found[0].state, found[2].state] == ["pending", "starting"]
    assert jobs(found) == ["12345_0", "12345_1", "12345_2"]


def test_an_attempt_that_was_not_submitted_as_an_array_is_found_as_itself(slurm: Played, runs_root: Path):
    found = go(2)
    (folder,) = (runs_root / ".arrays").iterdir()
    run = found[0]
    run.directory.handle.unlink()
    run.directory.attempt(2).path.mkdir()  # the job was requeued
    slurm.queue(f"12345_0 RUNNING {folder.name}", f"12346 RUNNING {run.id}")
    assert run.state == "starting"
    assert jobs([run]) == ["12345_0"]
    run.directory.handle.unlink()
    run.directory.attempt(2).job_script.touch()  # it was resumed
    assert run.state == "starting"
    assert jobs([run]) == ["12346"]


def test_the_folder_of_an_array_goes_when_none_of_its_runs_is_left(slurm: Played, runs_root: Path):
    first, second = go(2)
    (folder,) = (runs_root / ".arrays").iterdir()
    os.utime(folder, (0, 0))

    def remove(run: Run) -> None:
        subprocess.run(["rm", "-r", run.dir], check=True)

    remove(first)
    go(2)
    assert folder.exists()
    remove(second)
    assert not RunDir(second.dir).run.exists()
    go(2)
    assert not folder.exists()


def test_an_interrupt_takes_the_array_back_by_one_command(slurm: Played, runs_root: Path):
    taken(slurm, f"kill -INT $PPID; sleep 0.2; {LOST}")
    slurm.say("scancel", f"echo >{slurm.folder}/listed")
    with pytest.raises(KeyboardInterrupt):
        go(4)
    (call,) = slurm.calls("scancel")
    assert sorted(call.split()[1:]) == [f"12345_{index}" for index in range(4)]
    assert [path for path in left(runs_root) if ".arrays" not in path] == []


def test_many_are_cancelled_by_one_command(slurm: Played, runs_root: Path):
    place, found = target("slurm"), go(3)
    (folder,) = (runs_root / ".arrays").iterdir()
    slurm.queue(f"12345_[0-2] PENDING {folder.name}")
    slurm.say("scancel", f"sed -i s/0-2/2/ {slurm.folder}/listed")
    for run in found:
        write_json(run.directory.cancel, {"by": "somebody"})
    assert place.cancel_many([run.directory for run in found[:2]]) == [True, True]
    assert slurm.calls("scancel") == [": 12345_0 12345_1"]
    assert [run.state for run in found[:2]] == ["cancelled", "cancelled"]
