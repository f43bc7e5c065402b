"""Loops as people write them, and the program that runs many of them, one after the other, in one process.

Each loop trains ``model`` (or the tensors in ``weights``) with batches of ``BATCH`` samples, and may append to ``read``
what it reads on the way.
"""

from __future__ import annotations

import json

from tests.node.parallel.batch_norm_loops import BATCH_NORM

HEAD = """
import copy, itertools, json, math, torch, torch.nn.functional as F
from torch import nn
from torch.optim import lr_scheduler
from torch.utils.data import DataLoader, TensorDataset
torch.set_default_dtype(torch.float64)
made = torch.Generator().manual_seed(5)
X = torch.randn(53, 4, generator=made)
y = X.sum(1, keepdim=True).tanh() + torch.arange(53.)[:, None] / 20
classes = (X[:, 0] > 0).long() + (X[:, 1] > 0)
def net(out=1): return nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, out))
def loader(*tensors, **more): return DataLoader(TensorDataset(*(tensors or (X, y))), batch_size=BATCH, **more)
def loss_of(model, a, b): return (model(a) - b).square().mean()
def train(model, o, data, **more):
    for a, b in data:
        loss = loss_of(model, a, b); o.zero_grad(); loss.backward(); o.step(); read.append(loss.item())
"""

RUN = """
for name, code in json.loads({loops!r}).items():
    torch.manual_seed(1)
    model = net(); weights = []; read = []
    names = dict(globals())
    exec(compile(code, name, "exec"), names)
    tensors = names["weights"] or [*names["model"].parameters(), *names["model"].buffers()]
    print(json.dumps([name, [t.reshape(-1).tolist() for t in tensors], [float(one) for one in names["read"]]]))
"""


def program(loops: dict[str, str], batch: int) -> str:
    """A script that runs ``loops`` and prints a line of JSON for each: its name, weights, and what was read."""
    return HEAD.replace("BATCH", str(batch)) + RUN.format(loops=json.dumps(loops))


OPTIMIZERS = {
    f"optimizer {name}": f"o = torch.optim.{call}\nfor epoch in range(2): train(model, o, loader(shuffle=True))"
    for name, call in {
        "SGD": "SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01)",
        "Adam": "Adam(model.parameters(), lr=0.01, amsgrad=True)",
        "AdamW": "AdamW([{'params': model[0].parameters(), 'lr': 0.02}, {'params': model[2].parameters()}], lr=0.01)",
        "RMSprop": "RMSprop(model.parameters(), lr=0.01, centered=True)",
        "Adagrad": "Adagrad(model.parameters(), lr=0.05)",
        "Adadelta": "Adadelta(model.parameters())",
        "Rprop": "Rprop(model.parameters(), lr=0.01)",
        "ASGD": "ASGD(model.parameters(), lr=0.05)",
        "NAdam": "NAdam(model.parameters(), lr=0.01, foreach=False)",
    }.items()
}

