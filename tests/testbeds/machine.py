"""What the testbeds share: packages, daemons known by their pid files, and who still uses a testbed.

Standard library only, so that any python3 runs a testbed.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

#: exit status of a testbed that this machine or this user can't have; everything else that is not 0 is a failure
CANNOT = 3
#: files of a state folder that outlive its daemons
LOCK, USERS, FOR_TESTS = "lock", "users", "for-tests"


def fail(words: str, status: int = 1) -> NoReturn:
    """End, with one line that says why."""
    print(words, file=sys.stderr)
    sys.exit(status)


def run(*command: str | Path, env: dict[str, str] | None = None, patience: float = 60.0) -> str:
    """What ``command`` prints; if it fails, its last words are ours."""
    done = subprocess.run(
        [str(part) for part in command],
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=patience,
    )
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "without a word").splitlines()[-1]
        fail(f"{Path(command[0]).name} failed ({done.returncode}): {last}")
    return done.stdout


def daemon(*command: str | Path, env: dict[str, str]) -> None:
    """Start a program that becomes a daemon, with the environment of a service: jobs may get to see it."""
    plain = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    run("env", "-i", *(f"{name}={value}" for name, value in {**plain, **env}.items()), *command)


def output(*command: str | Path, env: dict[str, str] | None = None) -> str | None:
    """What ``command`` prints, or None if it can't be run or fails."""
    try:
        done = subprocess.run(
            [str(part) for part in command],
            env={**os.environ, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=20,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def until(condition: Callable[[], bool], patience: float) -> bool:
    """Whether ``condition`` came true in time."""
    end = time.monotonic() + patience
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.05)
    return True


def need_root(what: str) -> None:
    if os.geteuid() != 0:
        fail(f"{what} needs root here: its daemons run jobs as whoever submitted them", CANNOT)


def install(packages: Sequence[str], programs: Iterable[str]) -> None:
    """Have Debian's ``packages``, of which ``programs`` are the proof."""
    missing = [program for program in programs if not Path(program).exists()]
    if not missing:
        return
    if shutil.which("apt-get") is None:
        fail(f"{missing[0]} is not here, and there is no apt-get to install {' '.join(packages)} with", CANNOT)
    # Another apt may run; and the packages' services must not start, whose configuration is not ours.
    quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    apt = ["apt-get", "-o", "DPkg::Lock::Timeout=300", "-q", "-y"]
    command = [*apt, "install", "--no-install-recommends", *packages]
    for attempt in (command, [*apt, "update"], command):  # lists of packages may be missing or old
        done = subprocess.run(attempt, env=quiet, stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if attempt is command and done.returncode == 0:
            return
    last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
    fail(f"apt-get could not install {' '.join(packages)}: {' '.join(last)}", CANNOT)


def boot() -> str:
    """This boot of the machine: daemons of another one are gone, whatever pid files say."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def pid(file: Path, program: str) -> int | None:
    """The process of a pid file, if it is (still) ``program``."""
    try:
        number = int(file.read_text())
    except (OSError, ValueError):
        return None
    return number if _is(Path(f"/proc/{number}"), program) else None


def runs(program: str) -> bool:
    """Whether any process of this machine is ``program``."""
    return any(_is(process, program) for process in Path("/proc").glob("[0-9]*"))


def _is(process: Path, program: str) -> bool:
    """Whether a process, by its folder in /proc, is ``program`` and has not ended."""
    try:
        name = (process / "comm").read_text().strip()
        state = (process / "stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return False
    return name == program[:15] and state not in "ZX"


def stop(daemons: Sequence[tuple[Path, str]], patience: float) -> None:
    """End the processes of these pid files: asked, then without being asked."""
    for how in (signal.SIGTERM, signal.SIGKILL):
        for file, program in daemons:
            if number := pid(file, program):
                try:
                    os.kill(number, how)
                except ProcessLookupError:
                    continue
        if until(lambda: not any(pid(*daemon) for daemon in daemons), patience):
            break
    else:
        fail("still running: " + ", ".join(f"{daemon[1]} {pid(*daemon)}" for daemon in daemons if pid(*daemon)))
    for file, _ in daemons:
        file.unlink(missing_ok=True)


def state_folder(variable: str, default: str) -> Path:
    """Where a testbed keeps everything; in a short path, since sockets are there."""
    folder = Path(os.environ.get(variable, default))
    if len(str(folder)) > 60 or not folder.is_absolute() or any(ch.isspace() for ch in str(folder)):
        fail(f"{variable}: an absolute path without blanks, of 60 characters or less, please")
    return folder


def claim(folder: Path) -> None:
    """Make the state folder, readable by all and written by root."""
    folder.mkdir(parents=True, exist_ok=True)
    if folder.is_symlink() or folder.stat().st_uid != os.geteuid():
        fail(f"{folder} is there already and someone else's")
    folder.chmod(0o755)


def empty(folder: Path) -> None:
    """Leave nothing in the state folder but what says who uses it."""
    for path in folder.iterdir():
        if path.name in (LOCK, USERS):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """One at a time goes up or down."""
    with (folder / LOCK).open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def unused(folder: Path) -> Iterator[bool]:
    """Whether no test session holds ``users``; while this is so, none can begin."""
    with (folder / USERS).open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True


def mark(folder: Path, for_tests: bool, started: bool) -> None:
    """Note whose testbed it is: one that tests started goes with the last of them, unless a person asks for it too."""
    if not for_tests:
        (folder / FOR_TESTS).unlink(missing_ok=True)
    elif started:
        (folder / FOR_TESTS).touch()


def command_line(
    what: str,
    folder: Path,
    up: Callable[[argparse.Namespace], bool],
    down: Callable[[], None],
    status: Callable[[], bool],
    options: Callable[[argparse.ArgumentParser], None] = lambda parser: None,
) -> None:
    """The three commands of a testbed.

    ``up`` returns whether it had to start anything. With ``--for-tests``, ``down`` leaves a testbed alone that a
    person asked for, or that another test session uses.
    """
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("command", choices=("up", "down", "status"))
    parser.add_argument("--for-tests", action="store_true", help="what a test session starts, the last one ends")
    options(parser)
    args = parser.parse_args()
    if args.command == "status":
        sys.exit(0 if status() else 1)
    need_root(f"{Path(sys.argv[0]).name} {args.command}")
    claim(folder)
    if args.command == "up":
        with locked(folder):
            mark(folder, args.for_tests, started=up(args))
        return
    with unused(folder) as free:
        if args.for_tests and not (free and (folder / FOR_TESTS).exists()):
            return
        with locked(folder):
            down()
            (folder / FOR_TESTS).unlink(missing_ok=True)
