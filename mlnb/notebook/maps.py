"""Maps: whether a run sees the files that the session has mapped; the contents of others are sent as copies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from mlnb.capture import Captured
from mlnb.render.format import format_size
from mlnb.targets.base import Offer, Target


def settle_maps(captured: Captured, target: Target, offer: Offer) -> Captured:
    """Decide which mapped files a run on ``target`` maps itself; a note in the plan says which are copied instead."""
    is_seen = _seen_by(target, offer)
    notes: dict[str, None] = {}
    sizes: dict[str, int] = {}
    for content in (content for stream in captured.streams for content in stream.sink.maps):
        path = str(content.span.path).removesuffix(" (deleted)")
        if content.is_copied:
            notes[f"{content.name} maps {path}, which is not there any more: its content is sent as a copy"] = None
        elif not is_seen(Path(path)):
            content.is_copied = True
            sizes[content.name] = sizes.get(content.name, 0) + content.size
            size = format_size(content.size)
            notes[f"{target.name} does not see {path}, which {content.name} maps: a copy is sent ({size})"] = None
        elif target.name != "local":
            content.write_back()
    items = (replace(item, size=item.size + sizes.get(item.name, 0)) for item in captured.items)
    return replace(captured, items=tuple(items), notes=(*captured.notes, *notes)) if notes else captured


def _seen_by(target: Target, offer: Offer) -> Callable[[Path], bool]:
    """Whether a path of this machine leads to the same file in a run: elsewhere only on a file system known there."""
    folder = Path.cwd().resolve()
    if target.mirror is not None:
        return lambda _path: False
    if "image" in offer.placement:
        return lambda path: path.resolve().is_relative_to(folder)
    if target.name == "local":
        return lambda _path: True
    root = target.workspace.root
    shared = {place.stat().st_dev for place in (folder, root if root.exists() else root.parent) if place.exists()}
    return lambda path: path.stat().st_dev in shared
