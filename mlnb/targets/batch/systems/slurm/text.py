"""Parses what SLURM's commands print: host lists, times and lines of ``Key=value``.

Formats: squeue(1), scontrol(1), sinfo(1), and the output of SLURM 22.05.8. Nothing here raises: what can't be parsed
is ``None``, empty, or returned unchanged.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from itertools import islice, product

from mlnb.targets.batch.queued_job import task_indices

FORMATS = {"SLURM_TIME_FORMAT": "%s", "SLURM_BITSTR_LEN": "0"}
"""Environment that makes SLURM's commands print times as seconds since the epoch, and all tasks of an array.

By default they print local time without a zone: ambiguous for an hour each autumn, and wrong in another time zone. Of a
long list of tasks they print 64 characters.
"""

_MOST_NAMES = 100_000
_PAIR = re.compile(r"(?:^|(?<=\s))([A-Za-z][A-Za-z0-9_:/-]*)=")
_EMPTY_VALUES = frozenset({"", "(null)", "N/A", "n/a", "Unknown", "None", "NONE"})


def pairs(line: str) -> dict[str, str]:
    """The ``Key=value`` pairs of one line of scontrol; values may hold spaces, as those of ``OS`` and ``Reason`` do.

    Of several equal keys the first counts: text written by people follows the values of SLURM.
    """
    values: dict[str, str] = {}
    keys = list(_PAIR.finditer(line))
    ends = [key.start() for key in keys[1:]] + [len(line)]
    for key, end in zip(keys, ends, strict=False):
        value = line[key.end() : end].strip()
        values.setdefault(key[1], "" if value in ("(null)", "N/A") else value)
    return values


def split_list(text: str) -> tuple[str, ...]:
    """The items of a list that commas or spaces separate."""
    return tuple(word for word in re.split(r"[,\s]+", text) if word)


def number(text: str | None) -> int | None:
    """A whole number; ``None`` for anything else, as ``UNLIMITED``."""
    return int(text) if text and re.fullmatch(r"[0-9]{1,18}", text) else None


def duration(text: str) -> int | None:
    """Seconds of ``minutes:seconds``, ``hours:minutes:seconds``, ``days-hours:minutes:seconds``; else ``None``.

    So ``UNLIMITED`` and ``NONE`` are ``None``.
    """
    match = re.fullmatch(r"(?:([0-9]{1,6})-)?(?:([0-9]{1,6}):)?([0-9]{1,6}):([0-9]{1,2})", text.strip())
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return days * 86400 + hours * 3600 + minutes * 60 + seconds


def parse_time_limit(text: str) -> int | None:
    """Seconds of a time as sbatch accepts it, where a single number means minutes; else ``None``."""
    text = text.strip()
    match = re.fullmatch(r"(?:([0-9]{1,6})-([0-9]{1,6})|([0-9]{1,6}))(?::([0-9]{1,6}))?(?::([0-9]{1,2}))?", text)
    if match is None:
        return None
    days, hours, first, second, third = (int(part or 0) for part in match.groups())
    if match[2]:
        return days * 86400 + hours * 3600 + second * 60 + third
    return first * 3600 + second * 60 + third if match[5] else first * 60 + second


def timestamp(text: str) -> float | None:
    """Seconds since the epoch, from a time printed as such or as local time; ``None`` if there is none."""
    text = text.strip()
    if re.fullmatch(r"[0-9]{1,11}", text):
        return float(text) or None
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except (ValueError, OverflowError):
        return None


def text_or_empty(text: str) -> str:
    """A field; empty if it has one of the values by which SLURM marks an empty field."""
    return "" if text.strip() in _EMPTY_VALUES else text.strip()


def expand(hosts: str) -> tuple[str, ...]:
    """The names of a host list: ``node[1-3,07],x`` is ``node1 node2 node3 node07 x``.

    An item whose brackets can't be parsed is returned unchanged; at most 100 000 names are returned.
    """
    names = (name for word in _split_hosts(hosts) for name in _expand(word))
    return tuple(islice(names, _MOST_NAMES))


def _split_hosts(hosts: str) -> Iterator[str]:
    """The items of a host list: commas inside brackets do not separate."""
    for word in re.findall(r"(?:\[[^\]]*\]|[^,])+", hosts):
        if word.strip():
            yield word.strip()


def _expand(word: str) -> Iterator[str]:
    choices: list[list[str]] = []
    count = 1
    for position, piece in enumerate(re.split(r"\[([^\]]*)\]", word)):  # text, range, text, range, text
        choice = _range(piece) if position % 2 else [piece]
        count *= len(choice)
        if not 0 < count <= _MOST_NAMES:
            yield word
            return
        choices.append(choice)
    for parts in product(*choices):
        yield "".join(parts)


def _range(text: str) -> list[str]:
    """The numbers of ``1-3,07`` as text, with the leading zeros of each range's start; empty if it can't be parsed."""
    names: list[str] = []
    for part in text.split(","):
        match = re.fullmatch(r"([0-9]{1,9})(?:-([0-9]{1,9}))?", part)
        if match is None:
            return []
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first or len(names) + last - first >= _MOST_NAMES:
            return []
        names.extend(f"{each:0{len(match[1])}d}" for each in range(first, last + 1))
    return names


def expand_tasks(job: str) -> tuple[str, ...]:
    """The ids of an array's tasks that share a line: ``12_[0-2,7,10-20:5%2]`` is ``12_0 12_1 12_2 12_7 12_10 …``.

    Any other id is returned unchanged, and so is one with more than 100 000 tasks.
    """
    match = re.fullmatch(r"([0-9]+)_\[([^%\]]*)(?:%[0-9]+)?\]", job)
    tasks = task_indices(match[2]) if match else ()
    return tuple(f"{match[1]}_{task}" for task in tasks) if match and tasks else (job,)