WITHOUT_OPTIMIZER = {
    "manual SGD of a module": """
for a, b in loader(shuffle=True):
    loss = loss_of(model, a, b); loss.backward(); read.append(loss.item())
    with torch.no_grad():
        for p in model.parameters(): p -= 0.1 * p.grad; p.grad.zero_()
""",
    "manual SGD of tensors, by .data": """
w = torch.randn(4, 1, requires_grad=True); b0 = torch.zeros(1, requires_grad=True); weights = [w, b0]
for epoch in range(2):
    for a, b in loader():
        loss = ((a @ w + b0 - b) ** 2).mean(); loss.backward(); read.append(loss.item())
        for p in weights: p.data.add_(p.grad, alpha=-0.05); p.grad = None
""",
    "tensors made anew in each step": """
w = torch.randn(4, 1, requires_grad=True)
for a, b in loader(shuffle=True):
    loss = ((a @ w - b) ** 2).mean(); loss.backward()
    w = (w - 0.05 * w.grad).detach().requires_grad_()
weights = [w]
""",
    "torch.autograd.grad": """
for a, b in loader(shuffle=True):
    loss = loss_of(model, a, b)
    gradients = torch.autograd.grad(loss, list(model.parameters())); read.append(loss.item())
    with torch.no_grad():
        for p, g in zip(model.parameters(), gradients): p.sub_(g, alpha=0.1)
""",
    "torch.autograd.backward of two losses": """
o = torch.optim.SGD(model.parameters(), lr=0.05)
for a, b in loader(shuffle=True):
    o.zero_grad(); torch.autograd.backward([loss_of(model, a, b), model(a).abs().mean()]); o.step()
""",
    "an optimizer of one's own": """
class Lion(torch.optim.Optimizer):
    def __init__(self, params, lr): super().__init__(params, dict(lr=lr))
    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for p in group["params"]:
                m = self.state[p].setdefault("m", torch.zeros_like(p))
                p.sub_((0.9 * m + 0.1 * p.grad).sign(), alpha=group["lr"]); m.mul_(0.99).add_(p.grad, alpha=0.01)
train(model, Lion(model.parameters(), 0.01), loader(shuffle=True))
""",
    "an optimizer that is no torch.optim": """
class Plain:
    def __init__(self, params): self.params = list(params)
    def zero_grad(self):
        for p in self.params: p.grad = None
    def step(self):
        for p in self.params: p.data = p.data - 0.1 * p.grad
train(model, Plain(model.parameters()), loader(shuffle=True))
""",
    "LBFGS with a line search": """
o = torch.optim.LBFGS(model.parameters(), lr=0.5, max_iter=5, line_search_fn="strong_wolfe")
for a, b in loader():
    def closure():
        o.zero_grad(); loss = loss_of(model, a, b); loss.backward(); return loss
    read.append(float(o.step(closure)))
""",
    "gradients of gradients": """
o = torch.optim.SGD(model.parameters(), lr=0.05); ps = list(model.parameters())
for a, b in loader(shuffle=True):
    loss = loss_of(model, a, b)
    first = torch.autograd.grad(loss, ps, create_graph=True)
    penalty = sum(g.square().sum() for g in first)
    o.zero_grad(); (loss + 0.01 * penalty).backward(); o.step()
""",
    "an inner step through which is differentiated": """
o = torch.optim.SGD(model.parameters(), lr=0.05); ps = dict(model.named_parameters())
for a, b in loader(shuffle=True):
    inner = ((torch.func.functional_call(model, ps, a) - b) ** 2).mean()
    gradients = torch.autograd.grad(inner, list(ps.values()), create_graph=True)
    fast = {n: p - 0.1 * g for (n, p), g in zip(ps.items(), gradients)}
    outer = ((torch.func.functional_call(model, fast, a) - b) ** 2).mean()
    o.zero_grad(); outer.backward(); o.step()
""",
    "torch.func.grad": """
from torch.func import functional_call, grad_and_value
weights = {name: p.detach() for name, p in model.named_parameters()}
def loss_of_weights(weights, a, b): return (functional_call(model, weights, a) - b).square().mean()
for a, b in loader(shuffle=True):
    gradients, loss = grad_and_value(loss_of_weights)(weights, a, b); read.append(loss.item())
    weights = {name: w - 0.1 * gradients[name] for name, w in weights.items()}
weights = list(weights.values())
""",
}

