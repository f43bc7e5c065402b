"""What each batch system is asked for: directives as dask-jobqueue renders them, with ours among them."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import dask
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.errors import UsageError
from mlnb.rundir import RunDir
from mlnb.targets.base import Placement
from mlnb.targets.batch import SYSTEMS, load_system
from mlnb.targets.batch.request import JobRequest, directive_word, format_clock
from mlnb.targets.batch.submission.job import make_job
from mlnb.targets.batch.target import BatchTarget
from mlnb.task import Resources
from mlnb.workspace import Workspace
from tests.option_line import parse

RESOURCES = Resources(ranks=2, gpus=2, cpus=3, memory=7 * 2**30, time=5400)


def ask(**more: object) -> JobRequest:
    return JobRequest("20261121-000000-abcdef", "digits", RESOURCES, "gpu", "physics", **more)  # type: ignore[arg-type]


def text(kind: str, run: RunDir, **more: object) -> str:
    return make_job(load_system(kind)({}, Workspace.of_process()), ask(**more), run, 1, {}).text()


def directives(kind: str, mark: str, run: RunDir, **more: object) -> list[str]:
    found = [line.removeprefix(mark).strip() for line in text(kind, run, **more).splitlines() if line.startswith(mark)]
    assert found
    return found


@pytest.fixture
def run(tmp_path: Path) -> RunDir:
    return RunDir(tmp_path / "20261121-000000-abcdef")


def test_slurm(run: RunDir):
    assert directives("slurm", "#SBATCH", run) == [
        "-J digits",
        "-p gpu",
        "-A physics",
        "--cpus-per-task=6",
        "--mem=7168M",
        "-t 01:30:00",
        "--nodes=1",
        "--ntasks-per-node=1",
        "--comment=mlnb:20261121-000000-abcdef",
        "--output=job.log",
        "--error=job.log",
        "--open-mode=append",
        "--signal=B:USR1@60",
        "--requeue",
        "--gres=gpu:2",
    ]
    assert "--no-requeue" in directives("slurm", "#SBATCH", run, requeue=False)
    assert "--gres=gpu:a100:2" in directives("slurm", "#SBATCH", run, gpu_directives=("--gres=gpu:a100:2",))


def test_grid_engine(run: RunDir):
    found = directives("sge", "#$", run)
    assert {"-q gpu", "-P physics", "-l h_rt=01:30:00", "-l gpu=2", "-cwd", "-S /bin/sh", "-r y", "-notify"} <= set(
        found
    )


def test_pbs(run: RunDir):
    found = directives("pbs", "#PBS", run)
    assert {"-N digits", "-q gpu", "-A physics", "-l select=1:ncpus=6:mem=7168mb:ngpus=2", "-r y"} <= set(found)
    assert "-l walltime=01:30:00" in found


def test_moab(run: RunDir):
    found = directives("moab", "#PBS", run)
    assert {"-N digits", "-l nodes=1:ppn=6:gpus=2,mem=7168mb", "-l walltime=01:30:00"} <= set(found)


def test_lsf(run: RunDir):
    found = directives("lsf", "#BSUB", run)
    assert {"-J digits", "-q gpu", '-P "physics"', "-n 6", "-W 01:30", '-gpu "num=2"', "-r"} <= set(found)


def test_oar(run: RunDir):
    found = directives("oar", "#OAR", run)
    assert {"-n digits", "-q gpu", "--project physics", "-l /nodes=1/gpu=2,walltime=01:30:00"} <= set(found)
    assert "-t idempotent" not in found  # it would be another job


def test_htcondor(run: RunDir):
    lines = dict(
        line.split(" = ", 1) for line in text("htcondor", run).split("\n\n#", 1)[0].splitlines() if " = " in line
    )
    assert lines["request_gpus"] == "2"
    assert lines["RequestCpus"] == "MY.DaskWorkerCores"
    assert lines["MY.DaskWorkerCores"] == "6"
    assert lines["MY.MlnbRun"] == '"20261121-000000-abcdef"'
    assert lines["accounting_group"] == "physics"
    assert lines["Arguments"].startswith("\"-c 'exec /bin/sh ")


def test_htcondor_reads_the_submit_file_as_it_was_meant(tmp_path: Path):
    htcondor2 = pytest.importorskip("htcondor2")
    run = RunDir(tmp_path / 'it\'s a "run" $(x)')
    read = htcondor2.Submit(text("htcondor", run).split("\n\n#", 1)[0].partition("Queue")[0])
    assert read["request_gpus"] == "2"
    assert read["batch_name"] == "digits"
    assert read["executable"] == "/bin/sh"
    # its rules: the whole in double quotes, a quote inside doubled, words in single quotes
    flag, command = read.expand("arguments").strip('"').replace('""', '"').split(" ", 1)
    assert flag == "-c"
    assert shlex.split(command[1:-1].replace("''", "'")) == ["exec", "/bin/sh", str(run.attempt(1).path / "job.sh")]


@pytest.mark.parametrize("kind", SYSTEMS.names())
def test_the_job_runs_the_node_program_and_no_dask_worker(kind: str, run: RunDir):
    shown = text(kind, run)
    assert "dask_worker" not in shown.replace("DaskWorker", "")
    assert f"-m mlnb.node {run.path} --attempt 1" in shown
    body = shown[shown.index("#!/bin/sh") :]
    done = subprocess.run(["/bin/sh", "-n"], input=body, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr


def rendered(kind: str, run: RunDir, resources: Resources) -> str:
    """The directives of a job with these resources."""
    return (
        make_job(load_system(kind)({}, Workspace.of_process()), JobRequest(run.path.name, "x", resources), run, 1, {})
        .text()
        .split("\n\n# ", 1)[0]
    )


EXACTLY = {
    "slurm": ("--cpus-per-task=6", "--mem=499200M"),
    "pbs": ("ncpus=6", "mem=499200mb"),
    "moab": ("ppn=6", "mem=499200mb"),
    "lsf": ("-n 6\n", f"-M {499200 * 2**20 // 1000 + 1}\n"),
    "oar": ("/core=6", f"memcore>={499200 // 6}"),
    "htcondor": ("MY.DaskWorkerCores = 6", f"MY.DaskWorkerMemory = {499200 * 2**20}"),
}


@pytest.mark.parametrize("kind", sorted(EXACTLY))
def test_cores_and_memory_are_those_of_the_plan_whatever_jobqueue_yaml_has(kind: str, run: RunDir):
    """A whole node's memory is not rounded up to more than it has; who uses Dask has sizes there, for its workers."""
    theirs = {"job-cpu": 24, "job-mem": "7GB", "ncpus": 24, "mem": 7, "cores": 24, "memory": "7GB"}
    theirs |= {"resource-spec": "select=9", "memory-per-core-property-name": "memcore"}
    whole = Resources(ranks=2, cpus=3, memory=499200 * 2**20)
    with dask.config.set({f"jobqueue.{kind}.{key}": value for key, value in theirs.items()}):
        shown = rendered(kind, run, whole)
    for said in EXACTLY[kind]:
        assert said in shown
    assert not re.search(r"\b(24|7)\b", shown)
    assert "select=9" not in shown


