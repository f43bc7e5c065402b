"""How a run ends, and what its result says: the node program, its ranks and their outcome."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from mlnb.api import Run
from mlnb.api.submit.submit import submit
from mlnb.node.process.identity import process_identity
from mlnb.node.rank.tracebacks import describe
from mlnb.rundir import RunDir, read_lines
from mlnb.targets.registry import target
from mlnb.task import Resources, Segment, Task
from tests.node.allocation import Allocate
from tests.waiting import until


def events(run: Run, kind: str) -> list[dict]:
    return [event for event in read_lines(run.directory.attempts()[-1].events(0)) if event["event"] == kind]


def ranks(run: Run) -> dict[int, int]:
    """rank → pid, once they run."""
    event = until(lambda: events(run, "running"))[0]
    return {int(rank): pid for rank, pid in event["ranks"].items()}


def gone(pid: int) -> bool:
    return process_identity(pid) is None


def says(run: Run, text: str, rank: int = 0) -> bool:
    return text in run.logs(rank)


# success


def test_a_script_that_reaches_its_end_has_succeeded(start):
    run = start("print('hello')").wait(60)
    assert (run.state, run.reason, run.exit_code) == ("succeeded", "", 0)
    assert run.logs(0, "out") == "hello\n"
    assert [
        event["event"] for event in read_lines(run.directory.attempt(1).events(0)) if event["event"] != "sample"
    ] == [
        "started",
        "starting",
        "running",
        "rank-ended",
        "ended",
    ]


def test_sys_exit_0_is_the_end_of_the_script(start):
    run = start("import sys\nprint('a')\nsys.exit(0)\nprint('b')").wait(60)
    assert (run.state, run.exit_code) == ("succeeded", 0)
    assert run.logs(0, "out") == "a\n"


def test_exit_handlers_and_threads_of_the_script_finish(start):
    run = start(
        "import atexit, threading, time\n"
        "atexit.register(print, 'at exit')\n"
        "done = threading.Event()\n"
        "threading.Thread(target=lambda: (done.wait(), print('thread'))).start()\n"
        "threading.Timer(0.1, done.set).start()\n"
    ).wait(60)
    assert run.state == "succeeded"
    assert run.logs(0, "out") == "thread\nat exit\n"


def test_the_script_is_main_and_sees_its_arguments(start):
    run = start(
        "import sys\nprint(__name__, sys.argv[1:])\nassert sys.modules['__main__'].__dict__ is globals()",
        argv=("a", "b c"),
    ).wait(60)
    assert run.state == "succeeded", run.logs()
    assert run.logs(0, "out") == "__main__ ['a', 'b c']\n"


# failure


def test_an_exception_is_reported_with_the_lines_of_the_cell(start):
    script = "import math\n\n\ndef deeper(x):\n    return math.sqrt(x)\n\n\nvalue = -1.0\ndeeper(value)\n"
    segments = (Segment(4, 2, "cell [3]", 1), Segment(8, 2, "cell [7]", 5))
    run = start(script, segments=segments).wait(60)
    assert run.state == "failed"
    assert run.exit_code == 1
    error = run.result["error"]
    assert (error["type"], error["message"]) == ("ValueError", error["message"])
    assert (error["source"], error["line"], error["rank"]) == ("cell [3]", 2, 0)
    assert run.reason == f"rank 0 in cell [3], line 2: ValueError: {error['message']}"
    assert 'File "cell [7]", line 6' in error["text"]
    assert 'File "cell [3]", line 2, in deeper' in error["text"]
    assert "return math.sqrt(x)" in error["text"]
    assert "mlnb/node" not in error["text"]
    assert "script.py" not in error["text"]
    assert run.logs(0, "err") == error["text"]


def test_a_chained_exception_is_reported_with_its_cause(start):
    script = "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise RuntimeError('no') from error\n"
    run = start(script, segments=(Segment(1, 4, "cell [2]", 1),)).wait(60)
    error = run.result["error"]
    assert (error["type"], error["line"]) == ("RuntimeError", 4)
    assert "ZeroDivisionError" in error["text"]
    assert "direct cause" in error["text"]
    assert 'File "cell [2]", line 2' in error["text"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="exception groups are new in Python 3.11")
def test_the_exceptions_of_a_group_are_reported_with_the_lines_of_the_cell(start):
    script = "errors = []\ntry:\n    1 / 0\nexcept ZeroDivisionError as error:\n    errors.append(error)\n"
    script += "raise ExceptionGroup('two tasks', errors)\n"
    run = start(script, segments=(Segment(1, 6, "cell [2]", 1),)).wait(60)
    error = run.result["error"]
    assert (error["type"], error["line"]) == ("ExceptionGroup", 6)
    assert 'File "cell [2]", line 3' in error["text"]
    assert "script.py" not in error["text"]


class _Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("no text")


def test_an_exception_whose_text_can_not_be_read_is_reported_by_its_type():
    report = describe(_Unprintable(), "script.py", ())
    assert report["type"] == "_Unprintable"
    assert report["message"] == ""


def test_sys_exit_with_a_code_is_a_failure_with_that_code(start):
    run = start("import sys\nsys.exit(3)").wait(60)
    assert (run.state, run.exit_code) == ("failed", 3)
    assert "sys.exit(3)" in run.reason


def test_sys_exit_with_a_message_is_a_failure_with_that_message(start):
    run = start("import sys\nsys.exit('no data')").wait(60)
    assert (run.state, run.exit_code) == ("failed", 1)
    assert "no data" in run.reason


@pytest.mark.parametrize("code", [0, 5])
def test_an_exit_before_the_end_of_the_script_is_a_failure_whatever_the_code(start, code: int):
    run = start(f"import os\nprint('here', flush=True)\nos._exit({code})").wait(60)
    assert run.state == "failed"
    assert run.exit_code == (code or 1)
    assert run.reason == f"rank 0 exited with code {code} before the end of the script"


def test_a_segfault_is_explained(start):
    run = start("import ctypes\nctypes.string_at(0)").wait(60)
    assert (run.state, run.exit_code) == ("failed", 128 + signal.SIGSEGV)
    assert run.reason == "rank 0 was killed by SIGSEGV: native code crashed; the end of its stderr may say where"


def test_the_reason_of_a_killed_rank_names_the_signal(start):
    run = start("import time\nwhile True: time.sleep(0.05)")
    os.kill(ranks(run)[0], signal.SIGKILL)
    run.wait(60)
    assert (run.state, run.exit_code) == ("failed", 128 + signal.SIGKILL)
    assert "rank 0 was killed by SIGKILL" in run.reason


def test_a_signal_without_a_name_is_reported_by_its_number(start):
    run = start("import os, signal\nos.kill(os.getpid(), signal.SIGRTMIN + 1)").wait(60)
    assert (run.state, run.exit_code) == ("failed", 128 + signal.SIGRTMIN + 1)
    assert run.reason == f"rank 0 was killed by signal {signal.SIGRTMIN + 1}"


def test_the_first_rank_that_fails_is_named_and_the_others_are_stopped(start):
    run = start(
        "import os, time\n"
        "if os.environ['RANK'] == '1':\n"
        "    time.sleep(0.2)\n"
        "    raise ValueError('mine')\n"
        "try:\n"
        "    while True: time.sleep(0.05)\n"
        "finally:\n"
        "    print('ended', flush=True)\n",
        ranks=2,
        cpus=1,
    )
    pids = ranks(run)
    run.wait(60)
    assert run.state == "failed"
    assert run.result["error"]["rank"] == 1
    assert "rank 1" in run.reason
    assert "ValueError: mine" in run.reason
    assert run.logs(0, "out") == "ended\n"
    assert all(gone(pid) for pid in pids.values())


def test_processes_that_a_rank_leaves_behind_are_killed(start):
    run = start(
        "import subprocess, sys\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1000)'])\n"
        "print(child.pid, flush=True)\n"
    ).wait(60)
    assert run.state == "succeeded"
    until(lambda: gone(int(run.logs(0, "out"))))


# memory and time


def test_running_out_of_memory_is_reported_in_numbers(start):
    run = start("import torch\ntorch.empty(2**48, dtype=torch.uint8)").wait(60)
    assert run.state == "failed"
    assert "out of memory: this rank held" in run.reason
    assert "and asked for 281.5 TB more" in run.reason or "and asked for 281 TB more" in run.reason
    assert "MB at most" in run.reason


def test_a_memory_error_is_reported_in_numbers(start):
    run = start("x = bytearray(2**62)").wait(60)
    assert run.state == "failed"
    assert run.result["error"]["type"] == "MemoryError"
    assert "out of memory: this rank held" in run.reason


def test_a_run_that_exceeds_its_memory_limit_is_stopped(start):
    run = start(
        "import time\nx = bytearray(b'1') * 400_000_000\nwhile True: time.sleep(0.05)", memory=200_000_000
    ).wait(60)
    assert run.state == "failed"
    used = re.fullmatch(r"Out of memory: (\d+) MB used, --memory allows 200 MB", run.reason)
    assert used, run.reason
    assert 200 < int(used[1]) < 600  # as it was when it was looked at


def test_a_memory_limit_that_the_target_chose_is_not_called_the_users(runs_root):
    local = target()
    offer = local.offer(Resources(memory=200_000_000))
    offer = replace(offer, node=replace(offer.node, chosen=("memory",)))  # as a batch system's target has it
    script = "import time\nx = bytearray(b'1') * 400_000_000\nwhile True: time.sleep(0.05)"
    run = Run(submit(Task(script=script), {}, local, offer, name="test", env={})).wait(60)
    assert run.state == "failed"
    assert run.reason.endswith("MB used, the target chose 200 MB; more --memory may help")


def test_a_run_that_exceeds_its_time_limit_is_stopped(start):
    run = start("import time\nwhile True: time.sleep(0.05)", time=1).wait(60)
    assert (run.state, run.reason) == ("failed", "Out of time (1.0 s)")


def test_a_run_within_its_limits_is_not_stopped(start):
    run = start("x = bytearray(b'1') * 10_000_000", time=600, memory=10**10).wait(60)
    assert run.state == "succeeded"


# cancelling


def test_the_finally_blocks_of_a_cancelled_run_are_executed(start):
    run = start(
        "import time\ntry:\n    print('on', flush=True)\n    while True: time.sleep(0.05)\nfinally:\n"
        "    print('off', flush=True)"
    )
    until(lambda: says(run, "on"))
    pids = ranks(run)
    run.cancel()
    assert run.state == "cancelled"
    assert run.reason == "stopped by you"
    assert run.exit_code == 1
    assert run.logs(0, "out") == "on\noff\n"
    assert all(gone(pid) for pid in pids.values())


def test_a_rank_that_ignores_sigterm_is_killed(start, short_grace):
    run = start(
        "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('on', flush=True)\n"
        "while True: time.sleep(0.05)"
    )
    until(lambda: says(run, "on"))
    pids = ranks(run)
    run.cancel()
    assert run.state == "cancelled"
    assert all(gone(pid) for pid in pids.values())


def test_a_rank_in_native_code_is_killed(start, short_grace):
    run = start(
        "import ctypes\nprint('on', flush=True)\nctypes.PyDLL(None).sleep(1000)"  # holds the interpreter's lock
    )
    until(lambda: says(run, "on"))
    pids = ranks(run)
    run.cancel()
    assert run.state == "cancelled"
    assert all(gone(pid) for pid in pids.values())


_WITHOUT_A_THREAD = """
import sys
from mlnb.node.rank import log
from mlnb.node.rank_program import RankInfo, run_and_exit
from mlnb.rundir import RunDir
from mlnb.task import Task

