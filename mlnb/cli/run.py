"""``mlnb run``: runs an unmodified script, or continues a run."""

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
from mlnb.api.submit.script import Program, program, script_task
from mlnb.api.submit.submit import submit
from mlnb.capture.ship.contents import Content
from mlnb.cli.output import echo_json
from mlnb.errors import UsageError
from mlnb.rundir import RunDir
from mlnb.targets import registry
from mlnb.targets.config.options import COMMON, RunOption

_CELL_ONLY = {
    "--in": "a script reads its files where they are",
    "--out": "a script keeps its results itself",
    "--wait": "mlnb run waits, unless --detach is given",
}
"""Options that only cells have, and why scripts do not have them."""

_SEED = "seed of random, numpy and torch. Default: the script's own"
OPTIONS = (
    *(
        option.with_help(_SEED) if option.flag == "--seed" else option
        for option in ALL
        if option.flag not in _CELL_ONLY
    ),
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


def read_arguments(arguments: Sequence[str], runs: Runs) -> dict[str, Any]:
    """Read the command line of ``mlnb run``; returns the keyword arguments of :func:`run_script`.

    Raises
    ------
    UsageError
        for a wrong command line.
    """
    if not arguments:
        raise UsageError("run needs a script: mlnb run [options] script.py [args]. See mlnb run --help")
    options, script = split_script(arguments, runs)
    given = _table(options, runs).read(options)
    switches = {name: bool(given.pop(name, False)) for name in ("detach", "as_json")}
    return {"given": given, "script": script, **switches}


def split_script(arguments: Sequence[str], runs: Runs) -> tuple[list[str], list[str]]:
    """Split into the options of ``mlnb run`` (up to ``--help``), and the script (or ``-m``) with its arguments.

    Raises
    ------
    UsageError
        for an option that no target has, and for an option of ``mlnb run`` after the script.
    """
    table, index = _table(arguments, runs), 0
    while index < len(arguments) and arguments[index].startswith("-") and arguments[index] != "-m":
        if arguments[index] in ("-h", "--help"):
            return list(arguments[: index + 1]), []
        flag, equals, value = arguments[index].partition("=")
        if flag in _CELL_ONLY:
            raise UsageError(f"{flag}: not an option of mlnb run: {_CELL_ONLY[flag]}")
        option = table.find_in_any_kind(flag)  # any kind: arguments of the script may look like --on TARGET
        if option is None:
            raise table.refusal(flag, value)
        index += 1 if option.is_flag or equals else 2
    script = list(arguments[index:])
    _check_arguments(script, table)
    return list(arguments[:index]), script


def _check_arguments(script: Sequence[str], table: OptionTable) -> None:
    """Refuse an option of ``mlnb run`` among the script's arguments, unless it follows ``--``."""
    names = 2 if script[:1] == ["-m"] else 1
    for word in script[names:]:
        if word == "--":
            return
        flag = word.partition("=")[0]
        if flag.startswith("--") and table.find_in_any_kind(flag) is not None:
            name = " ".join(script[:names])
            raise UsageError(
                f"{flag} after {name}: an option of mlnb run. Write it before {name}; "
                f"if it is the script's own, write `--` after the script's name: {name} -- {flag} …"
            )


def _table(arguments: Sequence[str], runs: Runs) -> OptionTable:
    """The options for the target that ``arguments`` name, by ``--on`` or by the run of ``--resume``."""
    return OptionTable(value_of(arguments, "--on") or resume.target_name(arguments, runs), runs.workspace, OPTIONS)


def run_script(given: Mapping[str, Any], script: Sequence[str], *, runs: Runs, detach: bool, as_json: bool) -> int:
    """Run a script, or continue a run; returns the exit code.

    Parameters
    ----------
    given
        the values of the options, by key.
    script
        the script and its arguments; may be empty with ``--resume``.
    runs
        the runs that ``--resume`` can name, and to which the new run is added.

    Raises
    ------
    UsageError
        for wrong options or a script that can't be read. Then nothing is written.
    """
    rest = list(script)
    resumed = resume.run_to_resume(given.get("resume"), runs)
    if not rest and resumed is None:
        raise UsageError("run needs a script: mlnb run [options] script.py [args]")
    options = resume.complete_options(resumed, given, Options())
    workspace = runs.workspace
    target = registry.target(options.on, workspace)
    started = program(rest) if rest else None
    placement = options.placement(_name(started) if started is not None else resumed.name if resumed else "")
    offer = target.offer(options.resources(), placement)
    if resumed is not None:
        offer = resume.add_plan_line(resumed, options, offer)
    contents: dict[str, Content] = {}
    if started is not None:
        task, contents = script_task(started, options, offer)
        digests = {name: content.digest() for name, content in contents.items()}
        continues = resumed is not None and resume.same_work(resumed.task, task, digests)
    elif resumed is not None:
        task, continues = resumed.task, True
    if options.dry_run:
        what = "the script of the run" if started is None else " ".join([started.name, *started.argv])
        rows = [f"runs on      {target.name}: {'; '.join(offer.summary_lines)}", f"runs         {what}"]
        rows += [f"sends        {name}" for name in contents]
        submission = target.preview(RunDir(workspace.root / "RUN"), offer)
        click.echo("\n\n".join(part for part in ("\n".join(rows), task.script, submission) if part))
        return 0
    if resumed is not None and continues:
        run = resume.continue_run(resumed, given, options, target, offer)
    else:
        info_fields: dict[str, Any] = {
            "git": git_state(started.path.parent if started is not None else Path.cwd()),
            "asked": resume.requested_options(options, target),
        }
        if resumed is not None:
            info_fields["resume"] = str(resumed.directory.checkpoints)
        env = dict(options.env)
        run_dir = submit(task, contents, target, offer, name=placement.name, env=env, info_fields=info_fields)
        run = runs.add(Run(run_dir, workspace))
    if resumed is not None:
        click.echo(f"mlnb: {offer.summary_lines[-1]}", err=True)
    if detach:
        if as_json:
            echo_json(run.to_json())
        else:
            click.echo(f"{run.name} ({run.id}) submitted. `mlnb logs -f {run.id}` follows it.")
        return 0
    return _follow(run, as_json)


def _name(started: Program) -> str:
    """A run's name made from its script's or module's, without characters that a run's name can't have."""
    name = started.module.removesuffix(".__main__").rpartition(".")[2] if started.module else started.path.stem
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-._")[:64] or "script"


def _follow(run: Run, as_json: bool) -> int:
    try:
        for text, is_error in follow_output(run):
            click.echo(text, nl=False, err=is_error or as_json)
    except KeyboardInterrupt:
        commands = f"`mlnb logs -f {run.id}` follows it, `mlnb cancel {run.id}` stops it."
        click.echo(f"\nmlnb: Run {run.name} ({run.id}) continues. {commands}", err=True)
        return 130
    if as_json:
        echo_json(run.to_json())
    elif run.state != "succeeded":
        ended = end_sentence(run.name, run.state, run.reason, run.task.resources.world_size)
        click.echo(f"mlnb: {ended} `mlnb show {run.id}` has the details.", err=True)
    elif run.reason:
        click.echo(f"mlnb: Run {run.name} has succeeded, but {run.reason}.", err=True)
    return int(run.state != "succeeded")
