"""The state of a process: read, set, and merged into that of the session."""

from __future__ import annotations

import os
import random
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from mlnb.node.data import process_state
from mlnb.node.data.process_state import GENERATORS, ProcessState


@pytest.fixture(autouse=True)
def _unchanged(monkeypatch):
    state = process_state.read()
    with warnings.catch_warnings():
        yield
    process_state.apply(ProcessState(state.parts, state.settings))


def draw() -> tuple[float, float, float]:
    return random.random(), float(np.random.rand()), float(torch.rand(()))


def test_generators_go_on_with_the_numbers_of_the_other_process():
    state = ProcessState.load(process_state.read().dump())
    drawn = draw()
    process_state.apply(state)
    assert draw() == drawn
    process_state.apply(state, without=GENERATORS)
    assert draw() != drawn


def test_what_the_cell_changes_comes_back(monkeypatch):
    monkeypatch.setenv("GIVEN", "1")
    before = process_state.read()
    draw()
    warnings.simplefilter("error", RuntimeWarning)
    torch.autograd.set_detect_anomaly(True)
    np.seterr(all="raise")
    monkeypatch.setenv("CHOSEN", "2")
    monkeypatch.delenv("GIVEN")
    changes = ProcessState.load(process_state.read().changes_since(before).dump())
    expected = draw()
    process_state.apply(ProcessState(before.parts, before.settings, {"CHOSEN": None, "GIVEN": "1"}))
    process_state.merge(changes, before)
    assert draw() == expected
    with pytest.raises(RuntimeWarning):
        warnings.warn("x", RuntimeWarning, stacklevel=1)
    assert torch.is_anomaly_enabled()
    assert np.geterr()["divide"] == "raise"
    assert (os.environ["CHOSEN"], "GIVEN" in os.environ) == ("2", False)


def test_generators_that_the_session_has_used_since_stay_as_they_are():
    before = process_state.read()
    draw()
    changes = process_state.read().changes_since(before)
    process_state.apply(before)
    np.random.rand()
    expected = process_state.read().parts
    process_state.merge(changes, before)
    assert process_state.read().parts == expected


def test_nothing_is_sent_back_if_nothing_changed():
    assert not process_state.read().changes_since(process_state.read())


def test_runs_that_start_together_draw_other_numbers_and_return_no_states():
    state = process_state.read()
    numbers = []
    for number, lent in ((1, []), (1, [state]), (2, [state])):
        sent, returned = process_state.vary(state, lent, number)
        process_state.apply(sent)
        numbers.append(draw())
        assert all(
            (returned.parts[name] == state.parts[name]) is not bool(lent) for name in GENERATORS & set(sent.parts)
        )
    process_state.apply(state)
    assert numbers[0] == draw()
    assert len({value for drawn in numbers for value in drawn}) == 9


def test_generators_that_were_seeded_since_another_run_started_are_the_session_s():
    earlier = process_state.read()
    np.random.seed(3)
    state = process_state.read()
    sent, _ = process_state.vary(state, [earlier], 1)
    assert sent.parts["numpy"] == state.parts["numpy"]
    assert sent.parts["random"] != state.parts["random"]


def test_the_folder_and_the_import_path_come_back(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", ["a", "b"])
    for name in ("new", "first", "last"):
        (tmp_path / name).mkdir()
    before = process_state.read()
    os.chdir("new")
    sys.path[:] = [str(tmp_path / "first"), "a", "b", str(tmp_path / "last"), "not there"]
    changes = ProcessState.load(process_state.read().changes_since(before).dump())
    os.chdir(tmp_path)
    sys.path[:] = ["a", "b", "c"]
    process_state.merge(changes, before)
    assert Path.cwd() == tmp_path / "new"
    assert sys.path == [str(tmp_path / "first"), "a", "b", "c", str(tmp_path / "last")]
    os.chdir(tmp_path / "last")
    process_state.merge(changes, before)  # the session is elsewhere now
    assert Path.cwd() == tmp_path / "last"


def test_arguments_of_the_command_line_the_umask_and_decimal_s_context(monkeypatch):
    import decimal

    before = process_state.read()
    monkeypatch.setattr(sys, "argv", ["prog", "--lr", "0.5"])
    context, mask = decimal.getcontext(), os.umask(0o077)
    old = context.prec
    try:
        context.prec = 50
        state = ProcessState.load(process_state.read().dump())
        assert {"arguments", "umask", "decimal"} <= process_state.read().changes_since(before).parts.keys()
        sys.argv[:] = ["other"]
        context.prec = old
        os.umask(mask)
        process_state.apply(ProcessState(state.parts))
        assert sys.argv == ["prog", "--lr", "0.5"]
        assert decimal.getcontext() is context
        assert context.prec == 50
        assert os.umask(mask) == 0o077
    finally:
        context.prec = old
        os.umask(mask)
