"""Several ranks of a plain loop are one training: the curve and weights of one process with the whole batch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from mlnb.api import Run
from mlnb.node.parallel.batch_sharding import ShardedBatches, shard_stream, split
from tests.conftest import Start
from tests.node.printed import printed

HEAD = """
import itertools, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.set_default_dtype(torch.float64)
made = torch.Generator().manual_seed(5)
X = torch.randn(37, 4, generator=made)
y = X.sum(1, keepdim=True)
def net(): return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
def loader(**more): return DataLoader(TensorDataset(X, y), batch_size=BATCH, **more)
def loss_of(model, a, b): return (model(a) - b).square().mean()
model = net()
"""

LOOP = """
o = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
for epoch in range(2):
    for a, b in loader(shuffle=True):
        o.zero_grad(); loss_of(model, a, b).backward(); o.step()
"""


def trained(start: Start, script: str, ranks: int, batch: int) -> tuple[dict[str, torch.Tensor], np.ndarray, Run]:
    run = start(script.replace("BATCH", str(batch)), ranks=ranks, outputs=("model",)).wait(90)
    assert run.state == "succeeded", run.result
    return load_file(run.dir / "outputs" / "model.safetensors"), run.series()["loss"].value, run


def test_two_ranks_equal_one_process_with_twice_the_batch(start: Start) -> None:
    alone, curve, _ = trained(start, HEAD + LOOP, ranks=1, batch=8)
    together, curve_together, run = trained(start, HEAD + LOOP, ranks=2, batch=4)
    for name, weight in alone.items():
        torch.testing.assert_close(together[name], weight, rtol=0, atol=1e-6)
    np.testing.assert_allclose(curve_together, curve, rtol=0, atol=1e-6)
    assert run.result is not None
    assert "2 ranks: gradients averaged, train loader sharded, global batch 2 × 4" in run.result["notes"]


VALIDATE = """
o = torch.optim.SGD(model.parameters(), lr=0.1)
train, check = loader(shuffle=True), loader()
for a, b in train:
    o.zero_grad(); loss_of(model, a, b).backward(); o.step()
with torch.no_grad():
    print("validated", sum(len(a) for a, _ in check), "in", len(check))
print("trained in", len(train))
"""


def test_a_loop_without_gradients_sees_all_data_on_every_rank(start: Start) -> None:
    _, _, run = trained(start, HEAD + VALIDATE, ranks=2, batch=4)
    for rank in (0, 1):
        assert printed(run, rank).splitlines() == ["validated 37 in 10", "trained in 5"]


LENGTHS = """
o = torch.optim.SGD(model.parameters(), lr=0.1)
subset = torch.utils.data.SubsetRandomSampler(range(16))
for train in (loader(shuffle=True), loader(), loader(sampler=subset)):
    before = len(train)
    with torch.no_grad():
        steps = 0
    for a, b in train:
        o.zero_grad(); loss_of(model, a, b).backward(); o.step(); steps += 1
    print(before == steps == len(train))
check = loader()
before = len(check)
with torch.no_grad():
    print(before, sum(1 for _ in check))
"""


def test_a_length_asked_before_the_loop_is_the_number_of_its_steps(start: Start) -> None:
    _, _, run = trained(start, HEAD + LENGTHS, ranks=2, batch=4)
    for rank in (0, 1):
        assert printed(run, rank).splitlines() == ["True", "True", "True", "5 10"]
    assert run.result is not None
    assert any("len() of a loader was asked with gradients enabled" in note for note in run.result["notes"])


def test_a_loop_with_gradients_that_trains_nothing_is_reported(start: Start) -> None:
    forgot = VALIDATE.replace("with torch.no_grad():", "if True:")
    _, _, run = trained(start, HEAD + forgot, ranks=2, batch=4)
    assert run.result is not None
    assert any("nothing was trained" in note and "torch.no_grad()" in note for note in run.result["notes"])


def test_a_note_says_if_ranks_train_on_the_same_data(start: Start) -> None:
    loop = "o = torch.optim.SGD(model.parameters(), lr=0.1)\n" + 3 * "loss_of(model, X, y).backward(); o.step()\n"
    _, _, run = trained(start, HEAD + loop, ranks=2, batch=4)
    assert run.result is not None
    assert any("every rank trains on the same data" in note for note in run.result["notes"])


DDP = """
import torch.distributed as dist
dist.init_process_group("gloo")
torch.manual_seed(0)
ddp = nn.parallel.DistributedDataParallel(net())
o = torch.optim.SGD(ddp.parameters(), lr=0.1)
for a, b in loader():
    o.zero_grad(); loss_of(ddp, a, b).backward(); o.step()
