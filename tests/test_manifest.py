"""Signed lists of files: what is not exactly what the signer wrote is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlnb import manifest
from mlnb.errors import NotTrusted

KEY = "ab" * 32


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "outputs").mkdir(mode=0o700)
    for name, data in (("a.pickle", b"one"), ("b.pickle", b"two")):
        (tmp_path / "outputs" / name).write_bytes(data)
    manifest.write(tmp_path / "outputs", ["a.pickle", "b.pickle"], KEY)
    return tmp_path / "outputs"


def test_a_listed_file_is_loaded(folder: Path):
    for name in ("a.pickle", "b.pickle"):
        manifest.check_loadable(folder / name, {manifest.VARIABLE: KEY})


def test_a_changed_file_is_refused(folder: Path):
    (folder / "a.pickle").write_bytes(b"owned")
    with pytest.raises(NotTrusted, match=r"a\.pickle is not the file that this run wrote"):
        manifest.check_loadable(folder / "a.pickle", {manifest.VARIABLE: KEY})


def test_a_file_that_is_not_listed_is_refused(folder: Path):
    (folder / "c.pickle").write_bytes(b"one")
    with pytest.raises(NotTrusted):
        manifest.check_loadable(folder / "c.pickle", {manifest.VARIABLE: KEY})


def test_a_signature_is_valid_for_one_key_folder_and_content_only(folder: Path):
    data = (folder / manifest.NAME).read_bytes()
    assert manifest.parse(data, "outputs", KEY)
    forged = json.loads(data)
    forged["files"]["a.pickle"]["sha256"] = manifest.digest(folder / "b.pickle")
    for content, part, key in (
        (data, "outputs", "cd" * 32),
        (data, "checkpoints", KEY),
        (json.dumps(forged).encode(), "outputs", KEY),
    ):
        with pytest.raises(NotTrusted, match="not signed by this run"):
            manifest.parse(content, part, key)


@given(st.binary(max_size=200) | st.recursive(st.none() | st.text(), st.lists).map(lambda v: json.dumps(v).encode()))
def test_anything_else_is_refused_in_one_line(data: bytes):
    with pytest.raises(NotTrusted) as caught:
        manifest.parse(data, "outputs", KEY)
    assert "\n" not in str(caught.value)


def test_without_a_key_owner_and_mode_decide(folder: Path):
    (folder / "a.pickle").chmod(0o600)
    manifest.check_loadable(folder / "a.pickle", {})
    (folder / "a.pickle").chmod(0o666)
    with pytest.raises(NotTrusted, match="chmod go-w"):
        manifest.check_loadable(folder / "a.pickle", {})


def test_each_writer_has_its_own_manifest(folder: Path):
    (folder / "c.pickle").write_bytes(b"three")
    manifest.write(folder, ["c.pickle"], KEY, "manifest.rank-1.json")
    assert set(manifest.read(folder, KEY)) == {"a.pickle", "b.pickle", "c.pickle"}