PARTS = {
    "unfrozen on the way": """
model[0].requires_grad_(False)
o = torch.optim.SGD(model.parameters(), lr=0.1)
for epoch in range(3):
    model[0].requires_grad_(epoch > 0); train(model, o, loader(shuffle=True))
""",
    "added to the optimizer on the way": """
o = torch.optim.SGD(model[2].parameters(), lr=0.1)
for epoch in range(3):
    if epoch == 1: o.add_param_group({"params": model[0].parameters(), "lr": 0.02})
    train(model, o, loader(shuffle=True))
""",
    "a lazy layer": """
model = nn.Sequential(nn.LazyLinear(8), nn.Tanh(), nn.Linear(8, 1)); model(X[:2])
train(model, torch.optim.Adam(model.parameters(), lr=0.01), loader(shuffle=True))
""",
    "two losses, two models": """
other = net(); o, p = torch.optim.SGD(model.parameters(), lr=0.1), torch.optim.Adam(other.parameters(), lr=0.01)
for a, b in loader(shuffle=True):
    first = loss_of(model, a, b + other(a).detach()); o.zero_grad(); first.backward(); o.step()
    second = loss_of(other, a, b) + model(a).detach().mean(); p.zero_grad(); second.backward(); p.step()
    read += [first.item(), second.item()]
""",
    "activations computed twice": """
from torch.utils.checkpoint import checkpoint
o = torch.optim.SGD(model.parameters(), lr=0.1)
for a, b in loader(shuffle=True):
    hidden = checkpoint(model[0], a.requires_grad_(), use_reentrant=True)
    loss = (model[2](model[1](hidden)) - b).square().mean(); o.zero_grad(); loss.backward(); o.step()
""",
    "gradients of the inputs": """
o = torch.optim.SGD(model.parameters(), lr=0.1)
for a, b in loader(shuffle=True):
    a.requires_grad_(); loss_of(model, a, b).backward(); bad = (a + 0.1 * a.grad.sign()).detach()
    o.zero_grad(); loss = loss_of(model, bad, b); loss.backward(); o.step(); read.append(loss.item())
""",
    "a perturbation that begins at zero": """
o = torch.optim.SGD(model.parameters(), lr=0.1)
for a, b in loader(shuffle=True):
    delta = torch.zeros_like(a, requires_grad=True)
    loss_of(model, a + delta, b).backward(); bad = a + 0.1 * delta.grad.sign()
    o.zero_grad(); loss_of(model, bad, b).backward(); o.step()
""",
    "layer norm and a shared weight": """
model = nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 1))
model[2].weight = model[0].weight
train(model, torch.optim.Adam(model.parameters(), lr=0.01), loader(shuffle=True))
""",
    "sparse gradients of an embedding": """
model = nn.Embedding(20, 1, sparse=True); o = torch.optim.SparseAdam(model.parameters(), lr=0.1)
for i, b in loader(torch.arange(53) % 20, y, shuffle=True):
    loss = (model(i) - b).square().mean(); o.zero_grad(); loss.backward(); o.step(); read.append(loss.item())
""",
    "a part of the model that only some batches reach": """
extra = nn.Linear(4, 1); o = torch.optim.SGD([*model.parameters(), *extra.parameters()], lr=0.1)
for turn, (a, b) in enumerate(loader(shuffle=True)):
    loss = loss_of(model, a, b)
    if turn % 2: loss = loss + extra(a).square().mean()
    o.zero_grad(); loss.backward(); o.step()
""",
    "gradients that the script keeps": """
o = torch.optim.SGD(model.parameters(), lr=0.1); kept = []
for a, b in loader(shuffle=True):
    o.zero_grad(); loss_of(model, a, b).backward(); o.step()
    kept.append((model[0].weight.grad, model[2].weight.grad.numpy()))
for turn, (first, last) in enumerate(kept):  # in place of a momentum: later steps have not overwritten them
    with torch.no_grad():
        model[0].weight -= first / (turn + 1); model[2].weight -= torch.from_numpy(last) / (turn + 1)
""",
    "a moving average of the weights": """
shadow = copy.deepcopy(model); o = torch.optim.SGD(model.parameters(), lr=0.1)
for a, b in loader(shuffle=True):
    o.zero_grad(); loss_of(model, a, b).backward(); o.step()
    with torch.no_grad():
        for p, q in zip(shadow.parameters(), model.parameters()): p.lerp_(q, 0.1)
model = shadow
""",
}

