"""What squeue, scontrol and sacct print, read: their lines as SLURM 22.05.8 wrote them, and any text at all."""

from __future__ import annotations

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.targets.batch.systems.slurm.queue import QUEUE_COMMAND, account_command, parse, parse_account
from mlnb.targets.batch.systems.slurm.text import expand_tasks

# SLURM_TIME_FORMAT=%s squeue, of jobs that were made to be so
SQUEUE = """\
101|RUNNING|None|1795229168|1795229096|5:00|2|gpu|1|0|node[1-2]|mlnb:20261121-025513-abcd00|
102|PENDING|Resources|1795229408|1795229096|2:00:00|1|gpu|0|0||(null)|
103|PENDING|Priority|1795229700|1795229097|1-00:00:00|1|gpu|0|0||a b|c|
104|PENDING|BeginTime|1795232660|1795229060|1-00:00:00|1|gpu|1|0||(null)|
105|PENDING|JobHeldUser|N/A|1795229060|1-00:00:00|1|gpu|0|0||(null)|
106|PENDING|PartitionTimeLimit|N/A|1795229060|10:00|1|short|0|0||(null)|
107|FAILED|NonZeroExitCode|1795229060|1795229060|1-00:00:00|1|gpu|0|768|node1|(null)|
108|FAILED|JobLaunchFailure|1795229060|1795229060|1-00:00:00|1|gpu|0|9|node1|(null)|
109|FAILED|JobLaunchFailure|1795229060|1795229060|1-00:00:00|1|gpu|0|4021|node1|(null)|
110|FAILED|BadConstraints|1795229060|1795229060|1-00:00:00|1|gpu|0|1||(null)|
111|OUT_OF_MEMORY|OutOfMemory|1795229060|1795229060|1-00:00:00|1|gpu|0|253|node3|(null)|
112|TIMEOUT|TimeLimit|1795229060|1795229060|1:00|1|gpu|0|15|node3|(null)|
113|CANCELLED|None|1795229604|1795229603|1:00|1|gpu|0|15|node1|(null)|
114|COMPLETED|None|1795229099|1795229097|UNLIMITED|3|high|0|0|node[1-3]|(null)|
115|COMPLETING|None|1795229099|1795229097|1:00|1|high|0|0|node1|(null)|
116|PENDING|ReqNodeNotAvail, UnavailableNodes:node[1,3]|N/A|1795229097|1:00|1|high|0|0||(null)|
"""


# as sacct(1) describes it: two attempts of 21, and steps
SACCT = """\
21|PREEMPTED|0:15|0:0|None|1795229060|1795229070|1795229050|gpu|node1
21.batch|CANCELLED|0:15|||1795229060|1795229070|||node1
21|COMPLETED|0:0|0:0|None|1795229160|1795229170|1795229070|gpu|node[1-2]
21.batch|COMPLETED|0:0||||1795229170|||node1
22|CANCELLED by 0|0:0|0:0|None|Unknown|1795229170|1795229070|gpu|None assigned
23|FAILED|1:0|0:0|None|1795229160|1795229170|1795229070|gpu|node2
23.batch|OUT_OF_MEMORY|0:125||None|1795229160|1795229170|1795229070||node2
23.extern|COMPLETED|0:0||None|1795229160|1795229170|1795229070||node2
24|TIMEOUT|0:0|0:0|None|2026-11-21T02:44:20|2026-11-21T02:45:20|2026-11-21T02:44:20|gpu|node2
25|NODE_FAIL|1:0|0:0|NodeDown|1795229160|1795229170|1795229070|gpu|node2
26|OUT_OF_ME
"""


def test_the_queue_in_one_command():
    assert QUEUE_COMMAND[:5] == ("squeue", "--me", "--all", "--states=all", "--array-unique")
    assert QUEUE_COMMAND[5:7] == ("--noheader", "-O")
    assert all(field.endswith(":|") for field in QUEUE_COMMAND[7].split(","))
    assert QUEUE_COMMAND[7].endswith("Comment:|")  # the one that may hold the separator