@pytest.mark.parametrize("kind", sorted(set(SYSTEMS.names()) - {"sge"}))
def test_without_memory_nothing_is_said_of_it(kind: str, run: RunDir):
    with dask.config.set({f"jobqueue.{kind}.memory-per-core-property-name": "memcore"}):
        with_memory, without = (rendered(kind, run, Resources(cpus=2, memory=each)) for each in (2**33, None))
    asks = ("--mem", "mem=", "-M ", "memcore", "RequestMemory")
    assert [word for word in asks if word in with_memory]
    assert not [word for word in asks if word in without]


def gpu_lines(kind: str, run: RunDir, line: str, **entry: object) -> list[str]:
    """The lines about GPUs of a submission to a site with these GPUs."""
    settings = {"gpus": [{"type": "a100", "memory": "80GB", **entry}], "parallel-environment": "smp"}
    place = BatchTarget(kind, load_system(kind)(settings, Workspace.of_process()))
    offer = place.offer(parse(line).resources())
    shown = place.preview(run, offer).split("\n\n# ", 1)[0]
    return [line for line in shown.splitlines() if re.search("gpu|a100", line) and not line.startswith("exec")]


OWN = {
    "pbs": ("ngpus={count}:gpu_model=a100", "#PBS -l select=1:ncpus=2:mem=4096mb:ngpus=2:gpu_model=a100"),
    "moab": ("gpus={count}:a100", "#PBS -l nodes=1:ppn=2:gpus=2:a100,mem=4096mb"),
    "sge": ("-l gpu={count},gpu_type=a100", "#$ -l gpu=2,gpu_type=a100"),
    "lsf": ('-gpu "num={count}:gmodel=A100"', '#BSUB -gpu "num=2:gmodel=A100"'),
}


