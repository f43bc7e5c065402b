"""The node program as one zip file, which is sent with each run: an image with PyTorch needs no mlnb of its own."""

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

_LOWEST = ("errors", "files", "manifest", "rundir", "runinfo", "task", "units", "version")
_FILES = ("__init__.py", *(f"{name}.py" for name in _LOWEST), "node/**/*.py")
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNCHECKED_HASH = (1).to_bytes(4, "little")
"""Flags of a .pyc that is never compared with its source (PEP 552)."""


@dataclass(frozen=True)
class NodeZip:
    """The zip.

    Attributes
    ----------
    digest
        SHA-256 of the sources in it and of the Python version that they are compiled for.
    data
        the content of the file.
    """

    digest: str
    data: bytes


@functools.lru_cache(maxsize=1)
def node_zip() -> NodeZip:
    """The zip of this mlnb's node program, and of nvidia-ml-py's only module where that is installed.

    It holds each module's source and its bytecode for this Python, since an import from a zip caches no bytecode, and
    compiling takes longer than everything else that the node program does before it runs the script
    (``tests/benchmarks/slurm.py``). Another Python uses the sources.
    """
    root = Path(__file__).parents[1]
    files = {f"mlnb/{path.relative_to(root)}": path for pattern in _FILES for path in sorted(root.glob(pattern))}
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
    return NodeZip(digest.hexdigest(), buffer.getvalue())


def _compiled(name: str, path: Path, source: bytes) -> bytes:
    """The content of a .pyc file; from this Python's bytecode cache if it is there."""
    module = name.removesuffix(".py").replace("/", ".")
    code = SourceFileLoader(module, str(path)).get_code(module)
    assert code is not None  # a module with source has code
    header = importlib.util.MAGIC_NUMBER + _UNCHECKED_HASH + importlib.util.source_hash(source)
    return header + marshal.dumps(_renamed(code, name), 2)  # newer formats depend on reference counts: not reproducible


def _renamed(code: CodeType, name: str) -> CodeType:
    """``code``, and all code objects in it, with ``name`` as their file name: no path of this machine is sent."""
    constants = tuple(
        _renamed(constant, name) if isinstance(constant, CodeType) else constant for constant in code.co_consts
    )
    return code.replace(co_filename=name, co_consts=constants)
