"""Outputs of a run: weights that other programs read, and everything else as if the cell had run here."""

from __future__ import annotations

import json
import types

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

from mlnb.node.data import objects

big = objects.INLINE
"""Elements of an array that is stored outside of the pickle."""


def table(run) -> dict:
    return json.loads((run.directory.outputs / "session.json").read_text())


def succeeded(run):
    run.wait(90)
    assert run.state == "succeeded", f"{run.reason}\n{run.logs()}"
    return run


_TRAIN = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(4, 3, dtype=torch.float64), torch.nn.BatchNorm1d(3))
half = torch.arange(5000).to(torch.bfloat16)
accuracy = 0.5
"""


def test_weights_are_read_by_the_safetensors_package_with_run_and_task(start):
    run = succeeded(start(_TRAIN, outputs=("model", "half", "accuracy")))
    with safetensors.safe_open(run.directory.outputs / "model.safetensors", "pt") as file:
        assert file.metadata() == {"mlnb.run": run.id, "mlnb.task": run.task.digest}
        read = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    model = torch.nn.Sequential(torch.nn.Linear(4, 3, dtype=torch.float64), torch.nn.BatchNorm1d(3))
    model.load_state_dict(read)
    pulled = run.pull(bind=False)
    for name, tensor in pulled["model"].state_dict().items():
        assert torch.equal(tensor, read[name])
        assert tensor.dtype == read[name].dtype
    half = safetensors.torch.load_file(run.directory.outputs / "half.safetensors")["tensor"]
    assert half.dtype == torch.bfloat16
    assert torch.equal(half, pulled["half"])
    assert pulled["accuracy"] == 0.5


def test_weights_of_every_shape_and_kind_are_read_by_others(start):
    run = succeeded(
        start(
            "import torch\n"
            "class Odd(torch.nn.Module):\n"
            "    def __init__(self):\n"
            "        super().__init__()\n"
            "        self.whole = torch.nn.Parameter(torch.arange(6000.).reshape(2, 3000))\n"
            "        self.turned = torch.nn.Parameter(torch.arange(6.).reshape(2, 3).t())\n"
            "        self.scalar = torch.nn.Parameter(torch.tensor(2.5))\n"
            "        self.register_buffer('empty', torch.empty(0, 3))\n"
            "        self.register_buffer('view', self.whole.detach()[0, 1:4])\n"
            "        self.register_buffer('count', torch.tensor(7))\n"
            "        self.register_buffer('yes', torch.tensor([True, False]))\n"
            "        self.register_buffer('wide', torch.ones(2, dtype=torch.complex128))\n"
            "    def get_extra_state(self): return 'no tensor'\n"
            "    def set_extra_state(self, state): pass\n"
            "model = Odd()\n",
            outputs=("model",),
        )
    )
    read = safetensors.torch.load_file(run.directory.outputs / "model.safetensors")
    assert set(read) == {"whole", "turned", "scalar", "empty", "view", "count", "yes"}
    assert read["turned"].tolist() == torch.arange(6.0).reshape(2, 3).t().tolist()
    assert read["empty"].shape == (0, 3)
    assert read["view"].tolist() == [1.0, 2.0, 3.0]
    assert (read["scalar"], read["count"], read["yes"].tolist()) == (2.5, 7, [True, False])


def test_a_module_whose_parameters_have_no_shape_yet_is_returned(start):
    script = "import torch\nmodel = torch.nn.Sequential(torch.nn.LazyLinear(2), torch.nn.Linear(2, 1))"
    model = succeeded(start(script, outputs=("model",))).pull(bind=False)["model"]
    assert torch.nn.parameter.is_lazy(model[0].weight)
    assert model(torch.ones(1, 7)).shape == (1, 1)


def test_a_value_that_cannot_be_returned_is_noted_and_the_others_are_returned(start):
    run = succeeded(
        start(
            "import threading\nlock = threading.Lock(); lock.acquire()\ngood = 1\ngenerator = (x for x in [1])",
            outputs=("lock", "good", "generator"),
        )
    )
    pulled = run.pull(bind=False)
    assert pulled.values == {"good": 1}
    assert len(pulled.notes) == 2
    assert pulled.notes[0].startswith("lock was not returned: it can't be copied between processes (")
    assert pulled.notes[1].startswith("generator was not returned: it can't be copied between processes (")
    assert set(pulled.notes) <= set(run.result["notes"])


def test_a_progress_bar_is_left_out_without_a_note(start):
    pytest.importorskip("tqdm")
    cell = "import sys\nfrom tqdm import tqdm\nbar = tqdm([1], file=sys.stdout)\nfor _ in bar:\n    pass\ngood = 1"
    run = succeeded(start(cell, outputs=("bar", "good")))
    pulled = run.pull(bind=False)
    assert pulled.values == {"good": 1}
    assert pulled.notes == run.result["notes"] == []


def test_outputs_are_on_the_disk_before_the_run_has_succeeded(start):
    script = """
