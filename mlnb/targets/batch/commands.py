"""Running a batch system's commands: what they print, or one line that says what is wrong."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlnb.errors import MlnbError

PATIENCE = 30.0
"""Seconds that a command has: an overloaded controller answers late, one that is down never."""


class CommandFailed(MlnbError):
    """A command of the batch system did not do what was wanted.

    ``said`` is what it wrote to standard error.
    """

    def __init__(self, line: str, said: str = "") -> None:
        super().__init__(line)
        self.said = said


class NotThere(CommandFailed):
    """The system does not answer: its commands are missing or its controller is down."""


class Unanswered(NotThere):
    """It did not answer what it was asked: what a command wanted may have been done."""


def command(
    argv: Sequence[str],
    env: Mapping[str, str] | None = None,
    *,
    system: str,
    folder: Path | None = None,
    given: bytes = b"",
    patience: float = PATIENCE,
    whole: bool = False,
) -> str:
    """What ``argv`` prints.

    Parameters
    ----------
    env
        its whole environment; this process's without.
    system
        the system's name in words, for errors.
    folder
        where it runs; here without.
    given
        its standard input.
    patience
        seconds until it is given up.
    whole
        whether all that it says as it fails is of interest, as a site's own words about a submission are; else the
        last line says it best.

    Raises
    ------
    NotThere
        if the command is missing or its system is not there.
    Unanswered
        if it was there, and did not answer.
    CommandFailed
        if it fails, with what it said.
    """
    program = shutil.which(argv[0], path=env.get("PATH") if env else None)
    if program is None:
        raise NotThere(f"{argv[0]} is not on PATH here: {system} is submitted to from a machine that has its commands")
    try:
        done = subprocess.run(
            [program, *argv[1:]],
            env=env,
            cwd=folder,
            input=given,
            start_new_session=True,  # an interrupt of the cell, which all of the kernel's group gets, is not for it
            capture_output=True,
            timeout=patience,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise Unanswered(
            f"{system} does not answer: {argv[0]} said nothing for {patience:.0f} s. Try again later"
        ) from None
    except OSError as error:
        raise NotThere(f"{argv[0]} can't be run: {error.strerror}") from None
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip() or done.stdout.decode(errors="replace").strip()
        kind = Unanswered if done.returncode < 0 else _kind(said)
        gist = _gist(said, argv[0], whole) or f"{argv[0]} ended with exit code {done.returncode}"
        raise kind(f"{system} says: {gist}", said)
    return done.stdout.decode(errors="replace")


_SILENT = ("timed out", "zero bytes", "reset by peer")
_DOWN = ("unable to contact", "connection refused", "can't connect", "cannot connect", "failed to connect")


def _kind(said: str) -> type[CommandFailed]:
    lower = said.lower()
    if any(word in lower for word in _SILENT):
        return Unanswered
    return NotThere if any(word in lower for word in _DOWN) else CommandFailed


def read_json(text: str, system: str) -> Any:
    """What a command printed as JSON; ``None`` if it printed nothing, which some do where there are no jobs.

    Raises
    ------
    CommandFailed
        if it is no JSON: then nothing is known of the jobs, and none is gone.
    """
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise CommandFailed(f"{system} printed what can't be read: {' '.join(text.split())[:60]}") from None


def records(found: Any) -> list[Mapping[str, Any]]:
    """Those of a list that are records."""
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def named(found: Any) -> dict[str, Mapping[str, Any]]:
    """Those of a record's values that are records."""
    return {name: one for name, one in found.items() if isinstance(one, Mapping)} if isinstance(found, Mapping) else {}


_GIST = 500
_PREFIX = re.compile(r"(?:[A-Za-z_][\w.-]*: )?(?:error|fatal|warning|info): ", re.IGNORECASE)


def _gist(said: str, program: str, whole: bool) -> str:
    """What it says in one line: a site's own words first, the system's behind; no prefixes and no rules."""
    own = re.compile(rf"{re.escape(Path(program).name)}: ")
    lines = (_PREFIX.sub("", own.sub("", " ".join(line.split()), 1), 1) for line in said.splitlines())
    kept = list(dict.fromkeys(line.rstrip(".;") for line in lines if any(map(str.isalnum, line))))
    return "; ".join(kept if whole else kept[-1:])[-_GIST:]
