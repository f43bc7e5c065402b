"""Signed lists of files: what crossed a network is trusted by its digests, not by its owner and mode.

A run on a target without a shared file system has a key of its own, which the session keeps and the job gets in its
environment. Whoever writes files that are unpickled at the other end lists their digests, signed with that key.
Standard library only.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path

from mlnb.errors import NotTrusted
from mlnb.rundir import check_trusted, read_json, write_json

VARIABLE = "MLNB_RUN_KEY"
"""The environment variable that holds the key of a run in its job; mlnb writes its value into no script and no log."""

NAME = "manifest.json"
"""The list of a folder's files. A second writer in the same folder has one of its own: ``manifest.rank-1.json``."""

_CHUNK = 2**20


def new_key() -> str:
    """A key for one run: 256 random bits in hexadecimal."""
    return secrets.token_hex(32)


def digest(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    sha = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            sha.update(chunk)
    return sha.hexdigest()


def write(folder: Path, names: Iterable[str], key: str, manifest: str = NAME, *, part: str | None = None) -> None:
    """List files of ``folder`` with their digests, signed with ``key``.

    A file that the list has already, with the same size and time of change, is not read again.

    Parameters
    ----------
    manifest
        the name of the list: each writer has one.
    part
        what the folder will be called when it is read, if not as it is now.

    Raises
    ------
    StorageError
        if the list can't be written.
    """
    before = (read_json(folder / manifest) or {}).get("files", {})
    files = {}
    for name in sorted(names):
        info = (folder / name).stat()
        stamp = [info.st_size, info.st_mtime_ns]
        old = before.get(name, {})
        files[name] = old if old.get("stamp") == stamp else {"sha256": digest(folder / name), "stamp": stamp}
    write_json(folder / manifest, {"files": files, "signature": _signature(part or folder.name, _digests(files), key)})


def sign(
    folder: Path,
    names: Iterable[str],
    manifest: str = NAME,
    *,
    part: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Like :func:`write`, in a job whose run has a key; nothing happens elsewhere."""
    key = environ.get(VARIABLE)
    if key is not None:
        write(folder, names, key, manifest, part=part)


def read(folder: Path, key: str) -> dict[str, str]:
    """The digests of the files of ``folder`` by name, from all of its lists; empty where there is no list.

    Raises
    ------
    NotTrusted
        if a list is not signed with ``key``.
    """
    found: dict[str, str] = {}
    for path in sorted(folder.glob("manifest*.json")):
        found |= parse(path.read_bytes(), folder.name, key)
    return found


def parse(data: bytes, folder: str, key: str) -> dict[str, str]:
    """The digests by file name in one list, given the name of the folder that it is of.

    Raises
    ------
    NotTrusted
        if it is not signed with ``key``, or is no list.
    """
    try:
        value = json.loads(data)
        digests = _digests(value["files"])
        signature = str(value["signature"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NotTrusted(f"the list of files in {folder} does not read: nothing of it is loaded.") from None
    if not hmac.compare_digest(signature, _signature(folder, digests, key)):
        raise NotTrusted(f"the list of files in {folder} is not signed by this run: nothing of it is loaded.")
    return digests


def check(path: Path, digests: Mapping[str, str]) -> None:
    """Refuse a file whose content is not what its folder's list says.

    Raises
    ------
    NotTrusted
        if it is not listed, or has another digest.
    """
    if digests.get(path.name) != digest(path):
        raise NotTrusted(f"{path} is not the file that this run wrote: it is not loaded.")


def check_loadable(path: Path, environ: Mapping[str, str] = os.environ) -> None:
    """Refuse a file of a run that someone else could have written, before it is unpickled.

    In a job that has a key, the signed list decides; elsewhere owner and mode of the file and its folder do.

    Raises
    ------
    NotTrusted
        if it could be another's.
    """
    key = environ.get(VARIABLE)
    if key is None:
        check_trusted(path.parent)
        check_trusted(path)
    else:
        check(path, read(path.parent, key))


def _digests(files: Mapping[str, Mapping[str, object]]) -> dict[str, str]:
    return {name: str(entry["sha256"]) for name, entry in files.items()}


def _signature(folder: str, digests: Mapping[str, str], key: str) -> str:
    listed = json.dumps([folder, sorted(digests.items())])
    return hmac.new(bytes.fromhex(key), listed.encode(), "sha256").hexdigest()