import os, torch
sync, x, w = os.fsync, [1], torch.ones(10_000)
os.fsync = lambda file: (print(os.path.basename(os.readlink(f"/proc/self/fd/{file}"))), sync(file))
"""
    run = start(script, outputs=("x", "w")).wait(60)
    synced = run.logs().split()
    written = {path.name for path in run.directory.outputs.iterdir()}
    assert "w.safetensors" in written
    assert {*synced[:-2]} == written
    assert synced[-2:] == [".outputs.tmp", run.id]


def test_a_failed_run_leaves_no_outputs(start):
    run = start("x = 1\nraise ValueError", outputs=("x",)).wait(60)
    assert run.state == "failed"
    assert not run.directory.outputs.exists()


def test_outputs_of_other_ranks_are_not_mixed_in(start):
    run = succeeded(start("import os\nrank = os.environ['RANK']", outputs=("rank",), ranks=2, cpus=1))
    assert run.pull(bind=False)["rank"] == "0"


def test_a_cell_sees_the_sessions_values(send):
    tensor, array = torch.arange(float(big)), np.arange(big)
    run = succeeded(
        send("total = float(x.sum()) + int(y.sum()) + z['a']", {"x": tensor, "y": array, "z": {"a": 5}}, ("total",))
    )
    assert run.pull(bind=False)["total"] == float(tensor.sum()) + int(array.sum()) + 5


def test_objects_that_the_cell_changes_in_place_are_changed_in_place_in_the_session(send):
    model = torch.nn.Linear(big, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    array, items = np.zeros(big), [1, 2]
    weight, pointer = model.weight, model.weight.data_ptr()
    namespace = {"model": model, "optimizer": optimizer, "array": array, "items": items}
    run = succeeded(
        send(
            "model(torch.ones(4096)).backward()\noptimizer.step()\narray += 3\nitems.append(model)",
            dict(namespace),
            definitions="import torch",
        )
    )
    before = weight.detach().clone()
    pulled = run.deliver(namespace)
    assert pulled.notes == []
    assert pulled.in_place == {"model", "optimizer", "array", "items"}
    assert namespace["model"] is model
    assert model.weight is weight
    assert weight.data_ptr() == pointer
    assert torch.equal(weight.detach(), before - 0.5)
    assert namespace["optimizer"] is optimizer
    assert optimizer.param_groups[0]["params"][0] is weight
    assert torch.equal(optimizer.state[weight]["momentum_buffer"], torch.ones(1, big))
    assert namespace["array"] is array
    assert (array == 3).all()
    assert namespace["items"] is items
    assert items[:2] == [1, 2]
    assert items[2] is model


def test_objects_that_the_cell_does_not_change_are_not_returned(send):
    values = {"model": torch.nn.Linear(big, 1), "array": np.zeros(big), "items": [1, 2]}
    run = succeeded(send("n = len(items) + int(array[0]) + model.in_features", values, ("n",)))
    assert table(run)["names"] == ["n"]
    assert not list(run.directory.outputs.glob("*.bin"))


def test_an_unchanged_part_of_something_changed_is_not_stored_again(send):
    model = torch.nn.Sequential(torch.nn.Linear(big, 4), torch.nn.Linear(4, 1))
    values = {"holder": {"data": np.zeros(100 * big), "count": 0}, "model": model}
    run = succeeded(send("holder['count'] = 1", values))
    assert table(run)["names"] == ["holder"]
    assert sum(path.stat().st_size for path in run.directory.outputs.iterdir()) < 10_000
    namespace = dict(values)
    run.deliver(namespace)
    assert namespace["holder"]["count"] == 1
    assert (namespace["holder"]["data"] == 0).all()


def test_a_name_that_the_cell_deletes_is_deleted_in_the_session(send):
    namespace = {"x": 1, "y": [2]}
    run = succeeded(send("del y\nz = x", dict(namespace), ("z",), deletes=("y",)))
    pulled = run.deliver(namespace)
    assert pulled.deleted == ("y",)
    assert namespace == {"x": 1, "z": 1}


def test_a_name_that_the_cell_binds_to_a_new_object_is_bound_to_a_new_object_in_the_session(send):
    model = torch.nn.Linear(2, 2)
    namespace = {"model": model, "alias": model}
    run = succeeded(send("model = torch.nn.Linear(3, 3)", dict(namespace), ("model",), definitions="import torch"))
    run.deliver(namespace)
    assert namespace["model"].in_features == 3
    assert namespace["alias"] is model


def test_a_random_generator_continues_in_the_session_where_the_run_ended(send):
    generator = torch.Generator().manual_seed(1)
    expected = torch.Generator().manual_seed(1)
    torch.rand(10, generator=expected)
    namespace = {"g": generator}
    run = succeeded(send("torch.rand(10, generator=g)", dict(namespace), definitions="import torch"))
    run.deliver(namespace)
    assert namespace["g"] is generator
    assert torch.equal(torch.rand(3, generator=generator), torch.rand(3, generator=expected))


def test_returned_objects_find_the_classes_that_the_cell_defines(send):
    init = "    def __init__(self):\n        super().__init__()\n        self.f = torch.nn.Linear(2, 1)\n"
    net = f"class Net(torch.nn.Module):\n{init}"
    run = succeeded(send(f"import torch\n{net}net = Net()", {"x": 1}, ("net", "Net")))
    namespace: dict = {"__name__": "__main__", "torch": torch}
    run.deliver(namespace)
    assert type(namespace["net"]) is namespace["Net"]
    assert namespace["net"].f.in_features == 2


_FAULTS = """
import torch
class Unlucky:
    def __init__(self, model=None): self.model = model
    def __setstate__(self, state): raise RuntimeError("can not be made again")
