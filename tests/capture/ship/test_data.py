"""Data keeps its identity, and is neither copied nor hashed by capture itself."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch


@pytest.fixture
def nb(nb):
    nb.cell("import torch, numpy as np, pandas as pd\nfrom torch import nn")
    nb.cell("from torch.utils.data import DataLoader, Dataset, TensorDataset")
    return nb


def test_model_optimizer_and_scheduler_share_their_objects(nb):
    nb.cell("model = nn.Linear(3, 1)\nopt = torch.optim.AdamW(model.parameters())")
    nb.cell("sched = torch.optim.lr_scheduler.StepLR(opt, 1)\nema = nn.Linear(3, 1)\nema.weight = model.weight")
    names = nb.train(
        """
        before = model.weight.detach().clone()
        model(torch.ones(5, 3)).sum().backward()
        opt.step()
        tied = sched.optimizer is opt and ema.weight is model.weight
        moved = not torch.equal(before, model.weight)
        """
    )
    assert names["tied"]
    assert names["moved"]


def test_a_module_whose_parameters_have_no_shape_yet(nb):
    nb.cell("model = nn.Sequential(nn.LazyLinear(2), nn.ReLU())")
    captured = nb.capture("result = model(torch.ones(5, 3)).shape")
    assert nb.execute(captured)["result"] == (5, 2)
    assert "model" in captured.outputs


def test_tensors_that_share_memory_share_it_in_the_run(nb):
    nb.cell("X = torch.zeros(5000)\nhead = X[:10]\nrows = X.view(50, 100)")
    names = nb.train("head[0] = 1\nresult = X[0].item(), rows[0, 0].item()")
    assert names["result"] == (1.0, 1.0)


def test_arrays_frames_and_generators(nb):
    nb.cell("A = np.arange(9000).reshape(90, 100)\nT = A.T\nS = A[:, ::3]\nrng = np.random.default_rng(3)")
    nb.cell("g = torch.Generator().manual_seed(5)\ndf = pd.DataFrame({'a': range(2000), 'b': ['x'] * 2000})")
    nb.cell("nan = float('nan')\nscalar = np.float32(0.5)")
    names = nb.train(
        """
        a = rng.random()
        b = torch.rand(1, generator=g).item()
        result = A.sum(), T.shape, S.shape, df.a.sum(), nan, scalar
        df.loc[0, 'a'] = 7
        A[0, 0] = 5
        """
    )
    assert names["result"][:4] == (nb["A"].sum(), (100, 90), (90, 34), 1999000)
    assert names["a"] == nb["rng"].random()
    assert names["b"] == torch.rand(1, generator=nb["g"]).item()


def test_loaders_with_functions_of_the_notebook(nb):
    nb.cell("scale = 2.0\ndef prepare(x):\n    return x * scale")
    nb.cell(
        """
        class Points(Dataset):
            def __init__(self, n, transform): self.n, self.transform = n, transform
            def __len__(self): return self.n
            def __getitem__(self, i): return self.transform(torch.tensor([float(i)]))
        def collate(batch): return torch.stack(batch)
        def seed_worker(i): torch.manual_seed(i)
        loader = DataLoader(Points(6, prepare), 3, collate_fn=collate, worker_init_fn=seed_worker)
        """
    )
    captured = nb.capture("result = [batch.sum().item() for batch in loader]")
    assert nb.execute(captured)["result"] == [6.0, 24.0]
    for name in ("prepare", "Points", "collate", "seed_worker", "scale"):
        assert name in captured.script


def test_a_loader_with_persistent_workers(nb):
    nb.cell("loader = DataLoader(TensorDataset(torch.arange(4.)), 2, num_workers=1, persistent_workers=True)")
    nb.cell("first = next(iter(loader))")
    assert nb.train("result = sum(x.sum().item() for x, in loader)")["result"] == 6.0
    nb.cell("loader._iterator = None")


def test_lambdas_inside_of_objects(nb):
    nb.cell(
        "k = 4\nclass Compose:\n    def __init__(self, *fs): self.fs = fs\npipeline = Compose(lambda x: x + k, abs)"
    )
    captured = nb.capture("result = [f(-1) for f in pipeline.fs]")
    assert nb.execute(captured)["result"] == [3, 1]
    assert "_lambda_1 = lambda x: x + k" in captured.script
    assert captured.bindings["_lambda_1"] is nb["pipeline"].fs[0]


def test_containers_are_literals_unless_other_values_hold_them(nb):
    nb.cell("lrs = [0.1, 0.2]\ncfg = {'a': [1]}\nruns = []\nholder = (cfg, torch.ones(2000))")
    captured = nb.capture("cfg['a'].append(2); runs.append(1)\nresult = holder[0]['a'], lrs")
    assert "lrs = [0.1, 0.2]" in captured.script
    assert "runs = []" in captured.script
    assert "cfg = {" not in captured.script
    assert nb.execute(captured)["result"] == ([1, 2], [0.1, 0.2])


def test_two_names_of_a_list_refer_to_the_same_list(nb):
    nb.cell("a = b = [1]")
    assert nb.train("a.append(2)\nresult = b")["result"] == [1, 2]


def resident() -> int:
    """Bytes of this process's resident memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def test_a_gigabyte_is_neither_copied_nor_hashed(nb):
    nb.namespace["X"] = torch.empty(1 << 28)
    nb.cell("model = nn.Linear(2, 2)")
    before = resident()
    captured = nb.capture("model(X[:2].view(1, 2))")
    assert resident() - before < 1 << 27  # pages that nobody has read or copied take no memory
    assert captured.size > 1 << 30
    size = {item.name: item.size for item in captured.items}
    assert size["X"] == 1 << 30
    assert size["model"] == 24
    assert not list(nb.folder.iterdir())


