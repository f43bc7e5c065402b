"""Queues that nobody here has: what they print is read in the form that their documentation gives.

The samples are written from that documentation; none of them is real output.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.targets.batch.commands import CommandFailed
from mlnb.targets.batch.queued_job import QueuedJob
from mlnb.targets.batch.systems.htcondor import HTCondor
from mlnb.targets.batch.systems.lsf import Lsf
from mlnb.targets.batch.systems.moab import Moab
from mlnb.targets.batch.systems.oar import Oar
from mlnb.targets.batch.systems.pbs import Pbs

PBS = """{
    "timestamp":1795231651,
    "pbs_version":"22.05.11",
    "pbs_server":"server",
    "Jobs":{
        "2154.server":{
            "Job_Name":"digits",
            "Job_Owner":"alice@login1",
            "job_state":"R",
            "exec_host":"node7/0*6",
            "run_count":1
        },
        "2155.server":{
            "Job_Owner":"alice@login1",
            "job_state":"Q",
            "comment":"Not Running: Insufficient amount of resource: ngpus"
        },
        "2156.server":{"Job_Owner":"bob@login1", "job_state":"R"}
    }
}"""

TORQUE = (
    "<Data><Job><Job_Id>12.server</Job_Id><Job_Name>digits</Job_Name><Job_Owner>alice@login1</Job_Owner>"
    "<job_state>C</job_state><exit_status>271</exit_status></Job>"
    "<Job><Job_Id>13.server</Job_Id><Job_Owner>alice@login1</Job_Owner><job_state>R</job_state>"
    "<exec_host>node7/0+node7/1</exec_host></Job></Data>"
)

LSF = """{
  "COMMAND":"bjobs",
  "JOBS":4,
  "RECORDS":[
    {"JOBID":"101", "STAT":"RUN", "EXIT_CODE":"", "EXIT_REASON":"", "EXEC_HOST":"4*hostA:2*hostB", "PEND_REASON":""},
    {"JOBID":"102", "STAT":"PEND", "EXIT_CODE":"", "EXIT_REASON":"", "EXEC_HOST":"",
     "PEND_REASON":"Job slot limit reached: 2 hosts;"},
    {"JOBID":"103", "STAT":"PSUSP", "EXIT_CODE":"", "EXIT_REASON":"", "EXEC_HOST":"", "PEND_REASON":""},
    {"ERROR":"Job <104> is not found"}
  ]
}"""

OAR = """{
  "547": {"state":"Running", "owner":"alice", "assigned_network_address":["liza-2"], "exit_code":null, "events":[]},
  "548": {"state":"Waiting", "owner":"alice", "assigned_network_address":[]},
  "549": {"state":"Hold", "owner":"alice", "assigned_network_address":[]}
}"""

CONDOR = """[
{"ClusterId":7, "ProcId":0, "JobStatus":2, "RemoteHost":"slot1@node7", "QDate":1795231651, "MlnbRun":"20261121-r"},
{"ClusterId":8, "ProcId":0, "JobStatus":1},
{"ClusterId":9, "ProcId":0, "JobStatus":5, "HoldReason":"Error from slot1@node7: cannot access initial directory"}
]
"""


def alice(text: str) -> dict[str, QueuedJob]:
    return Pbs.table.parse(text, "alice")


def torque(text: str) -> dict[str, QueuedJob]:
    return Moab.table.parse(text, "alice")


def test_pbs():
    jobs = alice(PBS)
    assert set(jobs) == {"2154.server", "2154", "2155.server", "2155"}  # hers, and as dask-jobqueue names them
    assert (jobs["2154"].state, jobs["2154"].nodes) == ("running", ("node7",))
    assert (jobs["2155"].state, jobs["2155"].cause) == ("pending", "resources")
    assert jobs["2155"].reason.endswith("Insufficient amount of resource: ngpus")


@pytest.mark.parametrize(
    ("status", "cause", "words"),
    [
        (0, "completed", "exit code 0"),
        (3, "failed", "exit code 3"),
        (271, "cancelled", "as qdel does"),
        (267, "failed", "signal 11"),
        (-29, "time", "time limit"),
        (-27, "memory", "memory"),
        (-1, "launch", "could not run it"),
        (None, "cancelled", "before it started"),
    ],
)
def test_how_a_job_of_pbs_ended(status: int | None, cause: str, words: str):
    ended = {"Job_Owner": "alice@login1", "job_state": "F"} | ({} if status is None else {"Exit_status": status})
    job = alice(json.dumps({"Jobs": {"1.server": ended}}))["1"]
    assert (job.state, job.cause) == ("ended", cause)
    assert words in job.reason


def test_torque():
    jobs = torque(TORQUE)
    assert (jobs["12"].state, jobs["12"].cause) == ("ended", "cancelled")
    assert (jobs["13"].state, jobs["13"].nodes) == ("running", ("node7",))


def test_lsf():
    jobs = Lsf.table.parse(LSF)
    assert list(jobs) == ["101", "102", "103"]
    assert (jobs["101"].state, jobs["101"].nodes) == ("running", ("hostA",))
    assert jobs["102"].reason == "Waiting for free cores or GPUs: Job slot limit reached: 2 hosts;"
    assert jobs["103"].cause == "hold"


@pytest.mark.parametrize(
    ("state", "code", "reason", "cause"),
    [
        ("DONE", "", "", "completed"),
        ("EXIT", "1", "", "failed"),
        ("EXIT", "140", "TERM_RUNLIMIT: job killed after reaching LSF run time limit", "time"),
        ("EXIT", "137", "TERM_MEMLIMIT: job killed after reaching LSF memory usage limit", "memory"),
        ("EXIT", "130", "TERM_OWNER: job killed by owner", "cancelled"),
        ("EXIT", "2", "TERM_UNKNOWN: unknown", "failed"),
        ("ZOMBI", "", "", "node"),
    ],
)
def test_how_a_job_of_lsf_ended(state: str, code: str, reason: str, cause: str):
    record = {"JOBID": "1", "STAT": state, "EXIT_CODE": code, "EXIT_REASON": reason}
    job = Lsf.table.parse(json.dumps({"RECORDS": [record]}))["1"]
    assert (job.state, job.cause) == ("ended", cause)


def test_oar():
    jobs = Oar.table.parse(OAR)
    assert (jobs["547"].state, jobs["547"].nodes) == ("running", ("liza-2",))
    assert [jobs[number].cause for number in ("548", "549")] == ["resources", "hold"]


@pytest.mark.parametrize(
    ("state", "status", "events", "cause", "words"),
    [
        ("Terminated", 0, [], "completed", "exit code 0"),
        ("Terminated", 256, [], "failed", "exit code 1"),
        ("Terminated", 11, [], "failed", "signal 11"),
        ("Error", None, [], "failed", "OAR says Error"),
        ("Error", 0, [{"type": "FRAG_JOB_REQUEST"}], "cancelled", "oardel"),
        ("Error", 0, [{"type": "WALLTIME"}, {"type": "FRAG_JOB_REQUEST"}], "time", "time limit"),
    ],
)
def test_how_a_job_of_oar_ended(state: str, status: int | None, events: list[object], cause: str, words: str):
    job = Oar.table.parse(json.dumps({"5": {"state": state, "exit_code": status, "events": events}}))["5"]
    assert (job.state, job.cause) == ("ended", cause)
    assert words in job.reason


def test_htcondor():
    jobs = HTCondor.table.parse(CONDOR)
    assert (jobs["7.0"].state, jobs["7.0"].nodes) == ("running", ("node7",))
    assert jobs["7.0"].details["comment"] == "mlnb:20261121-r"
    assert jobs["8.0"].state == "pending"
    assert jobs["9.0"].reason.endswith("cannot access initial directory")


@pytest.mark.parametrize(
    ("ad", "cause", "words"),
    [
        ({"JobStatus": 4, "ExitBySignal": False, "ExitCode": 0}, "completed", "exit code 0"),
        ({"JobStatus": 4, "ExitBySignal": False, "ExitCode": 2}, "failed", "exit code 2"),
        ({"JobStatus": 4, "ExitBySignal": True, "ExitSignal": 9}, "failed", "signal 9"),
        ({"JobStatus": 3, "RemoveReason": "via condor_rm (by user alice)"}, "cancelled", "by user alice"),
        ({"JobStatus": 3, "RemoveReason": "The job attribute PeriodicRemove expression '...'"}, "time", "its time"),
    ],
)
def test_how_a_job_of_htcondor_ended(ad: dict[str, object], cause: str, words: str):
    job = HTCondor.table.parse(json.dumps([{"ClusterId": 1, "ProcId": 0, **ad}]))["1.0"]
    assert (job.state, job.cause) == ("ended", cause)
    assert words in job.reason


PARSERS = [alice, torque, Lsf.table.parse, Oar.table.parse, HTCondor.table.parse]
Parser = Callable[[str], dict[str, QueuedJob]]
WORDS = st.sampled_from(
    ["Jobs", "RECORDS", "JOBID", "STAT", "EXIT", "state", "Terminated", "events", "exit_code", "JobStatus", "job_state"]
)
VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-300, 300), st.text(max_size=5), WORDS),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(WORDS | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@pytest.mark.parametrize("parse", PARSERS)
@given(text=st.one_of(st.text(max_size=60), VALUES.map(json.dumps)))
def test_any_text_is_jobs_or_said_not_to_be(parse: Parser, text: str):
    try:
        jobs = parse(text)
    except CommandFailed:
        return
    assert {job.state for job in jobs.values()} <= {"pending", "running", "ended"}


@pytest.mark.parametrize("parse", PARSERS)
def test_nothing_printed_is_no_jobs_and_half_of_it_is_no_news(parse: Parser):
    assert parse("\n") == {}
    with pytest.raises(CommandFailed, match="can't be parsed") as caught:
        parse('{"Jobs":\n {"1.ser')
    assert "\n" not in str(caught.value)