@pytest.mark.parametrize("kind", sorted(OWN))
@pytest.mark.parametrize("line", ["--gpus 2", "--gpus 2 --gpu-type a100"])
def test_gpus_are_asked_for_as_the_site_says_in_its_own_words(kind: str, line: str, run: RunDir):
    directive, said = OWN[kind]
    assert gpu_lines(kind, run, line, directive=directive) == [said]


def test_what_says_of_which_kind_stands_beside_what_says_how_many(run: RunDir):
    found = gpu_lines("htcondor", run, "--gpus 2", directive="require_gpus = Capability >= 8.0")
    assert found == ["request_gpus = 2", "require_gpus = Capability >= 8.0"]
    found = gpu_lines("oar", run, "--gpus 2 --time 1h", directive='-p "gpu_model=x"')
    assert found == ["#OAR -l /nodes=1/gpu=2,walltime=01:00:00", '#OAR -p "gpu_model=x"']
    spec = "-l select=1:ncpus=9:ngpus={count}"  # a line of the site's own, for all of it
    assert gpu_lines("pbs", run, "--gpus 2", directive=spec) == ["#PBS -l select=1:ncpus=9:ngpus=2"]


def test_a_kind_of_gpu_is_asked_for_in_the_system_s_own_way_where_it_has_one(run: RunDir):
    assert gpu_lines("lsf", run, "--gpus 2") == ['#BSUB -gpu "num=2:gmodel=a100"']
    for kind in ("pbs", "moab", "sge", "oar", "htcondor"):
        with pytest.raises(UsageError, match=r"needs a directive that requests {count} of them from this batch system"):
            gpu_lines(kind, run, "--gpus 2")


def test_a_run_has_a_gpu_where_the_site_says_that_there_are_some(run: RunDir):
    assert gpu_lines("pbs", run, "", directive="ngpus={count}") == ["#PBS -l select=1:ncpus=1:mem=4096mb:ngpus=1"]
    assert gpu_lines("pbs", run, "--gpus 0", directive="ngpus={count}") == []


@pytest.mark.parametrize("kind", sorted(set(SYSTEMS.names()) - {"htcondor", "slurm"}))
def test_the_queue_and_directives_of_jobqueue_yaml_are_taken(kind: str, run: RunDir):
    theirs = {"queue": "theirs", "job-extra-directives": ["-site wants"]}
    with dask.config.set({f"jobqueue.{kind}.{key}": value for key, value in theirs.items()}):
        place = BatchTarget(kind, load_system(kind)({"directives": ["-target wants"]}, Workspace.of_process()))
        shown = place.preview(run, place.offer(Resources()))
        assert "-q theirs\n" in shown
        assert shown.index("-site wants\n") < shown.index("-target wants\n")
        assert "-q mine\n" in place.preview(run, place.offer(Resources(), Placement(options={"partition": "mine"})))


def test_the_directives_of_jobqueue_yaml_are_taken_on_htcondor_but_for_what_the_plan_says(run: RunDir):
    theirs = {"+Site": '"x"', "batch_name": "dask", "request_memory": 1, "RequestCpus": 9}
    with dask.config.set({"jobqueue.htcondor.job-extra-directives": theirs}):
        place = BatchTarget("htcondor", load_system("htcondor")({}, Workspace.of_process()))
        shown = place.preview(run, place.offer(Resources(), Placement("digits")))
    lines = shown.splitlines()
    assert {'+Site = "x"', "batch_name = digits", "RequestCpus = MY.DaskWorkerCores"} <= set(lines)
    assert "request_memory = 1" not in lines


@pytest.mark.parametrize("kind", sorted(set(SYSTEMS.names()) - {"htcondor", "slurm"}))
@pytest.mark.parametrize(("given", "hours"), [(None, 0.5), ("02:00:00", 2)])
def test_the_time_that_dask_jobqueue_gives_a_job_is_said_in_the_plan(
    kind: str, given: str | None, hours: float, run: RunDir
):
    written = given.removesuffix(":00") if given and kind == "lsf" else given  # HOUR:MINUTE
    with dask.config.set({f"jobqueue.{kind}.walltime": written} if written else {}):
        place = BatchTarget(kind, load_system(kind)({}, Workspace.of_process()))
        offer = place.offer(Resources())
        assert offer.resources.time == hours * 3600
        assert "time chosen by the target's defaults" in "; ".join(offer.summary_lines)
        wanted = format_clock(int(hours * 3600))
        assert (wanted.removesuffix(":00") if kind == "lsf" else wanted) in place.preview(run, offer)
        assert place.offer(Resources(time=60)).resources.time == 60


