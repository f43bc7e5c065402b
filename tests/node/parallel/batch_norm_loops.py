"""Loops with batch norm, for the program of loops."""

from __future__ import annotations

BATCH_NORM = {
    "batch norm, and what it counts": """
model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
for epoch in range(2): train(model, torch.optim.Adam(model.parameters(), lr=0.02), loader(shuffle=True))
""",
    "batch norm of images, without affine weights, cumulative": """
model = nn.Sequential(nn.Unflatten(1, (1, 2, 2)), nn.Conv2d(1, 3, 1), nn.BatchNorm2d(3, affine=False, momentum=None),
                      nn.ReLU(), nn.Flatten(), nn.BatchNorm1d(12, track_running_stats=False), nn.Linear(12, 1))
train(model, torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9), loader(shuffle=True))
""",
    "two networks with batch norm against each other": """
def block(out): return nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.LeakyReLU(), nn.Linear(8, out))
model, other = block(4), block(1); o, p = (torch.optim.Adam(one.parameters(), 0.01) for one in (model, other))
for a, b in loader(shuffle=True):
    real, fake = other(a), other(model(a).detach()); p.zero_grad(); (fake.mean() - real.mean()).backward(); p.step()
    o.zero_grad(); loss = -other(model(a)).mean(); loss.backward(); o.step(); read.append(loss.item())
model = nn.Sequential(model, other)
""",
    "batch norm, computed twice": """
from torch.utils.checkpoint import checkpoint
model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1)); o = torch.optim.SGD(model.parameters(), 0.1)
for a, b in loader(shuffle=True):
    loss = (model[2](checkpoint(model[:2], a, use_reentrant=False)) - b).square().mean()
    o.zero_grad(); loss.backward(); o.step(); read.append(loss.item())
""",
    "gradients of gradients through batch norm": """
model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, 1))
o = torch.optim.SGD(model.parameters(), lr=0.05); ps = list(model.parameters())
for a, b in loader(shuffle=True):
    loss = loss_of(model, a, b)
    penalty = sum(g.square().sum() for g in torch.autograd.grad(loss, ps, create_graph=True))
    o.zero_grad(); (loss + 0.01 * penalty).backward(); o.step()
""",
}
