"""A user of this machine who is nobody special, to do what tests as root would not notice is forbidden."""

from __future__ import annotations

import itertools
import os
import pwd
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.waiting import until

REPOSITORY = Path(__file__).resolve().parents[2]
NAME = re.compile(r"mlnbtest(\d+)n\d+")
_NUMBERS = itertools.count()


@dataclass(frozen=True)
class OrdinaryUser:
    """Someone with a home, and a Python that has what this session's has."""

    name: str
    uid: int
    home: Path
    python: Path
    #: the working tree, as this user can read it
    tree: Path

    @property
    def login(self) -> list[str]:
        """The words in front of a command that is to run as this user."""
        return ["setpriv", f"--reuid={self.name}", f"--regid={self.name}", "--init-groups", "--"]

    def environment(self) -> dict[str, str]:
        kept = {key: os.environ[key] for key in ("LANG", "SLURM_CONF", "SGE_ROOT", "SGE_CELL") if key in os.environ}
        path = f"{self.python.parent}:/usr/local/bin:/usr/bin:/bin"
        # the runtime folder's sockets need a short path, and leave with the home
        own = {"HOME": str(self.home), "USER": self.name, "LOGNAME": self.name, "PATH": path, "SHELL": "/bin/sh"}
        return {**kept, **own, "MLNB_RUNS": str(self.home / "runs"), "MLNB_RUNTIME": str(self.home / "rt")}

    def run(
        self, *command: str | Path, env: dict[str, str] | None = None, stdin: str = "", timeout: float = 60
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as this user, in the home, with an environment of a fresh login."""
        return subprocess.run(
            [*self.login, *map(str, command)],
            cwd=self.home,
            env={**self.environment(), **(env or {})},
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout,
            start_new_session=True,
        )

    def snippet(self, code: str, *arguments: str, env: dict[str, str] | None = None, timeout: float = 60) -> str:
        """What a piece of Python prints, run as this user; an assertion if it fails."""
        done = self.run(self.python, "-c", code, *arguments, env=env, timeout=timeout)
        assert done.returncode == 0, done.stderr
        return done.stdout


def open_to_all(path: Path) -> bool:
    """Whether every user can read ``path`` and get there."""
    return all(part.stat().st_mode & 0o001 for part in path.parents) and bool(path.stat().st_mode & 0o004)


def base_python() -> Path:
    """A Python of this version that everyone can run: this one's, or the system's (their extensions fit both)."""
    major, minor = sys.version_info[:2]
    for found in (Path(getattr(sys, "_base_executable", sys.executable)), Path(f"/usr/bin/python{major}.{minor}")):
        if found.exists() and open_to_all(found.resolve()):
            return found
    pytest.skip(f"no Python {major}.{minor} here that an ordinary user may run")


def shown(path: Path, folder: Path) -> Path:
    """``path``, or where an ordinary user finds it if it is in a place closed to others, such as root's home."""
    if open_to_all(path):
        return path
    folder.mkdir()
    mounted = subprocess.run(["mount", "--bind", str(path), str(folder)], capture_output=True, text=True)
    if mounted.returncode:
        pytest.skip(f"an ordinary user can't read {path}, and it can't be mounted elsewhere: {mounted.stderr.strip()}")
    return folder


def make_python(folder: Path, tree: Path) -> Path:
    """A virtual environment that has this one's packages and this working ``tree``."""
    subprocess.run([base_python(), "-m", "venv", "--without-pip", folder / "python"], check=True)
    packages = Path(sysconfig.get_path("purelib")).resolve()
    if packages.is_relative_to(REPOSITORY):
        packages = tree / packages.relative_to(REPOSITORY)
    else:
        packages = shown(packages, folder / "packages")
    (own,) = (folder / "python/lib").glob("python*/site-packages")
    (own / "tests.pth").write_text(f"{tree}\n{packages}\n")
    python = folder / "python/bin/python"
    command = python.with_name("mlnb")
    command.write_text(f"#!{python}\nimport sys\nfrom mlnb.cli import main\nsys.exit(main())\n")
    command.chmod(0o755)
    return python


def processes(uid: int) -> list[int]:
    """What runs as this user."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.stat().st_uid == uid and "\nState:\tZ" not in (path / "status").read_text():
                found.append(int(path.name))
        except (FileNotFoundError, ProcessLookupError):  # it ended while we looked
            continue
    return found


def remove(name: str) -> None:
    """Leave nothing of a user that we made."""
    entry = pwd.getpwnam(name)
    folder = Path(entry.pw_dir).parent
    for pid in processes(entry.pw_uid):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    until(lambda: not processes(entry.pw_uid), 10)
    subprocess.run(["userdel", name], check=True, capture_output=True)
    # What is mounted is the working tree: those folders are only ever removed empty.
    mounts = Path("/proc/self/mountinfo").read_text()
    for place in (folder / "tree", folder / "packages"):
        if f" {place} " in mounts:
            subprocess.run(["umount", str(place)], check=True)
        if place.exists():
            place.rmdir()
    for place in (folder / "home", folder / "python"):
        if place.exists():
            shutil.rmtree(place)
    if folder.exists():
        folder.rmdir()


@contextmanager
def ordinary() -> Iterator[OrdinaryUser]:
    """Make such a user, and remove it; those of sessions that were killed go, too."""
    if os.geteuid() != 0 or not shutil.which("useradd") or not shutil.which("setpriv"):
        pytest.skip("making an ordinary user takes root, useradd and setpriv")
    for entry in pwd.getpwall():
        owner = NAME.fullmatch(entry.pw_name)
        if owner and not Path(f"/proc/{owner[1]}").exists():
            remove(entry.pw_name)
    name = f"mlnbtest{os.getpid()}n{next(_NUMBERS)}"  # one for each testbed of a session
    folder = Path(tempfile.mkdtemp(prefix="mlnb-user-", dir="/tmp"))
    folder.chmod(0o755)
    home = folder / "home"
    home.mkdir(mode=0o700)
    made = ["useradd", "--system", "--user-group", "--no-create-home", "--home-dir", str(home), "--shell", "/bin/sh"]
    subprocess.run([*made, name], check=True, capture_output=True)
    try:
        entry = pwd.getpwnam(name)
        os.chown(home, entry.pw_uid, entry.pw_gid)
        tree = shown(REPOSITORY, folder / "tree")
        yield OrdinaryUser(name, entry.pw_uid, home, make_python(folder, tree), tree)
    finally:
        remove(name)