def test_the_queue_is_read():
    found = parse(SQUEUE)
    assert list(found) == [str(number) for number in range(101, 117)]
    assert {job: (each.state, each.cause) for job, each in found.items()} == {
        "101": ("running", ""),
        "102": ("pending", "resources"),
        "103": ("pending", "priority"),
        "104": ("pending", "requeue"),
        "105": ("pending", "hold"),
        "106": ("pending", "impossible"),
        "107": ("ended", "failed"),
        "108": ("ended", "failed"),
        "109": ("ended", "launch"),
        "110": ("ended", "launch"),
        "111": ("ended", "memory"),
        "112": ("ended", "time"),
        "113": ("ended", "cancelled"),
        "114": ("ended", "completed"),
        "115": ("running", ""),
        "116": ("pending", "down"),
    }
    first = found["101"]
    assert (first.code, first.start, first.nodes) == ("RUNNING", 1795229168.0, ("node1", "node2"))
    assert first.details == {
        "state": "RUNNING",
        "exit": 0,
        "signal": 0,
        "partition": "gpu",
        "submitted": 1795229096.0,
        "time": 300,
        "count": 2,
        "restarts": 1,
        "comment": "mlnb:20261121-025513-abcd00",
    }
    assert (found["102"].code, found["102"].start, found["102"].nodes) == ("Resources", 1795229408.0, ())
    assert found["103"].details["comment"] == "a b|c"
    assert found["105"].start is None
    assert "scontrol release 105" in found["105"].reason
    assert found["107"].reason == "ended with exit code 3"
    assert found["107"].details["exit"] == 3
    assert found["108"].reason == "was ended by SIGKILL"
    assert found["114"].details["time"] is None
    assert found["116"].reason.endswith("node[1,3]")


def test_accounting_is_read(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "getuid", lambda: 4242)
    found = parse_account(SACCT)
    assert {job: each.cause for job, each in found.items()} == {
        "21": "completed",
        "22": "cancelled",
        "23": "memory",
        "24": "time",
        "25": "node",
    }
    assert {each.state for each in found.values()} == {"ended"}
    assert found["21"].nodes == ("node1", "node2")
    assert found["21"].details["restarts"] == 1
    assert found["21"].details["history"] == ("PREEMPTED", "COMPLETED")
    assert found["22"].reason == "was cancelled by root (an administrator)"
    assert (found["22"].nodes, found["22"].start, found["22"].details["by"]) == ((), None, 0)
    assert found["24"].start == time.mktime((2026, 11, 21, 2, 44, 20, 0, 0, -1))


def test_the_memory_of_an_attempt_before_is_not_the_lasts():
    first = "7|FAILED|1:0|0:0|None|1|2|1|gpu|n1\n7.batch|OUT_OF_MEMORY|0:125||||||gpu|n1\n"
    assert parse_account(first)["7"].cause == "memory"
    assert parse_account(first + "7|FAILED|1:0|0:0|None|3|4|1|gpu|n1\n")["7"].cause == "failed"


# SLURM_BITSTR_LEN=0 squeue --array-unique, of an array of mlnb's and one of somebody's own
ARRAYS = """\
9584637_1|PENDING|BeginTime|1795846143|1795846081|5:00|1|gpu|1|0||mlnb:array-ab|
9584637_[4-7,9%2]|PENDING|Resources|1795846200|1795846081|5:00|1|gpu|0|0||mlnb:array-ab|
9584637_3|RUNNING|None|1795846081|1795846081|5:00|1|gpu|0|0|node1|mlnb:array-ab|
9584637_[8,10]|CANCELLED|JobHeldUser|1795846081|1795846081|5:00|1|gpu|0|0||mlnb:array-ab|
9584645_[0-999999]|PENDING|Priority|N/A|1795846081|5:00|1|gpu|0|0||(null)|
"""


def test_each_task_of_an_array_of_mlnb_is_a_job_and_other_arrays_are_one():
    found = parse(ARRAYS)
    assert {job: each.state for job, each in found.items()} == {
        "9584637_1": "pending",
        **dict.fromkeys([f"9584637_{task}" for task in (4, 5, 6, 7, 9)], "pending"),
        "9584637_3": "running",
        "9584637_8": "ended",
        "9584637_10": "ended",
        "9584645_[0-999999]": "pending",
    }
    assert found["9584637_9"].details["comment"] == "mlnb:array-ab_9"
    assert found["9584637_9"].start == 1795846200
    assert found["9584637_1"].details["comment"] == "mlnb:array-ab_1"
    assert found["9584637_1"].details["restarts"] == 1
    assert found["9584645_[0-999999]"].details["comment"] == ""


