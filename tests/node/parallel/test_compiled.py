"""Code that ``torch.jit`` compiles may call what mlnb has replaced on several ranks."""

from __future__ import annotations

from tests.conftest import Start

SCRIPT = """
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

@torch.jit.script
def noise(x: torch.Tensor):
    return torch.where(torch.isnan(x), torch.rand(1), torch.randn(2, 3).sum() * 0 + x)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
    def forward(self, x):
        return noise(self.inner(x))

net = torch.jit.script(Net())
optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
for (x,) in DataLoader(TensorDataset(torch.randn(32, 4)), batch_size=4):
    loss = net(x).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print("trained", net.inner[0].weight.sum().item())
"""


def test_scripts_are_compiled_and_trained(start: Start):
    run = start(SCRIPT, ranks=2, cpus=1).wait(120)
    assert run.state == "succeeded", run.reason
    assert run.logs(0).startswith("trained ")
    assert run.logs(0) == run.logs(1)
    assert any("torch.jit" in note for note in (run.result or {})["notes"])
