"""What Grid Engine prints, read: the samples are those of Son of Grid Engine 8.1.9, shortened."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb.targets.batch.commands import CommandFailed
from mlnb.targets.batch.systems.gridengine.text import errors, parse, parse_account

QSTAT = """<?xml version='1.0'?>
<job_info  xmlns:xsd="http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/schemas/qstat/qstat.xsd">
  <queue_info>
    <job_list state="running">
      <JB_job_number>8523159</JB_job_number>
      <JB_name>digits.20261121-034735-3454fc</JB_name>
      <state>{running}</state>
      <JAT_start_time>2026-11-21T03:27:31</JAT_start_time>
      <queue_name>all.q@vm</queue_name>
      <slots>4</slots>
    </job_list>
  </queue_info>
  <job_info>
    <job_list state="pending">
      <JB_job_number>8523160</JB_job_number>
      <JB_name>STDIN</JB_name>
      <state>{pending}</state>
      <JB_submission_time>2026-11-21T03:27:31</JB_submission_time>
      <queue_name></queue_name>
      <slots>2</slots>
    </job_list>
  </job_info>
</job_info>
"""

ERROR = """<?xml version='1.0'?>
<detailed_job_info>
  <djob_info>
    <element>
      <JB_job_number>8523160</JB_job_number>
      <JB_ja_tasks><ulong_sublist><JAT_message_list><ulong_sublist>
      <QIM_message>11/21/2026 03:35:20 [0:31763]: error: can&apos;t chdir to /x: No such file or directory</QIM_message>
      </ulong_sublist></JAT_message_list></ulong_sublist></JB_ja_tasks>
    </element>
  </djob_info>
</detailed_job_info>
"""

QACCT = """==============================================================
jobnumber    8523165
failed       25  : rescheduling
exit_status  99
ru_wallclock 1s
category     NONE
==============================================================
jobnumber    8523165
start_time   Sat Nov 21 03:29:41 2026
failed       {failed}
exit_status  {code}
ru_wallclock 3s
maxvmem      3.473MB
category     {category}
"""


def test_jobs_that_run_and_wait():
    jobs = parse(QSTAT.format(running="r", pending="qw"))
    assert list(jobs) == ["8523159", "8523160"]
    assert (jobs["8523159"].state, jobs["8523159"].nodes) == ("running", ("vm",))
    assert jobs["8523159"].details["comment"] == "mlnb:20261121-034735-3454fc"
    assert (jobs["8523160"].state, jobs["8523160"].cause) == ("pending", "resources")


ARRAY = """<?xml version='1.0'?><job_info><queue_info>
<job_list state="running"><JB_job_number>8584961</JB_job_number><JB_name>trial.array-ab</JB_name><state>r</state>
<queue_name>all.q@vm</queue_name><slots>1</slots><tasks>2</tasks></job_list></queue_info><job_info>
<job_list state="pending"><JB_job_number>8584961</JB_job_number><JB_name>trial.array-ab</JB_name><state>qw</state>
<slots>1</slots><tasks>3-5:1,7</tasks></job_list>
<job_list state="pending"><JB_job_number>8584961</JB_job_number><JB_name>trial.array-ab</JB_name><state>Eqw</state>
<slots>1</slots><tasks>8</tasks></job_list>
<job_list state="pending"><JB_job_number>8584962</JB_job_number><JB_name>another</JB_name><state>qw</state>
<slots>1</slots><tasks>1-75000:1</tasks></job_list></job_info></job_info>"""


def test_each_task_of_an_array_of_mlnb_is_a_job_and_other_arrays_are_one():
    jobs = parse(ARRAY)
    states = {"2": "running", **dict.fromkeys("34578", "pending")}
    assert {job_id: job.state for job_id, job in jobs.items()} == {
        **{f"8584961.{task}": state for task, state in states.items()},
        "8584962": "pending",
    }
    assert jobs["8584961.7"].details["comment"] == "mlnb:array-ab_7"
    assert list(errors(ERROR.replace("8523160", "8584961"), jobs)) == ["8584961.8"]


@pytest.mark.parametrize("letters", ["r", "t", "Rr", "Rt", "s", "S", "T", "dr", "dRr", "dt"])
def test_what_runs_is_running_whatever_its_letters(letters: str):
    assert parse(QSTAT.format(running=letters, pending="qw"))["8523159"].state == "running"


@pytest.mark.parametrize(
    ("letters", "cause"),
    [("qw", "resources"), ("hqw", "hold"), ("Eqw", "hold"), ("ERq", "hold"), ("Rq", "requeue"), ("hRwq", "hold")],
)
def test_why_a_job_waits(letters: str, cause: str):
    assert parse(QSTAT.format(running="r", pending=letters))["8523160"].cause == cause


def test_an_error_is_told_in_grid_engines_words():
    jobs = parse(QSTAT.format(running="r", pending="Eqw"))
    assert errors(ERROR, jobs)["8523160"].reason == (
        "Held: Grid Engine could not start it (can't chdir to /x: No such file or directory); "
        "qmod -cj 8523160 lets it try again"
    )
    assert errors("<unknown_jobs><ST_name>99</ST_name></unknown_jobs>", jobs) == {}


@pytest.mark.parametrize(
    ("failed", "code", "category", "cause", "words"),
    [
        ("37  : qmaster enforced h_rt, h_cpu, or h_vmem limit", "137  (Killed)", "-l h_rt=2", "time", "time limit"),
        ("37  : qmaster enforced h_rt, h_cpu, or h_vmem limit", "137  (Killed)", "-l h_vmem=1G", "failed", "h_vmem"),
        ("100 : assumedly after job", "137  (Killed)", "NONE", "cancelled", "as qdel does"),
        ("100 : assumedly after job", "139  (Segmentation fault)", "NONE", "failed", "exit code 139"),
        ("0", "143", "NONE", "cancelled", "as qdel does"),
        ("0", "137", "NONE", "failed", "exit code 137"),  # something within the job was killed, not the job
        ("26  : opening input/output file", "0", "NONE", "launch", "opening input/output file"),
        ("25  : rescheduling", "0", "NONE", "cancelled", "while it waited to be started again"),
        ("0", "3", "NONE", "failed", "exit code 3"),
        ("0", "0", "NONE", "completed", "exit code 0"),
    ],
)
def test_how_a_job_ended_is_what_its_last_record_says(failed: str, code: str, category: str, cause: str, words: str):
    job = parse_account(QACCT.format(failed=failed, code=code, category=category))
    assert (job.state, job.cause) == ("ended", cause)
    assert words in job.reason


PIECES = st.sampled_from(
    ["<job_list>", "</job_list>", "<state>", "<JB_job_number>", "</state>", "failed ", "=====", "\n"]
)


@given(st.lists(st.one_of(st.text(max_size=20), PIECES), max_size=20).map("".join))
def test_no_text_breaks_anything(text: str):
    """Of the queue, what does not read is said: no job is gone because of it."""
    with pytest.raises(CommandFailed, match="can't be parsed"):
        parse(text)
    assert parse_account(text).state == "ended"


def test_a_record_that_does_not_read_is_no_success():
    assert parse_account("").cause == "vanished"


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"], blacklist_characters="<&"), max_size=10))
def test_no_letters_are_an_error(letters: str):
    assert {job.state for job in parse(QSTAT.format(running=letters, pending=letters)).values()} <= {
        "running",
        "pending",
    }
