"""``mlnb run``: an unmodified script as a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

from mlnb.api import Run, runs
from mlnb.api.options import OPTIONS, help_text, parse_words
from mlnb.api.run import lines
from mlnb.api.script import script_task
from mlnb.api.submit import submit
from mlnb.cli import echo_json
from mlnb.errors import UsageError
from mlnb.targets import target

_NOT_HERE = {"--in", "--out", "--wait", "--resume"}
_HELP = f"""Usage: mlnb run [options] script.py [-- args]

  Run a script as it is, with its own command line. Prints what rank 0 prints until the run ends; an interrupt
  leaves the run running. Exit code: 0 succeeded, 1 not, 2 bad use.

Options:
{help_text([option for option in OPTIONS if option.flag not in _NOT_HERE])}
  --detach                return at once
  --json                  print the run as JSON at the end (with --detach: now)
"""


def run_script(words: Sequence[str]) -> int:
    """Run ``mlnb run`` with these words; the exit code.

    Raises
    ------
    UsageError
        for a bad command line, before anything is written.
    """
    if not words or words[0] in ("-h", "--help"):
        click.echo(_HELP)
        return 0 if words else 2
    ours, path, argv = _split(words)
    detach, as_json = "--detach" in ours, "--json" in ours
    options = parse_words([word for word in ours if word not in ("--detach", "--json")])
    place = target(options.on)
    offer = place.offer(options.resources(len(place.resources().get("gpus", ()))))
    task, contents = script_task(path, argv, options, offer)
    if options.dry_run:
        click.echo("\n".join([f"runs on    {place.name}: {'; '.join(offer.words)}", *contents, "", task.script]))
        return 0
    run = Run(submit(task, contents, place, offer, name=options.name or path.stem, env=dict(options.env)))
    runs.add(run)
    if detach:
        if as_json:
            echo_json(run.to_json())
        else:
            click.echo(f"{run.name} ({run.id}) is submitted; mlnb logs -f {run.id} follows it")
        return 0
    return _follow(run, as_json)


def _split(words: Sequence[str]) -> tuple[list[str], Path, list[str]]:
    """Our options, the script, the script's arguments (a ``--`` in front of them is left out)."""
    takes_value = {option.flag for option in OPTIONS if option.parse}
    index = 0
    while index < len(words) and words[index].startswith("-"):
        index += 2 if words[index] in takes_value else 1
    if index >= len(words):
        parse_words([word for word in words if word not in ("--detach", "--json")])  # its error comes first
        raise UsageError("mlnb run needs a script: mlnb run [options] script.py [-- args]")
    argv = list(words[index + 1 :])
    if argv and argv[0] == "--":
        argv = argv[1:]
    return list(words[:index]), Path(words[index]), argv


def _follow(run: Run, as_json: bool) -> int:
    try:
        for text in lines(run):
            click.echo(text, nl=False, err=as_json)
    except KeyboardInterrupt:
        click.echo(
            f"\nmlnb: {run.name} ({run.id}) goes on. mlnb logs -f {run.id} follows it, mlnb cancel {run.id} ends it",
            err=True,
        )
        return 130
    if as_json:
        echo_json(run.to_json())
    elif run.state != "succeeded":
        click.echo(f"mlnb: {run.name} ({run.id}) is {run.state}: {run.reason}", err=True)
    return int(run.state != "succeeded")
