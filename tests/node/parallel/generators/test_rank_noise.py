"""Noise differs between ranks while they train on their parts; shuffles and decisions do not."""

from __future__ import annotations

from tests.conftest import Start

SCRIPT = """
import random, torch
from torch.utils.data import DataLoader, Sampler, TensorDataset
X = torch.arange(24.0)[:, None]
model = torch.nn.Linear(1, 1); o = torch.optim.SGD(model.parameters(), lr=0.0)
class Lazy(Sampler):
    def __len__(self): return 24
    def __iter__(self):
        for _ in range(24): yield int(torch.randint(0, 24, (5,))[0])
class Noisy(TensorDataset):
    def __getitem__(self, index): return (self.tensors[0][index], torch.rand(3))
def noise(): return torch.nn.functional.dropout(torch.ones(64)).tolist()
def loop(shard, **more):
    seen, noises, single = [], [], []
    for x, drawn in DataLoader(Noisy(X), batch_size=4, **more):
        noises.append((noise(), torch.randn(3).tolist(), drawn.tolist()))
        single.append((torch.rand(1).item(), random.random(), int(torch.randint(0, 99, (1,)))))
        seen += x.flatten().int().tolist()
        model(x).mean().backward(); o.step()
        with torch.no_grad():
            single.append([int(a) for (a,) in DataLoader(TensorDataset(X), batch_size=24, shuffle=True) for a in a][:4])
    print(noises); print(single); print(seen)
torch.manual_seed(1)
print(noise())
loop(0, shuffle=True)
print(noise(), torch.randperm(9).tolist())
loop(1, shuffle=True, num_workers=1)
print(noise(), torch.randperm(9).tolist())
loop(2, sampler=Lazy())
print(noise(), torch.randperm(9).tolist())
"""


def test_noise_differs_while_ranks_train_and_nothing_else_does(start: Start):
    run = start(SCRIPT, ranks=2).wait(60)
    assert run.state == "succeeded", run.reason
    one, two = (run.logs(rank, "out").splitlines() for rank in (0, 1))
    assert len(one) == len(two) == 13
    same = [a == b for a, b in zip(one, two, strict=True)]
    assert same == [True, *[False, True, False, True] * 3]
    first, second = (eval(lines[1]) for lines in (one, two))
    assert all(a != b for a, b in zip(first, second, strict=True))
    assert all(part != other for a, b in zip(first, second, strict=True) for part, other in zip(a, b, strict=True))
    assert not set(eval(one[3])) & set(eval(two[3]))  # each rank its part of the same shuffle
    assert sorted(eval(one[3]) + eval(two[3])) == list(range(24))