def test_equal_data_is_stored_once_by_its_hash(nb):
    nb.cell("a = torch.ones(5000)\nb = torch.ones(5000)")
    first = nb.capture("a + b").hashed_contents()
    assert len([path for path in first if len(path) == len("inputs/") + 64]) == 1
    nb.cell("model = None")
    assert {p: c.digest() for p, c in nb.capture("a + b").hashed_contents().items()} == {
        p: c.digest() for p, c in first.items()
    }


def test_labels_are_the_session_s_storages(nb):
    nb.cell("X = torch.zeros(5000)")
    captured = nb.capture("X.sum()")
    assert nb["X"].untyped_storage().data_ptr() in {s.data_ptr() for s in captured.labels.storages.values()}


def test_caches_of_functions_inside_of_objects(nb):
    nb.cell("import functools\n@functools.cache\ndef f(x): return x + 1\nbox = {'f': f, 'X': torch.ones(9)}")
    assert nb.train("result = box['f'](1)")["result"] == 2


def test_bound_methods_and_modules_inside_of_objects(nb):
    nb.cell("import math\nclass A:\n    def m(self): return 3\na = A()\nf = a.m\nbox = [math, A, a, f]")
    names = nb.train("result = box[0].pi > 3, box[1] is A, box[2] is a, f.__self__ is a, box[3]()")
    assert names["result"] == (True, True, True, True, 3)


def test_an_object_of_a_subclass_of_a_library_s_class(nb):
    nb.cell("class Net(nn.Sequential):\n    def forward(self, x): return super().forward(x) * gain\ngain = 3.0")
    nb.cell("net = Net(nn.Linear(2, 2), nn.ReLU())\nnet.register_forward_hook(lambda m, i, o: o + 1)")
    nb.cell("X = torch.ones(1, 2)\nexpected = net(X)")
    names = nb.train("result = net(X)")
    assert torch.equal(names["result"], nb["expected"])


def test_structures_of_any_depth(nb):
    nb.cell("class Node:\n    def __init__(self, value, next): self.value, self.next = value, next")
    nb.cell("nodes = None\nfor i in range(3000): nodes = Node(i, nodes)")
    nb.cell("nest = []\nfor i in range(600): nest = [nest]\nX = torch.ones(5000)")
    cell = "node, n, inner, depth = nodes, 0, nest, 0\nwhile node: node, n = node.next, n + 1\n"
    names = nb.train(cell + "while inner: inner, depth = inner[0], depth + 1\ntotal = X.sum().item()")
    assert (names["n"], names["depth"], names["total"]) == (3000, 600, 5000.0)


def test_asking_a_person_s_object_anything_never_fails(nb):
    nb.cell("class Settings(dict):\n    __getattr__ = dict.__getitem__\n    __setattr__ = dict.__setitem__")
    nb.cell("class Proxy:\n    def __init__(self, inner): self.inner = inner")
    nb.cell("def ask(self, name): return getattr(self.inner, name)\nProxy.__getattr__ = ask")
    nb.cell("settings, proxy = Settings(lr=0.5), Proxy([1, 2])")
    names = nb.train("result = settings.lr, proxy.count(1), type(settings) is Settings")
    assert names["result"] == (0.5, 1, True)