print(len(loader()), float(sum(p.sum() for p in ddp.parameters())))
"""


def test_code_that_distributes_itself_is_not_touched(start: Start) -> None:
    run = start((HEAD + DDP).replace("BATCH", "4"), ranks=2).wait(90)
    assert run.state == "succeeded", run.result
    assert printed(run, 0) == printed(run, 1)
    assert printed(run, 0).startswith("10 ")
    assert run.result is not None
    assert any("mlnb shards no data" in note for note in run.result["notes"])


def test_code_that_distributes_itself_without_a_name_that_shows_it_is_not_touched(start: Start) -> None:
    hidden = DDP.replace("dist.init_process_group(", "getattr(dist, 'init_process' + '_group')(")
    hidden = hidden.replace(
        "nn.parallel.DistributedDataParallel(", "getattr(nn.parallel, 'Distributed' + 'DataParallel')("
    )
    run = start((HEAD + hidden).replace("BATCH", "4"), ranks=2).wait(90)
    assert run.state == "succeeded", run.result
    assert printed(run, 0) == printed(run, 1)
    assert printed(run, 0).startswith("10 ")
    assert run.result is not None
    (note,) = run.result["notes"]
    assert note.startswith("the code has made a process group of its own: mlnb shards no data")


ACCELERATE = """
from accelerate import Accelerator
accelerator = Accelerator(cpu=True)
model, o, data = accelerator.prepare(model, torch.optim.SGD(model.parameters(), lr=0.1), loader())
seen = 0
for a, b in data:
    o.zero_grad(); accelerator.backward(loss_of(model, a, b)); o.step(); seen += len(a)
print(accelerator.num_processes, seen, float(sum(p.sum() for p in model.parameters())))
"""

LIGHTNING = """
import lightning
class Module(lightning.LightningModule):
    def __init__(self):
        super().__init__(); self.net = net()
    def training_step(self, batch, index): return loss_of(self.net, *batch)
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), lr=0.1)
quiet = dict(logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False)
trainer = lightning.Trainer(accelerator="cpu", devices=2, strategy="ddp", max_epochs=1, **quiet)
module = Module()
trainer.fit(module, loader())
print(trainer.world_size, trainer.global_step, float(sum(p.sum() for p in module.parameters())))
"""

SHARDED = """
import torch.distributed as dist
from torch.distributed.fsdp import fully_shard
dist.init_process_group("gloo")
fully_shard(model, mesh=dist.device_mesh.init_device_mesh("cpu", (2,)))
o = torch.optim.SGD(model.parameters(), lr=0.1)
for a, b in itertools.islice(loader(), 3):
    loss = loss_of(model, a, b); o.zero_grad(); loss.backward(); o.step()
print(dist.get_world_size(), 3, loss.item() * 0)
"""

# a stand-in: Horovod itself builds against MPI and torch's sources, which is not to be had here; its API over gloo
HOROVOD = """
import sys, types, torch.distributed as dist
hvd = types.ModuleType("horovod.torch")
sys.modules["horovod"], sys.modules["horovod.torch"] = types.ModuleType("horovod"), hvd
hvd.init, hvd.size, hvd.rank = lambda: dist.init_process_group("gloo"), dist.get_world_size, dist.get_rank
def broadcast_parameters(state, root_rank):
    for value in state.values(): dist.broadcast(value, root_rank)
def averaging(optimizer):
    step = optimizer.step
    def stepped():
        for group in optimizer.param_groups:
            for p in group["params"]: dist.all_reduce(p.grad); p.grad /= hvd.size()
        step()
    optimizer.step = stepped
    return optimizer
hvd.broadcast_parameters, hvd.DistributedOptimizer = broadcast_parameters, averaging

