"""``mlnb run``: an unmodified script as a run."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from mlnb.api import Run, Runs, resume
from mlnb.api.log_stream import follow_output
from mlnb.api.read.describe import end_sentence
from mlnb.api.submit.option_reader import OptionTable, value_of
from mlnb.api.submit.options import OPTIONS as ALL
from mlnb.api.submit.options import Options
from mlnb.api.submit.provenance import git_state
from mlnb.api.submit.script import script_task
from mlnb.api.submit.submit import submit
from mlnb.capture.ship.contents import Content
from mlnb.cli.output import echo_json
from mlnb.errors import UsageError
from mlnb.rundir import RunDir
from mlnb.targets.config.options import COMMON, RunOption
from mlnb.targets.registry import target

_NOT_HERE = {
    "--in": "a script reads its files where they are",
    "--out": "a script keeps its results itself",
    "--wait": "mlnb run waits, unless --detach is given",
}
"""Options of a cell that a script does not have, and why."""

_SEED = "seed of random, numpy and torch. Default: the script's own"
OPTIONS = (
    *(option.with_help(_SEED) if option.flag == "--seed" else option for option in ALL if option.flag not in _NOT_HERE),
    RunOption("--detach", group=COMMON, is_flag=True, help="return at once"),
    RunOption(
        "--json",
        "as_json",
        group=COMMON,
        is_flag=True,
        help="print the run as JSON at the end (with --detach: now)",
    ),
)
"""The options of ``mlnb run`` that every run has."""


def read_words(words: Sequence[str], runs: Runs) -> dict[str, Any]:
    """What ``mlnb run words`` asks for: the arguments of :func:`run_script`.

    Raises
    ------
    UsageError
        for a bad command line.
    """
    if not words:
        raise UsageError("run needs a script: mlnb run [options] script.py [-- args]; mlnb run --help says more")
    ours, script = split(words, runs)
    given = _table(ours, runs).read(ours)
    switches = {name: bool(given.pop(name, False)) for name in ("detach", "as_json")}
    return {"given": given, "script": script, **switches}


def split(words: Sequence[str], runs: Runs) -> tuple[list[str], list[str]]:
    """Our options (up to a call for help), and the script with its arguments.

    Raises
    ------
    UsageError
        for an option that no target has.
    """
    table, index = _table(words, runs), 0
    while index < len(words) and words[index].startswith("-"):
        if words[index] in ("-h", "--help"):
            return list(words[: index + 1]), []
        flag, equals, value = words[index].partition("=")
        if flag in _NOT_HERE:
            raise UsageError(f"{flag}: not an option of mlnb run: {_NOT_HERE[flag]}")
        option = table.find_anywhere(flag)  # words after the script's name may look as if they named a target
        if option is None:
            raise table.refusal(flag, value)
        index += 1 if option.is_flag or equals else 2
    return list(words[:index]), list(words[index:])


def _table(words: Sequence[str], runs: Runs) -> OptionTable:
    """The options for the target that ``words`` name, themselves or by the run that they resume."""
    return OptionTable(value_of(words, "--on") or resume.target_name(words, runs), runs.workspace, OPTIONS)


def run_script(given: Mapping[str, Any], script: Sequence[str], *, runs: Runs, detach: bool, as_json: bool) -> int:
    """Run a script, or go on with a run; the exit code.

    Parameters
    ----------
    given
        the values of the options, by key.
    script
        the script and its arguments; may be empty with ``--resume``.
    runs
        among which the run is to be.

    Raises
    ------
    UsageError
        for what can't be, before anything is written.
    """
    rest = list(script)
    earlier = resume.earlier(given.get("resume"), runs)
    if not rest and earlier is None:
        raise UsageError("run needs a script: mlnb run [options] script.py [-- args]")
    options = resume.completed(earlier, given, Options())
    workspace = runs.workspace
    place = target(options.on, workspace)
    path, argv = Path(rest[0]) if rest else Path(), rest[2:] if rest[1:2] == ["--"] else rest[1:]
    placement = options.placement(earlier.name if earlier is not None and not rest else _name(path))
    offer = place.offer(options.resources(), placement)
    if earlier is not None:
        offer = resume.note(earlier, options, offer)
    contents: dict[str, Content] = {}
    if rest or earlier is None:
        task, contents = script_task(path, argv, options, offer)
        digests = {name: content.digest() for name, content in contents.items()}
        goes_on = earlier is not None and resume.same_work(earlier.task, task, digests)
    else:
        task, goes_on = earlier.task, True
    if options.dry_run:
        what = " ".join([str(path), *argv]) if rest else "the run as it is"
        rows = [f"runs on      {place.name}: {'; '.join(offer.summary_lines)}", f"runs         {what}"]
        rows += [f"sends        {name}" for name in contents]
        submission = place.preview(RunDir(workspace.root / "RUN"), offer)
        click.echo("\n\n".join(part for part in ("\n".join(rows), task.script, submission) if part))
        return 0
    if earlier is not None and goes_on:
        run = resume.go_on(earlier, given, options, place, offer)
    else:
        about: dict[str, Any] = {"git": git_state(path.parent), "asked": resume.asked(options, place)}
        if earlier is not None:
            about["resume"] = str(earlier.directory.checkpoints)
        made = submit(task, contents, place, offer, name=placement.name, env=dict(options.env), about=about)
        run = runs.add(Run(made, workspace))
    if earlier is not None:
        click.echo(f"mlnb: {offer.summary_lines[-1]}", err=True)
    if detach:
        if as_json:
            echo_json(run.to_json())
        else:
            click.echo(f"{run.name} ({run.id}) submitted. `mlnb logs -f {run.id}` follows it.")
        return 0
    return _follow(run, as_json)


def _name(path: Path) -> str:
    """A run's name from its script's, which may hold what a run's can't."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", path.stem).strip("-._")[:64] or "script"


def _follow(run: Run, as_json: bool) -> int:
    try:
        for text in follow_output(run):
            click.echo(text, nl=False, err=as_json)
    except KeyboardInterrupt:
        commands = f"`mlnb logs -f {run.id}` follows it, `mlnb cancel {run.id}` stops it."
        click.echo(f"\nmlnb: Run {run.name} ({run.id}) continues. {commands}", err=True)
        return 130
    if as_json:
        echo_json(run.to_json())
    elif run.state != "succeeded":
        ended = end_sentence(run.name, run.state, run.reason, run.task.resources.world_size)
        click.echo(f"mlnb: {ended} `mlnb show {run.id}` has the details.", err=True)
    return int(run.state != "succeeded")
