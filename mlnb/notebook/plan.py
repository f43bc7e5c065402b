"""The plan: what is sent, where it runs and what returns, shown before anything is submitted."""

from __future__ import annotations

import html
from collections.abc import Iterable
from dataclasses import dataclass

from mlnb.capture import Captured
from mlnb.render.format import format_size
from mlnb.targets.base import Offer, Target
from mlnb.task import Resources, Task

_MAX_ITEMS = 12
"""How many names the plan lists one by one, the largest first."""

_LABEL_WIDTH = 13


@dataclass(frozen=True)
class Plan:
    """A plan: one line (``Sends 9 names (485 kB) · runs here on 2 cores · returns model``), and a text with details."""

    line: str
    text: str

    def mime_bundle(self, *, brief: bool = False) -> dict[str, str]:
        """The plan as an output: in HTML the line, which unfolds to the text; as plain text the text, or the line."""
        folded = (
            f'<details style="font-size:12px"><summary>{html.escape(self.line)}</summary>'
            f'<pre style="font-size:12px">{html.escape(self.text)}</pre></details>'
        )
        return {"text/plain": self.line if brief else self.text, "text/html": folded}


def plan(captured: Captured, task: Task, target: Target, offer: Offer) -> Plan:
    """The plan of a captured cell."""
    size = sum(item.size for item in captured.items)
    count = _count(len(captured.items), "name") if captured.items else ""
    returned = ", ".join(captured.outputs) or "nothing"
    sends = f"Sends {count}{f' ({format_size(size)})' if size else ''}" if count else "Sends nothing"
    line = " · ".join([sends, f"runs {_where(target.name, offer.resources)}", f"returns {returned}"])
    first, *others = offer.summary_lines or ("",)
    rows = [
        _row("runs on", f"{target.name}: {first}"),
        *(_row("", other) for other in others),
        _row("sends", f"{count}{f', {format_size(size)}' if size else ''}" if count else "nothing of the session"),
        *_items(captured),
        _row("returns", returned),
    ]
    if captured.deletes:
        rows.append(_row("deletes", ", ".join(captured.deletes)))
    torch = task.environment.get("torch") or "not installed here"
    rows.append(_row("environment", f"Python {task.environment.get('python')}, torch {torch}, {_randomness(task)}"))
    variables = task.environment.get("env") or []
    if variables:
        rows.append(_row("variables", f"{', '.join(variables)} (mlnb does not store their values)"))
    if captured.process.environ:
        rows.append(_row("variables", f"{', '.join(sorted(captured.process.environ))}: as in this session"))
    rows += [_row("note", note) for note in captured.notes]
    return Plan(line, "\n".join(rows))


def _randomness(task: Task) -> str:
    return "random numbers as in this session" if task.seed is None else f"seed {task.seed}"


def _row(label: str, text: str) -> str:
    return f"{label:<{_LABEL_WIDTH}}{text}"


def _items(captured: Captured) -> Iterable[str]:
    """What is sent, a row each, the largest first."""
    items = sorted(captured.items, key=lambda item: -item.size)
    shown = items[:_MAX_ITEMS]
    width = max((len(item.name) for item in shown), default=0)
    for item in shown:
        size = format_size(item.size) if item.size else ""
        yield _row("", f"{item.name:<{width}}  {item.kind:<10} {size:>8}  {item.detail}").rstrip()
    if len(items) > len(shown):
        yield _row("", f"and {len(items) - len(shown)} more")


def _where(name: str, resources: Resources) -> str:
    """Where it runs, and on which resources: ``here on 2 cores``, ``on slurm with 8 GPUs on 2 nodes``."""
    gpus = (resources.gpus or 0) * resources.nodes
    cores = (resources.cpus or 0) * resources.world_size
    hardware = _count(gpus, "GPU") if gpus else _count(cores, "core") if cores else ""
    nodes = f" on {resources.nodes} nodes" if resources.nodes > 1 else ""
    if name == "local":
        return f"here on {hardware}" if hardware else "here"
    return f"on {name}{f' with {hardware}' if hardware else ''}{nodes}"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