def test_what_the_site_has_dask_jobqueue_leave_out_is_left_out_of_ours(run: RunDir):
    with dask.config.set({"jobqueue.slurm.job-directives-skip": ["--mem="]}):
        found = directives("slurm", "#SBATCH", run)
    assert not [line for line in found if line.startswith("--mem")]
    assert "-n 1" not in found
    assert "--cpus-per-task=6" in found


SUBMITS = {
    "slurm": "sbatch",
    "sge": "qsub",
    "pbs": "qsub",
    "moab": "msub",
    "lsf": "bsub",
    "oar": "oarsub",
    "htcondor": "condor_submit",
}
ACCEPTS = {
    "slurm": "7",
    "sge": 'Your job 7 ("digits") has been submitted',
    "pbs": "7.server",
    "moab": "7",
    "lsf": "Job <7> is submitted to queue <gpu>.",
    "oar": "OAR_JOB_ID=7",
    "htcondor": "1 job(s) submitted to cluster 7.",
}


def started(kind: str, submitted: str) -> list[str]:
    """The command that a node starts of what was submitted."""
    if kind != "htcondor":
        return ["bash", "-c", submitted]
    line = next(line for line in submitted.splitlines() if line.startswith("Arguments"))
    words = line.partition(" = ")[2].strip('"').replace('""', '"').removeprefix("-c ")
    return ["/bin/sh", "-c", words[1:-1].replace("''", "'").replace("$(DOLLAR)", "$")]