LOSSES = {
    "cross entropy with label smoothing": """
model = net(3); o = torch.optim.Adam(model.parameters(), lr=0.02); loss_fn = nn.CrossEntropyLoss(label_smoothing=0.1)
for a, b in loader(X, classes, shuffle=True):
    loss = loss_fn(model(a), b); o.zero_grad(); loss.backward(); o.step(); read.append(loss.item())
""",
    "a root of a mean, read before": """
o = torch.optim.SGD(model.parameters(), lr=0.1)
for a, b in loader(X[:48], y[:48], shuffle=True):
    loss = F.smooth_l1_loss(model(a), b); read.append(loss.item()); o.zero_grad(); loss.backward(); o.step()
""",
    "a loss of parts that are read": """
o = torch.optim.SGD(model.parameters(), lr=0.1)
for a, b in loader(shuffle=True):
    fit, size = F.l1_loss(model(a), b), sum(p.square().sum() for p in model.parameters())
    loss = fit + 0.01 * size; o.zero_grad(); loss.backward(); o.step(); read += [fit.item(), size.item(), loss.item()]
""",
    "a running sum of tensors": """
o = torch.optim.SGD(model.parameters(), lr=0.1); total = torch.zeros(())
for a, b in loader(X[:48], y[:48], shuffle=True):
    loss = loss_of(model, a, b); total += loss.detach(); o.zero_grad(); loss.backward(); o.step()
read.append(total / len(loader(X[:48], y[:48])))
""",
    "binary cross entropy": """
o = torch.optim.SGD(model.parameters(), lr=0.3)
for a, b in loader(X, (X[:, :1] > 0).double(), shuffle=True):
    loss = F.binary_cross_entropy_with_logits(model(a), b); o.zero_grad(); loss.backward(); o.step()
    read.append(float(loss.detach().cpu().numpy()))
""",
}

SCHEDULES = {
    **{
        f"schedule {name}": f"""
o = torch.optim.SGD(model.parameters(), lr=0.2); data = loader(shuffle=True); s = lr_scheduler.{call}
for epoch in range(3):
    for a, b in data:
        o.zero_grad(); loss_of(model, a, b).backward(); o.step()
        if {each_step}: s.step()
    if not {each_step}: s.step()
    read.append(o.param_groups[0]["lr"])
"""
        for name, call, each_step in (
            ("cosine", "CosineAnnealingLR(o, 3)", False),
            ("one cycle", "OneCycleLR(o, 0.3, epochs=3, steps_per_epoch=len(data))", True),
            ("warm-up", "LambdaLR(o, lambda step: min(1, (step + 1) / len(data)))", True),
        )
    },
    "a plateau of the training loss": """
o = torch.optim.SGD(model.parameters(), lr=0.6); s = lr_scheduler.ReduceLROnPlateau(o, patience=0, factor=0.5)
for epoch in range(6):
    total = 0
    for a, b in loader(X[:48], y[:48]):
        loss = loss_of(model, a, b); o.zero_grad(); loss.backward(); o.step(); total += loss.item()
    s.step(total); read.append(o.param_groups[0]["lr"])
""",
    "ends early, best weights back": """
o = torch.optim.SGD(model.parameters(), lr=0.9); best, bad = math.inf, 0
for epoch in range(8):
    for a, b in loader(X[:48], y[:48], shuffle=True):
        loss = loss_of(model, a, b); o.zero_grad(); loss.backward(); o.step()
    if loss < best: best, bad, state = loss.item(), 0, copy.deepcopy(model.state_dict())
    else: bad += 1
    read.append(bad)
    if bad == 2: break
model.load_state_dict(state)
""",
    "steps left out for NaN": """
X2 = X[:48].clone(); X2[7] = math.nan; o = torch.optim.SGD(model.parameters(), lr=0.1)
for a, b in loader(X2, y[:48]):
    loss = loss_of(model, a, b)
    if not torch.isfinite(loss): read.append(-1); continue
    o.zero_grad(); loss.backward(); o.step(); read.append(loss.item())
""",
    "steps left out for a large gradient": """
o = torch.optim.SGD(model.parameters(), lr=0.1)
for a, b in loader(shuffle=True):
    o.zero_grad(); loss = loss_of(model, a, b); loss.backward()
    if nn.utils.clip_grad_norm_(model.parameters(), 1e9) < 2.5: o.step(); read.append(loss.item())
""",
}