import horovod.torch as hvd
hvd.init()
data = TensorDataset(X, y)
sampler = torch.utils.data.distributed.DistributedSampler(data, num_replicas=hvd.size(), rank=hvd.rank())
hvd.broadcast_parameters(model.state_dict(), root_rank=0)
o = hvd.DistributedOptimizer(torch.optim.SGD(model.parameters(), lr=0.1))
seen = 0
for a, b in torch.utils.data.DataLoader(data, batch_size=4, sampler=sampler):
    o.zero_grad(); loss_of(model, a, b).backward(); o.step(); seen += len(a)
print(hvd.size(), seen, float(sum(p.sum() for p in model.parameters())))
"""


@pytest.mark.parametrize(
    ("package", "script", "expected"),
    [
        ("torch", HOROVOD, "2 19 "),
        ("accelerate", ACCELERATE, "2 20 "),
        ("lightning", LIGHTNING, "2 5 "),
        ("torch", SHARDED, "2 3 "),
    ],
)
def test_frameworks_that_distribute_work_as_under_torchrun(
    start: Start, package: str, script: str, expected: str
) -> None:
    pytest.importorskip(package)
    run = start((HEAD + script).replace("BATCH", "4"), ranks=2, cpus=1).wait(100)
    assert run.state == "succeeded", run.result
    last = [run.logs(rank, "out").splitlines()[-1] for rank in (0, 1)]
    assert last[0] == last[1]  # the same weights on both
    assert last[0].startswith(expected)
    assert run.result is not None
    assert sum("mlnb shards no data" in note for note in run.result["notes"]) == 1
    assert len(run.series()["loss"]) == (3 if script is SHARDED else 5)


def test_an_optimizer_may_step_before_there_are_gradients(start: Start) -> None:
    loop = "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\noptimizer.step()\n"
    loop += "for a, b in loader():\n    loss_of(model, a, b).backward()\n    optimizer.step()\n"
    run = start((HEAD + loop).replace("BATCH", "4"), ranks=2).wait(90)
    assert run.state == "succeeded", run.reason


def test_parallel_none_trains_independent_copies(start: Start) -> None:
    loop = LOOP.replace("range(2)", "range(1)")
    run = start((HEAD + loop + "print(sum(1 for _ in loader()))").replace("BATCH", "4"), ranks=2, parallel="none").wait(
        90
    )
    assert run.state == "succeeded", run.result
    assert run.logs(1, "out") == "10\n"


def test_a_backward_that_reaches_no_parameter_of_an_optimizer_averages_nothing(start: Start) -> None:
    script = """
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
point = torch.zeros(4, requires_grad=True)
for _ in range(2):
    (point - 1).square().sum().backward()
print(point.grad.tolist())
"""
    run = start(HEAD.replace("BATCH", "4") + script, ranks=2).wait(90)
    assert run.state == "succeeded", run.reason
    assert run.logs(1, "out") == "[-4.0, -4.0, -4.0, -4.0]\n"


@pytest.mark.parametrize("world", [2, 3, 4])
@pytest.mark.parametrize("total", [1, 7, 8, 12, 24, 25])
def test_every_sample_counts_once(world: int, total: int) -> None:
    batches = [list(range(start, min(start + 4, total))) for start in range(0, total, 4)]
    shards = [ShardedBatches(batches, rank, world, drop_last=False) for rank in range(world)]
    drawn = [list(shard) for shard in shards]
    assert {len(batches_of_rank) for batches_of_rank in drawn} == {len(shards[0])}  # all ranks step equally often
    for step in range(len(shards[0])):
        parts = [drawn[rank][step] for rank in range(world)]
        weights = [shards[rank].weights[step] for rank in range(world)]
        assert sum(weights) == pytest.approx(world)
        expected = list(range(step * 4 * world, min((step + 1) * 4 * world, total)))
        assert [i for part, weight in zip(parts, weights, strict=True) if weight for i in part] == expected
        mean = sum(weight * np.mean(part) for part, weight in zip(parts, weights, strict=True)) / world
        assert mean == pytest.approx(np.mean(expected))


def test_ranks_get_the_batches_of_a_stream_in_turn() -> None:
    dealt = [list(shard_stream(["a", "b", "c"], rank, 2, lambda _: 1)) for rank in range(2)]
    assert dealt == [[("a", 1.0), ("c", 2.0)], [("b", 1.0), ("c", 0.0)]]


def test_a_rank_without_samples_gets_one_at_weight_zero() -> None:
    assert split([[5]], 0, 2) == ([5], 0.0)
    assert split([[5]], 1, 2) == ([5], 2.0)
