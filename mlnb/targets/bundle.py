"""The node program as one zip: it travels with the run, so any PyTorch image works without installing mlnb."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import zipfile
from dataclasses import dataclass
from pathlib import Path

import mlnb

_PARTS = ("__init__.py", "errors.py", "task.py", "rundir.py", "units.py", "node/*.py")
_EPOCH = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True)
class Bundle:
    """A zip by content."""

    digest: str
    data: bytes


@functools.lru_cache(maxsize=1)
def bundle() -> Bundle:
    """The zip of this mlnb's node program, with nvidia-ml-py's one module where it is installed."""
    root = Path(mlnb.__file__).parent
    files = {f"mlnb/{path.relative_to(root)}": path for part in _PARTS for path in sorted(root.glob(part))}
    spec = importlib.util.find_spec("pynvml")
    if spec is not None and spec.origin is not None and spec.origin.endswith("pynvml.py"):
        files["pynvml.py"] = Path(spec.origin)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), path.read_bytes(), zipfile.ZIP_DEFLATED)
    data = buffer.getvalue()
    return Bundle(hashlib.sha256(data).hexdigest(), data)
