"""The plan of a session of 300 lines."""

from __future__ import annotations

from pathlib import Path

from mlnb.capture import Session, capture
from mlnb.notebook.plan import plan
from mlnb.targets.registry import target
from mlnb.task import Resources, Task

from .timing import Table, times

NET = """\
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(64, 10)

    def forward(self, x):
        return self.layer(x)
"""


def measure(folder: Path) -> Table:
    """Seconds for capture and plan of one cell."""
    table = Table("Capture of a cell in a 300-line session", "ms", "at most 50 ms")
    cells = session()
    namespace: dict[str, object] = {"__name__": "__main__"}
    import linecache
    import sys
    import types

    main = types.ModuleType("__main__")
    main.__dict__.update(namespace)
    before, sys.modules["__main__"] = sys.modules["__main__"], main
    try:
        for number, source in enumerate(cells, 1):
            name = f"<cell-{number}>"
            linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
            exec(compile(source, name, "exec"), main.__dict__)
        cell = (
            "for epoch in range(3):\n    "
            + "\n    ".join(f"total += f{i}(total)" for i in range(60))
            + "\n    loss = net(X).sum()\n    loss.backward()\n    optimizer.step()"
        )
        place = target("local")
        offer = place.offer(Resources())

        def once() -> str:
            found = capture(cell, Session(main.__dict__, history=["", *cells], cwd=Path.cwd()), label="cell [9]")
            return plan(found, Task(script=found.script, environment={}), place, offer)

        first = times(once, 1)
        table.add("capture and plan", times(once, 30))
        table.add("the first one in a kernel", first)
    finally:
        sys.modules["__main__"] = before
    lines = sum(source.count("\n") for source in cells)
    table.rows[
        0
    ].note = f"{lines} lines in {len(cells)} cells, 60 functions that call each other, a module, an optimizer"
    return table


def session() -> list[str]:
    """Cells of about 300 lines in all."""
    cells = ["import math\nimport torch\nfrom torch import nn\n"]
    for part in range(6):
        lines = []
        for i in range(part * 10, part * 10 + 10):
            call = f"f{i - 1}(x) + " if i else ""
            lines.append(f"def f{i}(x):\n    scale = {i} + 1\n    return {call}math.sqrt(abs(x)) / scale\n\n")
        cells.append("".join(lines))
    cells.append(NET)
    cells.append(
        "X = torch.randn(1000, 64)\nnet = Net()\noptimizer = torch.optim.Adam(net.parameters())\ntotal = 0.5\n"
        + "".join(f"setting_{i} = {i}\n" for i in range(40))
    )
    return cells
