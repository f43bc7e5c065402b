"""The state of the session's process travels with a cell."""

from __future__ import annotations

import os
import sys
import types

import pytest

from mlnb.capture.ship.process import session_state


def test_variables_set_in_the_session_are_sent_but_for_credentials_and_those_of_the_machine(monkeypatch):
    for name in ("PLAIN_CHOICE", "WANDB_API_KEY", "CUDA_VISIBLE_DEVICES", "PATH", "FORCE_COLOR"):
        monkeypatch.setenv(name, "ab12cd34ef56ab78cd90" if name.endswith("KEY") else "chosen")
    state, notes = session_state()
    assert state.environ.get("PLAIN_CHOICE") == "chosen"
    assert not {"WANDB_API_KEY", "CUDA_VISIBLE_DEVICES", "PATH", "FORCE_COLOR"} & state.environ.keys()
    assert [note for note in notes if "--env WANDB_API_KEY" in note]


@pytest.mark.parametrize("setting", ["torch.set_default_dtype(torch.float64)", "numpy.seterr(divide='raise')"])
def test_settings_of_torch_and_numpy_stand_in_the_script(nb, setting):
    nb.cell(f"import torch, numpy\nbefore = numpy.geterr()\n{setting}")
    try:
        script = nb.capture("torch.ones(1)").script
    finally:
        nb.cell("torch.set_default_dtype(torch.float32)\nnumpy.seterr(**before)")
    assert setting.split("(")[0] in script


def test_an_active_run_of_a_tracker_goes_on(monkeypatch):
    run = types.SimpleNamespace(id="r1", project="p", entity=None)
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(run=run))
    active = types.SimpleNamespace(info=types.SimpleNamespace(run_id="m1"))
    mlflow = types.SimpleNamespace(get_tracking_uri=lambda: "file:./mlruns", active_run=lambda: active)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    environ = session_state()[0].environ
    assert (environ["WANDB_RUN_ID"], environ["WANDB_RESUME"], environ["WANDB_PROJECT"]) == ("r1", "allow", "p")
    assert (environ["MLFLOW_TRACKING_URI"], environ["MLFLOW_RUN_ID"]) == ("file:./mlruns", "m1")
    assert "WANDB_ENTITY" not in environ


def test_variables_of_the_shell_that_the_code_reads_are_sent(nb, monkeypatch):
    began = {"MY_FLAG": "on", "MY_LEVEL": "3", "MY_DIR": "/x", "UNREAD": "no", "MY_PASSWORD": "hunter2hunter2"}
    began |= {"TORCH_LOGS": "+dynamo", "DISPLAY": ":0", "JPY_SESSION_NAME": "x"}
    for name, value in began.items():
        monkeypatch.setenv(name, value)
    began |= os.environ
    monkeypatch.setattr("mlnb.capture.ship.process._began_with", lambda: began)
    nb.cell("import os, torch\nLEVEL = 'MY_LEVEL'\ndef folder(): return os.path.expandvars('${MY_DIR}/data')")
    captured = nb.capture("result = os.environ.get('MY_FLAG'), os.getenv(LEVEL), folder(), os.getenv('MY_PASSWORD')")
    environ = {name: value for name, value in captured.process.environ.items() if name.startswith(("MY_", "TORCH_"))}
    assert environ == {"MY_FLAG": "on", "MY_LEVEL": "3", "MY_DIR": "/x", "TORCH_LOGS": "+dynamo"}
    assert {"UNREAD", "DISPLAY", "MY_PASSWORD"} <= set(captured.process.kept_back)
    assert "JPY_SESSION_NAME" not in captured.process.kept_back
    note = "MY_PASSWORD is read by the cell and looks like a credential: add --env MY_PASSWORD to send it"
    assert note in captured.notes
    assert not nb.capture("print(1)").process.environ.keys() & {"MY_FLAG", "MY_LEVEL", "MY_DIR"}
