"""The node program as one zip: it travels with the run, so any PyTorch image works without installing mlnb."""

from __future__ import annotations

import functools
import hashlib
import importlib.util
import io
import marshal
import zipfile
from dataclasses import dataclass
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import CodeType

_PARTS = ("__init__.py", "errors.py", "task.py", "rundir.py", "units.py", "version.py", "node/**/*.py")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNCHECKED = (1).to_bytes(4, "little")
"""Flags of a .pyc that is never compared with its source (PEP 552)."""


@dataclass(frozen=True)
class Bundle:
    """A zip, and a digest of the sources in it and of the Python that they are compiled for."""

    digest: str
    data: bytes


@functools.lru_cache(maxsize=1)
def bundle() -> Bundle:
    """The zip of this mlnb's node program, with nvidia-ml-py's one module where it is installed.

    Beside each source lies its code as compiled for this Python, since importing from a zip keeps no cache: compiling
    takes longer than all else that the node program does before the script (``tests/benchmarks/slurm.py``). Another
    Python takes the sources.
    """
    root = Path(__file__).parents[1]
    files = {f"mlnb/{path.relative_to(root)}": path for part in _PARTS for path in sorted(root.glob(part))}
    spec = importlib.util.find_spec("pynvml")
    if spec is not None and spec.origin is not None and spec.origin.endswith("pynvml.py"):
        files["pynvml.py"] = Path(spec.origin)
    digest = hashlib.sha256(importlib.util.MAGIC_NUMBER)
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, path in files.items():
            source = path.read_bytes()
            digest.update(f"{name}\0{len(source)}\0".encode() + source)
            for entry, data in ((name, source), (f"{name}c", _compiled(name, path, source))):
                archive.writestr(zipfile.ZipInfo(entry, _EPOCH), data, zipfile.ZIP_DEFLATED)
    return Bundle(digest.hexdigest(), buffer.getvalue())


def _compiled(name: str, path: Path, source: bytes) -> bytes:
    """The .pyc of a module, out of this Python's cache where it has one."""
    module = name.removesuffix(".py").replace("/", ".")
    code = SourceFileLoader(module, str(path)).get_code(module)
    assert code is not None  # a module with source has code
    head = importlib.util.MAGIC_NUMBER + _UNCHECKED + importlib.util.source_hash(source)
    return head + marshal.dumps(_renamed(code, name), 2)  # later versions mark what happens to be shared just now


def _renamed(code: CodeType, name: str) -> CodeType:
    """``code`` and all in it with ``name`` for its file: not this machine's path."""
    constants = tuple(_renamed(one, name) if isinstance(one, CodeType) else one for one in code.co_consts)
    return code.replace(co_filename=name, co_consts=constants)