@pytest.mark.parametrize("kind", SYSTEMS.names())
def test_the_prologue_of_jobqueue_yaml_runs_before_the_node_program(
    kind: str, run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    """Submitted to a command that only keeps what it got; that is then started as a node would."""
    folder, kept = tmp_path / "commands", tmp_path / "submitted"
    folder.mkdir()
    python = folder / "python"
    python.write_text('#!/bin/sh\necho "$SITE: $*"\n')
    submit = folder / SUBMITS[kind]  # the script comes as a file, as the last word, or as standard input
    submit.write_text(
        f'#!/bin/sh\nfor last; do :; done\ncase "$last" in *exec*) echo "$last" >{kept};; *) cat $last >{kept};; esac\n'
        f"echo '{ACCEPTS[kind]}'\n"
    )
    for one in (python, submit):
        one.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    monkeypatch.delenv("SITE", raising=False)
    run.attempt(1).path.mkdir(parents=True)
    prologue = ["# what the site wants", "", 'SITE="it\'s $((40 + 2))"', "export SITE"]
    with dask.config.set({f"jobqueue.{kind}.job-script-prologue": prologue}):
        job = make_job(load_system(kind)({"python": str(python)}, Workspace.of_process()), ask(), run, 1, {})
        assert job.submit().job.removesuffix(".0") == "7"
        assert all(line in job.text() for line in prologue)
    done = subprocess.run(started(kind, kept.read_text()), capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"it's 42: -m mlnb.node {run.path} --attempt 1\n", "")


@pytest.mark.parametrize("kind", sorted(set(SYSTEMS.names()) - {"slurm"}))
def test_several_nodes_are_refused_where_nothing_starts_them(kind: str, run: RunDir):
    wide = JobRequest("r", "wide", Resources(nodes=2, cpus=1, memory=2**30))
    with pytest.raises(UsageError, match="--nodes 2"):
        make_job(load_system(kind)({}, Workspace.of_process()), wide, run, 1, {})


def test_where_jobs_are_not_queued_again_the_plan_says_so():
    place = BatchTarget("oar", load_system("oar")({"memory": "1GB"}, Workspace.of_process()))
    assert "never queued again" in place.offer(Resources()).summary_lines
    with pytest.raises(UsageError, match="--requeue: OAR can't"):
        place.offer(Resources(), Placement(options={"requeue": True}))


def test_slurm_starts_a_node_program_on_each_node(run: RunDir):
    wide = JobRequest("r", "wide", Resources(nodes=2, ranks=2, cpus=2, memory=2**30))
    body = make_job(load_system("slurm")({}, Workspace.of_process()), wide, run, 1, {}).body
    launch = next(line for line in body.splitlines() if line.startswith("srun"))
    assert "--nodes=2 --ntasks=2 --ntasks-per-node=1 --cpus-per-task=4 --kill-on-bad-exit=1" in launch


@pytest.mark.parametrize(("written", "requeued"), [("75", True), ("1", False), ("", False)])
def test_the_job_ends_as_its_node_programs_say_whatever_the_launcher_makes_of_it(
    run: RunDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, written: str, requeued: bool
):
    code, asked = run.attempt(1).exit_code, tmp_path / "asked"
    run.attempt(1).path.mkdir(parents=True, exist_ok=True)
    code.write_text("75")  # of an earlier start of this job
    write = f"echo {written} >{shlex.quote(str(code))}" if written else ":"
    requeue = f"touch {shlex.quote(str(asked))}"
    for name, does in (("srun", f"{write}; exit 137"), ("scontrol", requeue), ("squeue", ":")):
        (tmp_path / name).write_text(f"#!/bin/sh\n{does}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    wide = JobRequest("r", "wide", Resources(nodes=2, cpus=1, memory=2**30), requeue=True)
    body = make_job(load_system("slurm")({}, Workspace.of_process()), wide, run, 1, {}).body
    done = subprocess.run(["/bin/sh"], input=body, text=True)
    assert done.returncode == int(written or 137)
    assert asked.exists() == requeued


EVIL = st.text(st.characters(blacklist_characters="\0/", blacklist_categories=["Cs"]), min_size=1, max_size=40)


@given(EVIL)
def test_whatever_a_path_holds_the_shell_reads_it_as_itself(name: str):
    run = RunDir(Path("/tmp") / f"x{name}")
    body = make_job(load_system("slurm")({}, Workspace.of_process()), ask(), run, 1, {}).body
    launch = body[: body.index("node=$!")].rpartition("export MLNB_DEADLINE\n")[2].strip().removesuffix("&")
    assert shlex.split(launch)[1:] == ["-m", "mlnb.node", str(run.path), "--attempt", "1"]


def test_another_thread_sets_its_signals_while_dask_jobqueue_is_imported(tmp_path: Path):
    (tmp_path / "dask_jobqueue").mkdir()
    (tmp_path / "dask_jobqueue" / "__init__.py").write_text("import gate\ngate.reached.set()\ngate.go.wait(20)\n")
    (tmp_path / "dask_jobqueue" / "slurm.py").write_text("class SLURMJob: pass\n")
    (tmp_path / "gate.py").write_text("from threading import Event\nreached, go = Event(), Event()\n")
    code = (
        "import gate, signal, threading\n"
        "from mlnb.targets.batch import load_system\n"
        "from mlnb.workspace import Workspace\n"
        "elsewhere = threading.Thread(target=load_system('slurm')({}, Workspace.of_process()).prepare)\n"
        "elsewhere.start()\n"
        "assert gate.reached.wait(20)\n"
        "mine = lambda *_: None\n"
        "signal.signal(signal.SIGUSR1, mine)\n"
        "gate.go.set()\n"
        "elsewhere.join()\n"
        "assert signal.getsignal(signal.SIGUSR1) is mine\n"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_an_interrupt_of_a_cell_stays_one(tmp_path: Path):
    """dask_jobqueue has SIGINT end the process as it is imported."""
    code = (
        "import signal, sys, threading\n"
        "before = signal.getsignal(signal.SIGINT)\n"
        "from mlnb.targets.batch import load_system\n"
        "from mlnb.workspace import Workspace\n"
        "elsewhere = threading.Thread(target=load_system('slurm')({}, Workspace.of_process()).prepare)\n"
        "elsewhere.start()\n"
        "load_system('sge')({}, Workspace.of_process()).prepare()\n"
        "elsewhere.join()\n"
        "assert 'dask_jobqueue.runner' in sys.modules\n"
        "sys.exit(signal.getsignal(signal.SIGINT) is not before)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("word", ["a b", "$(x)", "`x`", "a\nb", "-x", "a;b", "", "'"])
def test_what_stands_in_a_directive_as_it_is_holds_nothing_to_quote(word: str):
    with pytest.raises(UsageError, match="--partition"):
        directive_word(word, "--partition")


def test_times_are_rounded_up_to_minutes():
    assert [format_clock(seconds) for seconds in (1, 60, 61, 5400, 100 * 3600)] == [
        "00:01:00",
        "00:01:00",
        "00:02:00",
        "01:30:00",
        "100:00:00",
    ]