BATCHES = {
    "accumulated, the rest stepped at the end": """
o = torch.optim.SGD(model.parameters(), lr=0.1); data = loader(shuffle=True)
for turn, (a, b) in enumerate(data):
    loss = loss_of(model, a, b) / 2; loss.backward(); read.append(2 * loss.item())
    if turn % 2 or turn + 1 == len(data): o.step(); o.zero_grad()
""",
    "clipped by norm and by value": """
o = torch.optim.SGD(model.parameters(), lr=0.5)
for a, b in loader(shuffle=True):
    o.zero_grad(); loss_of(model, a, b).backward(); nn.utils.clip_grad_norm_(model.parameters(), 0.5)
    nn.utils.clip_grad_value_(model.parameters(), 0.1); o.step()
""",
    "a scaled loss that overflows at first": """
o = torch.optim.SGD(model.parameters(), lr=1e-291)
scaler = torch.amp.GradScaler("cpu", init_scale=2.0**100, backoff_factor=1e-10)
for epoch in range(2):
    for a, b in loader(shuffle=True):
        loss = loss_of(model, a, b) * 1e290; o.zero_grad(); scaler.scale(loss).backward()
        scaler.step(o); scaler.update(); read += [loss.item() / 1e290, scaler.get_scale() / 2.0**100]
""",
    "computed in bfloat16": """
o = torch.optim.SGD(model.parameters(), lr=0.1)
for a, b in loader(shuffle=True):
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=False): loss = loss_of(model, a, b)
    o.zero_grad(); loss.backward(); o.step(); read.append(loss.item())
""",
    "a weighted sampler": """
sampler = torch.utils.data.WeightedRandomSampler(torch.arange(1., 54.), 48)
train(model, torch.optim.SGD(model.parameters(), lr=0.1), loader(sampler=sampler))
""",
    "a subset, workers, a generator": """
sampler = torch.utils.data.SubsetRandomSampler(range(0, 53, 2))
train(model, torch.optim.SGD(model.parameters(), lr=0.1), loader(sampler=sampler, num_workers=1))
train(model, torch.optim.SGD(model.parameters(), lr=0.1), loader(shuffle=True, generator=torch.Generator()))
""",
    "drop_last, and a loop that is left": """
o = torch.optim.SGD(model.parameters(), lr=0.1); train(model, o, loader(shuffle=True, drop_last=True))
train(model, o, itertools.islice(loader(shuffle=True), 2))
""",
    "a split, validated": """
first, second = torch.utils.data.random_split(TensorDataset(X, y), [40, 13])
o = torch.optim.SGD(model.parameters(), 0.1)
for epoch in range(2):
    train(model, o, DataLoader(first, batch_size=BATCH, shuffle=True))
    with torch.no_grad(): read.append(sum(loss_of(model, a, b).item() for a, b in DataLoader(second, batch_size=5)))
""".replace("BATCH", "loader().batch_size"),
    "fewer samples than ranks in the last batch": """
train(model, torch.optim.SGD(model.parameters(), lr=0.1), loader(X[:49], y[:49], shuffle=True))
""",
    "one loader over epochs, with a generator of its own": """
data = loader(shuffle=True, generator=torch.Generator().manual_seed(3))
o = torch.optim.Adam(model.parameters(), lr=0.01)
for epoch in range(3): train(model, o, data)
""",
    "gradients cleared in place": """
o = torch.optim.SGD(model.parameters(), lr=0.1)
for a, b in loader(shuffle=True): o.zero_grad(set_to_none=False); loss_of(model, a, b).backward(); o.step()
""",
}

ZOO = {**OPTIMIZERS, **WITHOUT_OPTIMIZER, **PARTS, **BATCH_NORM, **LOSSES, **SCHEDULES, **BATCHES}
