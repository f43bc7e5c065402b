"""The plan: what goes, what comes back, where it runs and as what, before anything is submitted."""

from __future__ import annotations

import os

from mlnb.api.units import say_size
from mlnb.capture import Captured
from mlnb.targets import Offer, Target
from mlnb.task import Task

_SHOWN = 12


def plan(captured: Captured, task: Task, target: Target, offer: Offer) -> str:
    """The plan in plain words."""
    total = sum(item.size for item in captured.items)
    rows = [f"runs on    {target.name}: {'; '.join(offer.words)}"]
    rows.append(
        f"takes      {len(captured.items)} names, {say_size(total)}"
        if captured.items
        else "takes      nothing of the session"
    )
    items = sorted(captured.items, key=lambda item: -item.size)
    width = max((len(item.name) for item in items[:_SHOWN]), default=0)
    rows += [
        f"             {item.name:<{width}}  {item.kind:<10} {_size(item.size):>8}  {item.detail}".rstrip()
        for item in items[:_SHOWN]
    ]
    if len(items) > _SHOWN:
        rows.append(f"             and {len(items) - _SHOWN} more")
    back = ", ".join(captured.outputs) or "nothing"
    rows.append(f"brings     {back}")
    if captured.deletes:
        rows.append(f"deletes    {', '.join(captured.deletes)}")
    rows.append(
        f"with       Python {task.environment.get('python')}, torch {task.environment.get('torch') or 'not loaded here'}, seed {task.seed}"
    )
    names = task.environment.get("env") or []
    if names:
        rows.append(f"variables  {', '.join(names)} (values are written nowhere)")
    rows += [f"note       {note}" for note in captured.notes]
    return os.linesep.join(rows)


def _size(count: int) -> str:
    return say_size(count) if count else ""
