"""Runs the commands of batch systems, and turns failures into errors for the user."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlnb.errors import MlnbError
from mlnb.units import format_limit

TIMEOUT = 30.0
"""Seconds after which a command is stopped: a controller that is down may never answer."""


class CommandFailed(MlnbError):
    """A command of the batch system failed. ``output`` is what it wrote to standard error, else to standard output."""

    def __init__(self, message: str, output: str = "") -> None:
        super().__init__(message)
        self.output = output


class SystemUnavailable(CommandFailed):
    """The system can't be reached: its commands are missing or its controller is down. Nothing was done."""


class NoAnswer(SystemUnavailable):
    """The command did not get an answer. It may have taken effect nevertheless."""


def run_command(
    argv: Sequence[str],
    env: Mapping[str, str] | None = None,
    *,
    system: str,
    folder: Path | None = None,
    stdin: bytes = b"",
    timeout: float = TIMEOUT,
    full_message: bool = False,
) -> str:
    """Run a command; returns its standard output.

    Parameters
    ----------
    env
        its complete environment; that of this process by default.
    system
        the system's name, for errors.
    folder
        its working directory; that of this process by default.
    stdin
        its standard input.
    timeout
        seconds.
    full_message
        whether the error message has all lines of what it printed, as a site's own explanation of a refused submission
        may have several; else the last line.

    Raises
    ------
    SystemUnavailable
        if the command is missing or can't reach its system.
    NoAnswer
        if it timed out, or was ended by a signal.
    CommandFailed
        if it fails otherwise.
    """
    program = shutil.which(argv[0], path=env.get("PATH") if env else None)
    if program is None:
        raise SystemUnavailable(f"{argv[0]} is not on PATH. Use {system} from a machine that has its commands.")
    try:
        done = subprocess.run(
            [program, *argv[1:]],
            env=env,
            cwd=folder,
            input=stdin,
            start_new_session=True,  # interrupting a cell signals the whole process group of the kernel
            capture_output=True,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NoAnswer(
            f"{system} does not answer: {argv[0]} timed out after {format_limit(timeout)}. Try again later"
        ) from None
    except OSError as error:
        raise SystemUnavailable(f"{argv[0]} can't be run: {error.strerror}") from None
    if done.returncode:
        output = done.stderr.decode(errors="replace").strip() or done.stdout.decode(errors="replace").strip()
        kind = NoAnswer if done.returncode < 0 else _error_class(output)
        message = _message(output, argv[0], full_message) or f"{argv[0]} ended with exit code {done.returncode}"
        raise kind(f"{system} says: {message}", output)
    return done.stdout.decode(errors="replace")


_NO_ANSWER = ("timed out", "zero bytes", "reset by peer")
_DOWN = ("unable to contact", "connection refused", "can't connect", "cannot connect", "failed to connect")


def _error_class(output: str) -> type[CommandFailed]:
    lower = output.lower()
    if any(phrase in lower for phrase in _NO_ANSWER):
        return NoAnswer
    return SystemUnavailable if any(phrase in lower for phrase in _DOWN) else CommandFailed


def read_json(text: str, system: str) -> Any:
    """A command's output as JSON; ``None`` if it printed nothing, as some do where there are no jobs.

    Raises
    ------
    CommandFailed
        if it is not JSON. Callers must not take missing jobs for jobs that ended.
    """
    if not text.strip():
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise unreadable(text, system) from None


def unreadable(text: str, system: str) -> CommandFailed:
    """The error for output that does not have its format."""
    return CommandFailed(f"The output of {system} can't be parsed: {' '.join(text.split())[:60]}")


_MESSAGE_LENGTH = 500
_PREFIX = re.compile(r"(?:[A-Za-z_][\w.-]*: )?(?:error|fatal|warning|info): ", re.IGNORECASE)


def _message(output: str, program: str, full: bool) -> str:
    """What a failing command printed, in one line: without its name, words like ``error:`` and ruled lines."""
    program_prefix = re.compile(rf"{re.escape(Path(program).name)}: ")
    lines = (_PREFIX.sub("", program_prefix.sub("", " ".join(line.split()), 1), 1) for line in output.splitlines())
    messages = list(dict.fromkeys(line.rstrip(".;") for line in lines if any(map(str.isalnum, line))))
    return "; ".join(messages if full else messages[-1:])[-_MESSAGE_LENGTH:]