class Diverged(Exception):
    def __init__(self, step, value):
        super().__init__(f"step {step}: {value}")
        self.step = step
"""


def test_a_value_that_can_not_be_loaded_again_loses_only_its_own_name(send):
    model = torch.nn.Linear(2, 2)
    namespace: dict = {"__name__": "__main__", "model": model, "unlucky": "old", "good": 0}
    cell = (
        "with torch.no_grad(): model.weight.fill_(3)\n"
        "unlucky = Unlucky(model)\nholder = [unlucky, model]\ngood = 1\nlast = [model]"
    )
    run = succeeded(send(cell, {"model": model}, ("unlucky", "holder", "good", "last"), definitions=_FAULTS))
    exec(_FAULTS, namespace)
    pulled = run.deliver(namespace)
    assert set(pulled.lost) == {"unlucky", "holder"}
    assert "unlucky" not in namespace
    assert namespace["good"] == 1
    assert namespace["last"][0] is model
    assert (model.weight == 3).all()
    reason = "it can't be loaded again in another process (RuntimeError: can not be made again)"
    assert pulled.notes == [f"{name} was not returned: {reason}" for name in ("unlucky", "holder")]
    assert set(pulled.notes) <= set(run.result["notes"])


def test_a_value_that_can_not_be_loaded_in_the_session_loses_only_its_own_name(send):
    model = torch.nn.Linear(2, 2)
    trainer = types.SimpleNamespace(model=model, part=None)
    namespace: dict = {"model": model, "trainer": trainer, "part": "old"}
    sent = {"model": model, "trainer": trainer}
    cell = (
        "import sys, types, torch\n"
        "class Part: pass\n"
        "Part.__module__ = 'elsewhere'; Part.__qualname__ = 'Part'\n"
        "sys.modules['elsewhere'] = types.SimpleNamespace(Part=Part)\n"
        "part = Part()\ntrainer.part = part\nn = 5\n"
        "with torch.no_grad(): model.weight.fill_(3)\n"
    )
    run = succeeded(send(cell, sent, ("part", "n", "model", "trainer"), definitions="import torch"))
    pulled = run.deliver(namespace)
    assert set(pulled.lost) == {"part", "trainer"}
    assert "part" not in namespace
    assert "trainer" not in namespace
    assert trainer.part is None, "nothing that could not be loaded comes into an object of the session"
    assert namespace["n"] == 5
    assert namespace["model"] is model
    assert (model.weight == 3).all()
    assert any("elsewhere.Part" in note for note in pulled.notes)


def test_an_exception_with_a_constructor_of_its_own_comes_back(send):
    cell = "try:\n    raise Diverged(1, 2.0)\nexcept Diverged as error:\n    problem = error\n"
    run = succeeded(send(cell, {"x": 1}, ("problem",), definitions=_FAULTS))
    namespace: dict = {"__name__": "__main__"}
    exec(_FAULTS, namespace)
    assert run.deliver(namespace).notes == []
    assert type(namespace["problem"]) is namespace["Diverged"]
    assert (namespace["problem"].step, str(namespace["problem"])) == (1, "step 1: 2.0")


def test_every_name_that_the_cell_binds_comes_back(send):
    namespace: dict = {"x": [1], "gone": 1, "same": (2,)}
    cell = (
        "for k in range(2): globals()[f'made_{k}'] = k\n"
        "exec('_hidden = [x]')\n"
        "from math import *\n"
        "del globals()['gone']\n"
        "_i5 = 7\n"
    )
    run = succeeded(send(cell, dict(namespace), returns_more=True))
    pulled = run.deliver(namespace, set(), {"made_1"})
    assert namespace["made_0"] == 0
    assert "made_1" not in namespace, "a later cell has assigned it"
    assert namespace["_hidden"][0] is namespace["x"]
    assert namespace["sqrt"](9) == 3
    assert pulled.notes == []
    assert not any(name.startswith("__") for name in pulled.values)


def test_an_object_that_the_cell_changes_and_drops_is_changed_in_the_session(send):
    jobs = [types.SimpleNamespace(done=False) for _ in range(3)]
    queue = list(jobs)
    namespace = {"queue": queue}
    run = succeeded(send("while queue:\n    job = queue.pop()\n    job.done = True", dict(namespace), ("queue",)))
    run.deliver(namespace)
    assert queue == []
    assert [job.done for job in jobs] == [True, True, True]


def test_aliases_of_large_data_are_written_once(start):
    run = succeeded(
        start(
            "import torch, numpy as np\na = torch.zeros(50_000)\nb = c = a\nx = np.zeros(50_000)\ny, z = x, [x, x[:]]",
            outputs=("a", "b", "c", "x", "y", "z"),
        )
    )
    sizes = [path.stat().st_size for path in run.directory.outputs.iterdir()]
    assert sum(sizes) < 50_000 * (4 + 8) + 20_000
    pulled = run.pull(bind=False)
    assert pulled["a"] is pulled["b"] is pulled["c"]
    assert pulled["z"][0] is pulled["x"]
