"""Signed manifests: files that crossed a network are trusted by their digests, not by owner and mode.

Each run on a target without a shared file system has its own key, which the session keeps and the job gets in its
environment. Files that are unpickled on the other side are listed with their digests, and the list is signed with the
key.
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
"""The environment variable that holds the key of a run in its job; mlnb never writes its value to a script or log."""

NAME = "manifest.json"
"""The name of a folder's manifest. A second writer in the folder has its own: ``manifest.rank-1.json``."""

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


def write(folder: Path, names: Iterable[str], key: str, manifest: str = NAME, *, final_name: str | None = None) -> None:
    """List files of ``folder`` with their digests, signed with ``key``.

    A file that the manifest already has, with the same size and time of change, is not read again.

    Parameters
    ----------
    manifest
        the name of the manifest file; each writer has its own.
    final_name
        the name that the folder will have when it is read, if it differs.

    Raises
    ------
    StorageError
        if the manifest can't be written.
    """
    before = (read_json(folder / manifest) or {}).get("files", {})
    files = {}
    for name in sorted(names):
        info = (folder / name).stat()
        stamp = [info.st_size, info.st_mtime_ns]
        old = before.get(name, {})
        files[name] = old if old.get("stamp") == stamp else {"sha256": digest(folder / name), "stamp": stamp}
    signature = _signature(final_name or folder.name, _digests(files), key)
    write_json(folder / manifest, {"files": files, "signature": signature})


def sign(
    folder: Path,
    names: Iterable[str],
    manifest: str = NAME,
    *,
    final_name: str | None = None,
    environ: Mapping[str, str] = os.environ,
) -> None:
    """Like :func:`write`, with the key of the job's run; does nothing if it has none."""
    key = environ.get(VARIABLE)
    if key is not None:
        write(folder, names, key, manifest, final_name=final_name)


def read(folder: Path, key: str) -> dict[str, str]:
    """The digests of the files of ``folder`` by name, from all of its manifests; empty if there are none.

    Raises
    ------
    NotTrusted
        if a manifest is not signed with ``key``.
    """
    digests: dict[str, str] = {}
    for path in sorted(folder.glob("manifest*.json")):
        digests |= parse(path.read_bytes(), folder.name, key)
    return digests


def parse(data: bytes, folder: str, key: str) -> dict[str, str]:
    """The digests by file name in one manifest, given the name of its folder.

    Raises
    ------
    NotTrusted
        if it is not signed with ``key``, or can't be parsed.
    """
    try:
        value = json.loads(data)
        digests = _digests(value["files"])
        signature = str(value["signature"])
    except (ValueError, KeyError, TypeError, AttributeError):
        raise NotTrusted(f"the list of files in {folder} can't be parsed: nothing of it is loaded.") from None
    if not hmac.compare_digest(signature, _signature(folder, digests, key)):
        raise NotTrusted(f"the list of files in {folder} is not signed by this run: nothing of it is loaded.")
    return digests


def check(path: Path, digests: Mapping[str, str]) -> None:
    """Refuse a file whose content does not match the manifest of its folder.

    Raises
    ------
    NotTrusted
        if it is not listed, or has another digest.
    """
    if digests.get(path.name) != digest(path):
        raise NotTrusted(f"{path} is not the file that this run wrote: it is not loaded.")


def check_loadable(path: Path, environ: Mapping[str, str] = os.environ) -> None:
    """Refuse a file of a run that someone else could have written, before it is unpickled.

    In a job that has a key, the manifest decides; otherwise owner and mode of the file and its folder do.

    Raises
    ------
    NotTrusted
        if someone else could have written it.
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
    content = json.dumps([folder, sorted(digests.items())])
    return hmac.new(bytes.fromhex(key), content.encode(), "sha256").hexdigest()
