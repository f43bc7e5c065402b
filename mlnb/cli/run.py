"""``mlnb run``: an unmodified script as a run."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from mlnb.api import Run, resume, runs
from mlnb.api.log_stream import lines
from mlnb.api.submit.options import OPTIONS, Option, Options, help_text, read
from mlnb.api.submit.provenance import git_state
from mlnb.api.submit.script import script_task
from mlnb.api.submit.store import Content
from mlnb.api.submit.submit import submit
from mlnb.cli.output import echo_json
from mlnb.errors import UsageError
from mlnb.rundir import RunDir
from mlnb.targets.config.paths import runs_root
from mlnb.targets.registry import target
from mlnb.units import state_phrase

_NOT_HERE = {
    "--in": "a script reads its files where they are",
    "--out": "a script keeps its results itself",
    "--wait": "mlnb run waits, unless --detach is given",
}
_SEED = "seed of random, numpy and torch; default: the script's own"
_OPTIONS = (
    *(replace(one, help=_SEED) if one.flag == "--seed" else one for one in OPTIONS if one.flag not in _NOT_HERE),
    Option("--detach", "return at once"),
    Option("--json", "print the run as JSON at the end (with --detach: now)"),
)
_BY_FLAG = {option.flag: option for option in _OPTIONS}
_HELP = f"""Usage: mlnb run [options] script.py [-- args]
       mlnb run --resume RUN [options]

  Run a script as it is, with its own command line. Prints what rank 0 prints until the run ends; an interrupt
  leaves the run running. Exit code: 0 succeeded, 1 not, 2 bad use.

  A run that is resumed, a notebook's too, has what the options say, and what they leave open as it was. With a
  script that is another than the run's, a new run starts from its checkpoint.

Options:
{help_text(_OPTIONS)}
"""


def run_script(words: Sequence[str]) -> int:
    """Run ``mlnb run`` with these words; the exit code.

    Raises
    ------
    UsageError
        for a bad command line, before anything is written.
    """
    if not words:
        raise UsageError("run needs a script: mlnb run [options] script.py [-- args]; mlnb run --help says more")
    ours, rest = _split(words)
    if ours[-1:] == ["--help"]:
        click.echo(_HELP)
        return 0
    detach, as_json = "--detach" in ours, "--json" in ours
    given = read([word for word in ours if word not in ("--detach", "--json")])
    earlier = resume.earlier(given.get("resume"))
    if not rest and earlier is None:
        raise UsageError("run needs a script: mlnb run [options] script.py [-- args]")
    options = resume.completed(earlier, given, Options())
    place = target(options.on)
    path, argv = Path(rest[0]) if rest else Path(), rest[2:] if rest[1:2] == ["--"] else rest[1:]
    placement = options.placement(earlier.name if earlier is not None and not rest else _name(path))
    offer = place.offer(options.resources(), placement)
    if earlier is not None:
        offer = resume.note(earlier, offer)
    contents: dict[str, Content] = {}
    if rest or earlier is None:
        task, contents = script_task(path, argv, options, offer)
        digests = {name: content.digest() for name, content in contents.items()}
        goes_on = earlier is not None and resume.same_work(earlier.task, task, digests)
    else:
        task, goes_on = earlier.task, True
    if options.dry_run:
        what = " ".join([str(path), *argv]) if rest else "the run as it is"
        rows = [f"runs on    {place.name}: {'; '.join(offer.summary_lines)}", f"runs       {what}"]
        rows += [f"takes      {name}" for name in contents]
        submission = place.preview(RunDir(runs_root() / "RUN"), offer)
        click.echo("\n\n".join(part for part in ("\n".join(rows), task.script, submission) if part))
        return 0
    if earlier is not None and goes_on:
        run = resume.go_on(earlier, given, options, place, offer)
    else:
        about: dict[str, Any] = {"git": git_state(path.parent), "asked": resume.asked(options)}
        if earlier is not None:
            about["resume"] = str(earlier.directory.checkpoints)
        run = Run(submit(task, contents, place, offer, name=placement.name, env=dict(options.env), about=about))
        runs.add(run)
    if earlier is not None:
        click.echo(f"mlnb: {offer.summary_lines[-1]}", err=True)
    if detach:
        if as_json:
            echo_json(run.to_json())
        else:
            click.echo(f"{run.name} ({run.id}) is submitted; mlnb logs -f {run.id} follows it")
        return 0
    return _follow(run, as_json)


def _split(words: Sequence[str]) -> tuple[list[str], list[str]]:
    """Our options (up to a call for help), and the script with its arguments."""
    index = 0
    while index < len(words) and words[index].startswith("-"):
        if words[index] in ("-h", "--help"):
            return [*words[:index], "--help"], []
        flag, equals, _ = words[index].partition("=")
        option = _BY_FLAG.get(flag)
        if option is None:
            raise UsageError(f"{flag}: {_why_not(flag)}")
        if equals and not option.parse:
            raise UsageError(f"{words[index]}: {flag} takes no value")
        index += 2 if option.parse and not equals else 1
    return list(words[:index]), list(words[index:])


def _name(path: Path) -> str:
    """A run's name from its script's, which may hold what a run's can't."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:64] or "script"


def _why_not(flag: str) -> str:
    if flag in _NOT_HERE:
        return f"not an option of mlnb run: {_NOT_HERE[flag]}"
    near = difflib.get_close_matches(flag, _BY_FLAG, 1, 0.5)
    return "not an option; " + (f"did you mean {near[0]}?" if near else "options are " + " ".join(_BY_FLAG))


def _follow(run: Run, as_json: bool) -> int:
    try:
        for text in lines(run):
            click.echo(text, nl=False, err=as_json)
    except KeyboardInterrupt:
        ways = f"mlnb logs -f {run.id} follows it, mlnb cancel {run.id} ends it"
        click.echo(f"\nmlnb: {run.name} ({run.id}) goes on. {ways}", err=True)
        return 130
    if as_json:
        echo_json(run.to_json())
    elif run.state != "succeeded":
        click.echo(f"mlnb: {run.name} ({run.id}) {state_phrase(run.state)}: {run.reason}", err=True)
    return int(run.state != "succeeded")
