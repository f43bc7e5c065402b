"""The plan: what goes, what comes back, where it runs and as what, before anything is submitted."""

from __future__ import annotations

import html
import os

from mlnb.capture import Captured
from mlnb.targets.base import Offer, Target
from mlnb.task import Task
from mlnb.units import format_size

_SHOWN = 12


def plan(captured: Captured, task: Task, target: Target, offer: Offer) -> str:
    """The plan in plain words."""
    total = sum(item.size for item in captured.items)
    first, *others = offer.summary_lines or ("",)
    rows = [f"runs on    {target.name}: {first}", *(f"             {word}" for word in others)]
    count = len(captured.items)
    size = f", {format_size(total)}" if total else ""
    rows.append(f"takes      {count} name{'s' * (count > 1)}{size}" if count else "takes      nothing of the session")
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
    torch = task.environment.get("torch") or "not loaded here"
    rows.append(f"with       Python {task.environment.get('python')}, torch {torch}, seed {task.seed}")
    names = task.environment.get("env") or []
    if names:
        rows.append(f"variables  {', '.join(names)} (mlnb writes their values nowhere)")
    rows += [f"note       {note}" for note in captured.notes]
    return os.linesep.join(rows)


def _size(count: int) -> str:
    return format_size(count) if count else ""


def shown(words: str) -> dict[str, str]:
    """A plan as a MIME bundle: folded to its first lines' gist in HTML, whole as text."""
    rows = dict(line.split(None, 1) for line in words.splitlines() if line and not line[0].isspace())
    gist = f"plan: {rows['takes']} → {rows['runs'].removeprefix('on').strip()} → {rows['brings']}"
    folded = (
        f'<details style="font-size:12px"><summary>{html.escape(gist)}</summary>'
        f'<pre style="font-size:12px">{html.escape(words)}</pre></details>'
    )
    return {"text/plain": words, "text/html": folded}
