"""Cores and GPUs are handed out in order, never more than there are, and never held by the dead."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mlnb.errors import UsageError
from mlnb.node.process import local_queue
from mlnb.node.process.identity import process_identity
from mlnb.node.process.local_queue import LocalQueue

CPUS, GPUS = 4, ("0", "1")


class Stub:
    """Processes that live and die as the test says."""

    def __init__(self) -> None:
        self.living: dict[int, str] = {}

    def born(self, pid: int) -> str:
        self.living[pid] = f"identity-{pid}"
        return self.living[pid]

    def alive(self, pid: int, identity: str) -> bool:
        return self.living.get(pid) == identity


class Queue(RuleBasedStateMachine):
    """Runs come, wait, hold, end or die in any order; a list is the model."""

    def __init__(self) -> None:
        super().__init__()
        self.stub = Stub()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(local_queue, "is_alive", self.stub.alive)
        self.folder = tempfile.TemporaryDirectory()
        self.local_queue = LocalQueue(Path(self.folder.name), CPUS, GPUS)
        self.queue: list[tuple[str, int, int, int]] = []  # run, cpus, gpus, pid, in order of arrival
        self.held: dict[str, tuple[str, ...]] = {}
        self.count = 0

    def teardown(self) -> None:
        self.patch.undo()
        self.folder.cleanup()

    @rule(cpus=st.integers(1, 6), gpus=st.integers(0, 2))
    def enqueue(self, cpus: int, gpus: int) -> None:
        self.count += 1
        run, pid = f"run-{self.count}", self.count
        self.local_queue.enqueue(run, cpus, gpus, pid, self.stub.born(pid))
        self.queue.append((run, min(cpus, CPUS), gpus, pid))

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def enqueue_again(self, data: st.DataObject) -> None:
        run, cpus, gpus, pid = data.draw(st.sampled_from(self.queue))
        self.local_queue.enqueue(run, cpus, gpus, pid, self.stub.living[pid])

    def may_have(self, run: str) -> bool:
        """Whether ``run`` holds, or is the first that waits and fits."""
        if run in self.held:
            return True
        waiting = [entry for entry in self.queue if entry[0] not in self.held]
        name, cpus, gpus, _ = waiting[0]
        return (
            name == run
            and cpus <= CPUS - sum(entry[1] for entry in self.queue if entry[0] in self.held)
            and gpus <= len(GPUS) - sum(len(devices) for devices in self.held.values())
        )

    @precondition(lambda self: self.queue)
    @rule(data=st.data())
    def acquire(self, data: st.DataObject) -> None:
        run, _, gpus, _ = data.draw(st.sampled_from(self.queue))
        expected = self.may_have(run)
        devices = self.local_queue.acquire(run)
        assert (devices is not None) == expected
        if devices is not None:
            assert len(devices) == gpus
            assert self.held.setdefault(run, devices) == devices

    @precondition(lambda self: self.queue)
    @rule(data=st.data(), dies=st.booleans())
    def end(self, data: st.DataObject, dies: bool) -> None:
        entry = data.draw(st.sampled_from(self.queue))
        if dies:
            del self.stub.living[entry[3]]
        else:
            self.local_queue.release(entry[0])
        self.queue.remove(entry)
        self.held.pop(entry[0], None)

    @invariant()
    def never_more_than_there_are(self) -> None:
        assert sum(entry[1] for entry in self.queue if entry[0] in self.held) <= CPUS
        devices = [device for held in self.held.values() for device in held]
        assert len(devices) == len(set(devices))
        assert set(devices) <= set(GPUS)

    @invariant()
    def everyone_knows_who_is_ahead(self) -> None:
        waiting = [entry[0] for entry in self.queue if entry[0] not in self.held]
        for run, *_ in self.queue:
            ahead = self.local_queue.waiting_for(run)
            if run in self.held:
                assert ahead is None
            else:
                assert ahead is not None
                assert ahead[0] == waiting.index(run)
                assert set(ahead[1]) == set(self.held)


TestQueue = Queue.TestCase
TestQueue.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


@pytest.fixture
def queue(tmp_path: Path) -> LocalQueue:
    return LocalQueue(tmp_path, 2)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    yield process
    process.kill()
    process.communicate()


def test_the_resources_of_a_killed_process_are_free_at_once(queue: LocalQueue, sleeper: subprocess.Popen[bytes]):
    queue.enqueue("dead", 2, 0, sleeper.pid, process_identity(sleeper.pid) or "")
    assert queue.acquire("dead") == ()
    queue.take_over("next", 2, 0)
    assert queue.acquire("next") is None
    assert queue.waiting_for("next") == (0, ["dead"])
    sleeper.kill()
    sleeper.wait()
    assert queue.acquire("next") == ()


def test_a_zombie_holds_nothing(queue: LocalQueue, sleeper: subprocess.Popen[bytes]):
    queue.enqueue("dead", 2, 0, sleeper.pid, process_identity(sleeper.pid) or "")
    sleeper.kill()
    os.waitid(os.P_PID, sleeper.pid, os.WEXITED | os.WNOWAIT)  # dead, and not yet collected
    queue.take_over("next", 2, 0)
    assert queue.acquire("next") == ()


def test_a_process_that_got_the_pid_of_a_dead_one_holds_nothing(queue: LocalQueue):
    queue.enqueue("dead", 2, 0, os.getpid(), "the identity of another")
    queue.take_over("next", 2, 0)
    assert queue.acquire("next") == ()


def test_the_node_program_takes_over_the_entry_of_the_submission(queue: LocalQueue, sleeper: subprocess.Popen[bytes]):
    queue.enqueue("first", 2, 0, sleeper.pid, process_identity(sleeper.pid) or "")
    queue.take_over("second", 2, 0)
    queue.take_over("first", 2, 0)  # by this process, where the submission named another
    sleeper.kill()
    sleeper.wait()
    assert queue.acquire("second") is None
    assert queue.acquire("first") == ()


def test_a_node_program_faster_than_its_submission_has_one_entry(queue: LocalQueue):
    queue.take_over("fast", 1, 0)
    assert queue.acquire("fast") == ()
    queue.enqueue("fast", 1, 0, os.getpid(), process_identity(os.getpid()) or "")
    queue.take_over("next", 1, 0)
    assert queue.acquire("next") == ()


def test_a_request_for_more_cores_than_the_machine_has_gets_all(queue: LocalQueue):
    queue.take_over("big", 64, 0)
    assert queue.acquire("big") == ()
    queue.take_over("next", 1, 0)
    assert queue.acquire("next") is None


def test_a_run_keeps_its_resources_if_the_file_is_lost(tmp_path: Path):
    """As when /tmp is cleared of what is old, or a folder goes at logout."""
    first, second = LocalQueue(tmp_path / "rt", 4, ("0",)), LocalQueue(tmp_path / "rt", 4, ("0",))
    first.take_over("first", 1, 1)
    assert first.acquire("first") == ("0",)
    shutil.rmtree(tmp_path / "rt")
    first.restore()
    second.take_over("second", 1, 1)
    assert second.acquire("second") is None
    shutil.rmtree(tmp_path / "rt")
    first.release("first")
    assert second.acquire("second") == ("0",)  # who waits has kept its place too


def test_tickets_of_a_newer_mlnb_count_too(queue: LocalQueue, tmp_path: Path):
    queue.take_over("newer", 2, 0)
    assert queue.acquire("newer") == ()
    (ticket,) = json.loads((tmp_path / "slots.json").read_bytes())
    (tmp_path / "slots.json").write_text(json.dumps([{**ticket, "from the future": 1}]))
    other = LocalQueue(tmp_path, 2)
    other.take_over("ours", 1, 0)
    assert other.acquire("ours") is None


@pytest.mark.parametrize("content", [b"", b"{torn", b"\xff", b"[1]", b"{}", b'[{"run": "x"}]'])
def test_a_file_that_can_not_be_parsed_is_an_empty_queue(queue: LocalQueue, tmp_path: Path, content: bytes):
    (tmp_path / "slots.json").write_bytes(content)
    queue.take_over("run", 1, 0)
    assert queue.acquire("run") == ()


def test_a_missing_folder_is_an_error_of_one_line(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is not a folder of yours"):
        LocalQueue(tmp_path / "file", 1).take_over("run", 1, 0)


def test_a_folder_that_another_made_in_the_place_of_a_deleted_one_is_not_used(tmp_path: Path):
    """In /tmp anyone can: a link in it would name the file that is overwritten."""
    folder, precious = tmp_path / "rt", tmp_path / "precious"
    queue = LocalQueue(folder, 1)
    queue.take_over("run", 1, 0)
    shutil.rmtree(folder)
    precious.write_text("mine")
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    for name in ("slots.tmp", "slots.json", "slots.lock"):
        (folder / name).symlink_to(precious)
    for use in (lambda: queue.acquire("run"), lambda: queue.enqueue("other", 1, 0, os.getpid(), "")):
        with pytest.raises(UsageError, match="Others can read"):
            use()
    queue.restore()  # of a run that goes on without its entry
    queue.release("run")
    assert precious.read_text() == "mine"
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path)
    with pytest.raises(UsageError, match="not a folder of yours"):
        queue.acquire("run")


def test_the_queues_files_are_not_written_through_links(tmp_path: Path):
    (tmp_path / "slots.tmp").symlink_to(tmp_path / "precious")
    (tmp_path / "slots.json").symlink_to(tmp_path / "precious")
    LocalQueue(tmp_path, 1).take_over("run", 1, 0)
    assert not (tmp_path / "precious").exists()


ONE = "GPU-1111"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"0": [ONE]}, {ONE: [ONE]}),
        ({"GPU-11": [ONE]}, {"0": [ONE]}),
        ({"0": [ONE, "MIG-a", "MIG-b"]}, {"MIG-a": ["MIG-a"]}),
        ({"MIG-b": ["MIG-b"]}, {"0": [ONE, "MIG-a", "MIG-b"]}),
    ],
)
def test_sessions_with_different_names_for_a_gpu_share_it(tmp_path: Path, first: dict, second: dict):
    one, other = (LocalQueue(tmp_path, 4, tuple(ids), ids) for ids in (first, second))
    one.take_over("first", 1, 1)
    assert one.acquire("first") == tuple(first)
    other.take_over("second", 1, 1)
    assert other.available() == (3, [])
    assert other.acquire("second") is None
    one.release("first")
    assert other.acquire("second") == tuple(second)


@pytest.mark.parametrize(
    ("first", "second"),
    [({"0": [ONE]}, {"0": ["GPU-2222"]}), ({"MIG-a": ["MIG-a"]}, {"MIG-b": ["MIG-b"]}), ({"0": []}, {"1": []})],
)
def test_different_gpus_are_handed_out_at_the_same_time(tmp_path: Path, first: dict, second: dict):
    """Also if their sessions call them by the same name, as in two containers."""
    for name, ids in (("first", first), ("second", second)):
        queue = LocalQueue(tmp_path, 4, tuple(ids), ids)
        queue.take_over(name, 1, 1)
        assert queue.acquire(name) == tuple(ids)