# sacct, of tasks that were cancelled before they started and one that ran
ACCOUNTED_ARRAY = """\
7_[2-3]|CANCELLED by 0|0:0|0:0|None|Unknown|1795229170|1795229070|gpu|None assigned
7_0|FAILED|3:0|0:0|None|1795229160|1795229170|1795229070|gpu|node2
7_0.batch|OUT_OF_MEMORY|0:125||None|1795229160|1795229170|1795229070||node2
7_1|COMPLETED|0:0|0:0|None|1795229160|1795229170|1795229070|gpu|node2
8_[0-1]|PENDING|0:0|0:0|None|Unknown|Unknown|1795229070|gpu|None assigned
8_1|FAILED|3:0|0:0|None|1795229160|1795229170|1795229070|gpu|node2
"""


def test_the_tasks_of_an_array_are_read_from_accounting():
    found = parse_account(ACCOUNTED_ARRAY)
    causes = {job: each.cause for job, each in found.items() if each.state == "ended"}
    assert causes == {"7_0": "memory", "7_1": "completed", "7_2": "cancelled", "7_3": "cancelled", "8_1": "failed"}
    assert found["8_0"].state == "pending"
    assert found["8_1"].details["restarts"] == 0
    assert account_command(["7_0", "8", "7_2"])[-1] == "7,8"


@pytest.mark.parametrize(
    ("job", "tasks"),
    [
        ("12", "12"),
        ("12_3", "12_3"),
        ("12_[0-2,7]", "12_0 12_1 12_2 12_7"),
        ("12_[1-9:4%2]", "12_1 12_5 12_9"),
        ("12_[0,2,", "12_[0,2,"),
        ("12_[5-3]", "12_[5-3]"),
        ("12_[0-3000000]", "12_[0-3000000]"),
        ("12+1", "12+1"),
    ],
)
def test_tasks_that_share_a_line(job: str, tasks: str):
    assert " ".join(expand_tasks(job)) == tasks


def test_the_jobs_that_accounting_is_asked_for():
    argv = account_command(["1", "2"])
    assert argv[0] == "sacct"
    assert "--duplicates" in argv
    assert argv[-2:] == ("-j", "1,2")


def test_an_unknown_state_is_shown_as_it_is():
    text = "1|FLOATING|None|N/A|N/A|1:00|1|gpu|0|0|{}|(null)|"
    assert (parse(text.format("n1"))["1"].state, parse(text.format(""))["1"].state) == ("running", "pending")
    assert parse(text.format(""))["1"].reason == "SLURM says FLOATING"


PIECES = st.sampled_from(["1", "|", "PENDING", "RUNNING", "\n", ".batch", " by ", "n[1-", "0:9", "N/A", "_[1-", "]"])


@given(st.text() | st.lists(PIECES, max_size=60).map("".join))
def test_any_text_is_read_without_a_fault(text: str):
    for read in (parse, parse_account):
        for job in read(text).values():
            assert job.state in ("pending", "running", "ended")


@given(st.integers(0, len(SQUEUE)), st.integers(0, len(SACCT)))
def test_torn_output_is_read_as_far_as_it_goes(queue: int, account: int):
    whole = parse(SQUEUE)
    torn = list(parse(SQUEUE[:queue]).items())
    assert all(job == whole[number] for number, job in torn[:-1])
    assert set(parse_account(SACCT[:account])) <= set(parse_account(SACCT)) | {"2"}


@given(
    st.integers(1, 10**9),
    st.sampled_from(["PENDING", "RUNNING", "COMPLETED", "FAILED", "TIMEOUT"]),
    st.integers(10**9, 2 * 10**9),
    st.integers(0, 9),
    st.integers(0, 255),
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"]), max_size=20),
)
def test_generated_lines_come_back(job: int, state: str, start: int, restarts: int, code: int, comment: str):
    line = f"{job}|{state}|None|{start}|{start - 5}|1-02:00:00|1|gpu|{restarts}|{code << 8}|node7|mlnb:{comment}.|\n"
    (read,) = parse(line).values()
    assert read.start == start
    assert read.nodes == ("node7",)
    about = read.details
    assert (about["state"], about["restarts"], about["exit"], about["time"]) == (state, restarts, code, 93600)
    assert about["comment"] == f"mlnb:{comment}."