def fail(path):
    raise RuntimeError("can't start new thread")

log.begin = fail
run_and_exit(RunDir(sys.argv[1]), "run", Task(script=""), RankInfo(0, 0, 0, 1))
"""


def test_a_rank_that_can_not_begin_reports_why(tmp_path: Path):
    attempt = RunDir(tmp_path).attempt(1)
    attempt.path.mkdir(parents=True)
    assert subprocess.run([sys.executable, "-c", _WITHOUT_A_THREAD, str(tmp_path)], timeout=60).returncode == 1
    report = json.loads(attempt.exit(0).read_text())
    assert (report["state"], report["error"]["message"]) == ("failed", "can't start new thread")


_FAULTY = """
import sys
from mlnb.node.program import NodeProgram
from mlnb.rundir import RunDir

run = RunDir(sys.argv[1])

def fail(program, sampled):
    printed = run.attempt(1).stdout(0)
    if printed.exists() and printed.read_text():
        raise RuntimeError("a fault of the node program")

NodeProgram._check_memory = fail
sys.exit(NodeProgram(run).main())
"""


def test_a_fault_of_the_node_program_leaves_no_rank_behind(allocate: Allocate):
    """The rank holds the interpreter's lock, so that it can't notice by itself that its parent is gone."""
    allocation = allocate("import ctypes\nprint('on', flush=True)\nctypes.PyDLL(None).sleep(1000)", nodes=1)
    command = [sys.executable, "-c", _FAULTY, str(allocation.run.dir)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert "a fault of the node program" in done.stderr
    (pid,) = allocation.ranks(0)
    try:
        until(lambda: gone(pid), patience=10)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_waiting_run_can_be_cancelled_and_never_starts(start):
    cores = len(os.sched_getaffinity(0))
    first = start("import time\nwhile True: time.sleep(0.05)", cpus=cores)
    until(lambda: first.state == "running")
    second = start("print('never')", cpus=cores)
    until(lambda: second.state == "pending" and "Waiting for CPU cores" in second.reason)
    second.cancel()
    assert second.state == "cancelled"
    assert not events(second, "running")
    assert first.state == "running"
    first.cancel()


@pytest.mark.parametrize("turn", range(5))
def test_a_run_cancelled_while_it_starts_is_cancelled(start, turn: int):
    run = start("import time\nwhile True: time.sleep(0.05)")
    if turn:
        until(lambda: events(run, ("started", "starting", "running", "sample")[turn - 1]))
    run.cancel()
    assert run.state == "cancelled"
    if events(run, "running"):
        assert all(gone(pid) for pid in ranks(run).values())


def test_a_run_that_had_finished_before_it_could_be_stopped_has_succeeded(start):
    run = start("print('done')").wait(60)
    run.cancel()
    assert run.state == "succeeded"
    assert not run.directory.cancel.exists()


# what a rank sees


def test_every_rank_has_its_own_output_files(start):
    run = start(
        "import os, sys\nr = os.environ['RANK']\nprint('out', r)\nprint('err', r, file=sys.stderr)\n"
        "os.system('echo from a child')",
        ranks=2,
        cpus=1,
    ).wait(60)
    assert run.state == "succeeded"
    for rank in range(2):
        assert run.logs(rank, "out").splitlines() == [f"out {rank}", "from a child"]
        assert run.logs(rank, "err") == f"err {rank}\n"


def test_output_can_be_read_while_the_run_is_running(start):
    run = start("import time\nprint('early')\nwhile True: time.sleep(0.05)")
    until(lambda: says(run, "early"))
    assert run.state == "running"


def test_ranks_have_the_environment_of_torchrun(start):
    run = start(
        "import os, torch, torch.distributed as dist\n"
        "dist.init_process_group('gloo', init_method='env://')\n"
        "x = torch.tensor([float(os.environ['RANK']) + 1])\n"
        "dist.all_reduce(x)\n"
        "print(dist.get_rank(), dist.get_world_size(), x.item())\n"
        "dist.destroy_process_group()\n"
        "import json\n"
        "print(json.dumps({k: v for k, v in os.environ.items()}))\n",
        ranks=2,
        cpus=1,
    ).wait(90)
    assert run.state == "succeeded", run.logs() + run.logs(1)
    for rank in range(2):
        first, second = run.logs(rank, "out").splitlines()
        assert first == f"{rank} 2 3.0"
        env = json.loads(second)
        expected = {
            "RANK": str(rank),
            "LOCAL_RANK": str(rank),
            "WORLD_SIZE": "2",
            "LOCAL_WORLD_SIZE": "2",
            "GROUP_RANK": "0",
            "GROUP_WORLD_SIZE": "1",
            "ROLE_RANK": str(rank),
            "ROLE_WORLD_SIZE": "2",
            "MASTER_ADDR": "127.0.0.1",
            "TORCHELASTIC_RESTART_COUNT": "0",
            "TORCHELASTIC_RUN_ID": run.id,
            "OMP_NUM_THREADS": "1",
        }
        assert {name: env.get(name) for name in expected} == expected
        assert int(env["MASTER_PORT"]) > 1023


_SEEDED = """
import random, hashlib, numpy, torch
model = torch.nn.Sequential(torch.nn.Linear(8, 16), torch.nn.Dropout(0.5), torch.nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
for _ in range(20):
    x = torch.randn(16, 8) * random.random() + float(numpy.random.rand())
    optimizer.zero_grad()
    model(x).square().mean().backward()
    optimizer.step()
print(hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in model.parameters())).hexdigest())
"""


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(start):
    weights = []
    for seed in (7, 7, 8):
        run = start(_SEEDED, seed=seed).wait(60)
        assert run.state == "succeeded", run.logs()
        weights.append(run.logs(0, "out"))
    assert weights[0] == weights[1] != weights[2]


@pytest.mark.parametrize(("parallel", "same"), [("none", False), ("auto", True)])
def test_ranks_have_the_same_seed_only_if_they_train_together(start, parallel: str, same: bool):
    script = "import random, numpy, torch\nprint(random.random(), numpy.random.rand(), torch.rand(1).item())"
    run = start(script, ranks=2, cpus=1, seed=3, parallel=parallel).wait(60)
    part, other = (run.logs(rank, "out").split() for rank in range(2))
    assert len(part) == 3
    assert [a == b for a, b in zip(part, other, strict=True)] == [same] * 3


def test_figures_are_returned_as_png_files(start):
    run = start(
        "import matplotlib.pyplot as plt\n"
        "plt.plot([1, 2, 3])\nplt.show()\n"
        "plt.figure()\nplt.plot([3, 2, 1])\n"  # still open at the end, as in a cell
        "print(plt.get_fignums())\n"
    ).wait(90)
    assert run.state == "succeeded", run.logs()
    assert run.logs(0, "out") == "[1]\n"
    pictures = run.figures()
    assert [path.name for path in pictures] == ["0001.png", "0002.png"]
    for path in pictures:
        assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        assert path.read_bytes().endswith(b"IEND\xaeB`\x82")


def test_the_last_expression_of_a_cell_is_displayed(start):
    run = start("x = 20\nx + 1\n'text'\nx + 2", interactive=True).wait(60)
    assert run.logs(0, "out") == "22\n"
    run = start("x = 20\nx + 2", interactive=False).wait(60)
    assert run.logs(0, "out") == ""


def test_a_cell_with_training_code_that_trained_nothing_gets_a_note(start):
    run = start("for batch in []:\n    loss.backward()", interactive=True).wait(60)
    assert run.state == "succeeded"
    assert any("backward() was not called" in note for note in run.result["notes"])


def test_a_cell_without_training_code_gets_no_note_about_training(start):
    assert start("x = 1", interactive=True).wait(60).result["notes"] == []


def test_future_imports_apply_to_the_whole_script(start):
    run = start("from __future__ import annotations\ndef f(x: NotDefined): pass\nprint(f.__annotations__)").wait(60)
    assert run.state == "succeeded", run.logs()
    assert run.logs(0, "out") == "{'x': 'NotDefined'}\n"


# what stays private

_SHOW_ENVIRONMENT = "import json, os\nprint(json.dumps(dict(os.environ)))"


def test_only_requested_variables_of_the_session_are_passed_on(start, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_session")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "aws_of_the_session")
    monkeypatch.setenv("JUPYTER_TOKEN", "jupyter_of_the_session")
    run = start(
        "import os\nprint(sorted(v for v in os.environ.values() if v.endswith('_of_the_session')))\n"
        "print(len(os.environ['MY_TOKEN']), os.environ['MY_TOKEN'] == 'as' + 'ked_for')",
        env={"MY_TOKEN": "asked_for"},
    ).wait(60)
    assert run.logs(0, "out") == "[]\n9 True\n", run.logs()


def test_values_of_the_environment_are_in_no_file_of_the_run(start, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HF_TOKEN", "hf_of_the_session")
    run = start("raise ValueError('with a traceback')", env={"MY_TOKEN": "asked_for_value"}).wait(60)
    files = [path for path in run.dir.rglob("*") if path.is_file()]
    assert len(files) > 8
    for path in files:
        data = path.read_bytes()
        assert b"asked_for_value" not in data, path
        assert b"hf_of_the_session" not in data, path


def test_run_directories_are_private_whatever_the_scripts_umask(start):
    run = start(
        "import mlnb, torch, os\nos.umask(0)\nmlnb.log(x=1)\nweights = torch.ones(2000)", outputs=("weights",)
    ).wait(60)
    assert run.state == "succeeded"
    folders = [path for path in [run.dir, *run.dir.rglob("*")] if path.is_dir()]
    assert {path: oct(path.stat().st_mode & 0o777) for path in folders} == dict.fromkeys(folders, "0o700")
    assert run.pull(bind=False)["weights"].sum() == 2000  # whatever the script's umask was


def test_the_node_program_is_imported_from_the_zip_file_of_the_run(start):
    run = start("import mlnb.node.rank_program as m\nprint(m.__file__)").wait(60)
    path = Path(run.logs(0, "out").strip())
    assert path.name == "rank_program.pyc"
    assert path.parents[2].suffix == ".zip"
