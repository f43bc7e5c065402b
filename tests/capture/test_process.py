"""The state of the session's process travels with a cell."""

from __future__ import annotations

import pytest

from mlnb.capture.process import session_state


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
