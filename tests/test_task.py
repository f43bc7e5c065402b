"""A task's digest is its identity, wherever it is read."""

from __future__ import annotations

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from mlnb.task import File, Resources, Segment, Task

counts = st.integers(1, 10**6)
tasks = st.builds(
    Task,
    script=st.text(),
    argv=st.lists(st.text()).map(tuple),
    segments=st.lists(st.builds(Segment, counts, counts, st.text(), counts), max_size=3).map(tuple),
    files=st.lists(st.builds(File, st.text(), st.text(), counts), max_size=3).map(tuple),
    outputs=st.lists(st.text()).map(tuple),
    inputs=st.lists(st.text()).map(tuple),
    resources=st.builds(Resources, counts, counts, counts, st.none() | counts, st.none() | counts, st.none() | counts),
    environment=st.dictionaries(st.text(), st.text() | st.none(), max_size=3),
    seed=st.none() | st.integers(0, 2**63 - 1),
    interactive=st.booleans(),
)


@given(tasks)
def test_a_task_is_the_same_after_it_was_written_and_read(task: Task):
    read = Task.from_json(json.loads(json.dumps(task.to_json())))
    assert read == task
    assert read.digest == task.digest


@given(tasks)
def test_a_file_of_a_newer_version_with_more_keys_can_be_read(task: Task):
    more = {"from the future": 1}
    data = task.to_json()
    parts = {name: [{**part, **more} for part in data[name]] for name in ("segments", "files")}
    assert Task.from_json({**data, **more, **parts, "resources": {**data["resources"], **more}}) == task


@given(tasks, st.text(min_size=1))
def test_another_script_is_another_task(task: Task, more: str):
    assert replace(task, script=task.script + more).digest != task.digest


def test_a_run_has_as_many_ranks_as_all_its_nodes():
    assert Resources(nodes=3, ranks=4).world_size == 12
