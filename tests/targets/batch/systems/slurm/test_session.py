"""What a session asks of SLURM through ``SBATCH_...`` is in the plan, or in the plan's words. The SLURM is played."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import dask
import pytest

from mlnb.api.submit.options import Options
from mlnb.errors import UsageError
from mlnb.rundir import RunDir
from mlnb.targets.batch.systems.slurm.text import parse_time_limit
from mlnb.targets.registry import target
from tests.option_line import parse
from tests.targets.batch.played import Played, go, played


@pytest.fixture
def slurm(tmp_path: Path) -> Iterator[Played]:
    with played(tmp_path / "slurm") as commands:
        yield commands


def planned(line: str = "") -> tuple[str, list[str]]:
    """The words of the plan of a ``%%train`` line, and the directives."""
    options = parse(line, Options(on="slurm"))
    place = target(options.on)
    offer = place.offer(options.resources(), options.placement("x"))
    shown = place.preview(RunDir(Path("/somewhere/RUN")), offer).splitlines()
    return "; ".join(offer.summary_lines), [one.removeprefix("#SBATCH ") for one in shown if one.startswith("#SBATCH")]


def said(flag: str, directives: list[str]) -> list[str]:
    return [one for one in directives if one.split("=")[0].split()[0] in flag.split("|")]


SET = {"PARTITION": "high", "ACCOUNT": "physics", "QOS": "long", "TIMELIMIT": "2:00:00", "RESERVATION": "course"}
WANTED = {"-p": "high", "-A": "physics", "-t": "02:00:00"}


def test_what_the_session_wants_is_the_default_and_the_plan_says_it(slurm: Played, monkeypatch: pytest.MonkeyPatch):
    for name, value in SET.items():
        monkeypatch.setenv(f"SBATCH_{name}", value)
    words, directives = planned()
    for flag, value in WANTED.items():
        assert said(flag, directives) == [f"{flag} {value}"]
    assert said("--qos", directives) == ["--qos=long"]
    assert said("--reservation", directives) == ["--reservation=course"]
    for part in ("partition high", "account physics", "QOS long", "time limit 2 h", "--reservation=course"):
        assert part in words


def test_the_person_comes_first_then_the_target(slurm: Played, monkeypatch: pytest.MonkeyPatch):
    for name, value in SET.items():
        monkeypatch.setenv(f"SBATCH_{name}", value)
    settings = {"account": "course", "time": "1h", "directives": ["--qos=normal", "--reservation mine"]}
    with dask.config.set({"mlnb": {"targets": {"slurm": settings}}}):
        _, directives = planned("--partition gpu")
        assert said("-p", directives) == ["-p gpu"]
        assert said("-A", directives) == ["-A course"]
        assert said("-t", directives) == ["-t 01:00:00"]
        assert said("--qos|-q", directives) == ["--qos=normal"]
        assert said("--reservation", directives) == ["--reservation=mine"]
        _, directives = planned("--account chemistry --qos high")
        assert said("-A", directives) == ["-A chemistry"]
        assert said("--qos|-q", directives) == ["--qos=high"]


def test_what_a_run_can_not_have_is_named_and_sbatch_hears_nothing_of_it_all(
    slurm: Played, monkeypatch: pytest.MonkeyPatch
):
    slurm.say("sbatch", f"env >{slurm.folder}/heard; echo 7")
    for name, value in {**SET, "EXPORT": "NONE", "GRES": "gpu:8"}.items():
        monkeypatch.setenv(f"SBATCH_{name}", value)
    assert "SBATCH_EXPORT, SBATCH_GRES of the session are ignored" in planned()[0]
    go()
    assert "SBATCH_" not in (slurm.folder / "heard").read_text()


def test_a_value_that_is_no_word_is_refused(slurm: Played, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SBATCH_ACCOUNT", "a b")
    with pytest.raises(UsageError, match="SBATCH_ACCOUNT 'a b': use letters"):
        planned()


def test_other_systems_know_no_quality_of_service():
    with pytest.raises(UsageError, match=r"--qos high: target pbs has no such option. Targets that have it: .*slurm"):
        planned("--on pbs --qos high")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2", 120),
        ("2:30", 150),
        ("1:02:03", 3723),
        ("2-1", 176400),
        ("2-1:30", 178200),
        ("2-1:30:15", 178215),
        ("UNLIMITED", None),
        ("", None),
        ("soon", None),
    ],
)
def test_times_as_sbatch_takes_them(text: str, seconds: int | None):
    assert parse_time_limit(text) == seconds


HEARD = (
    "env -0 >{0}/heard.$1; for word; do case $word in --export-file=*) cat ${{word#*=}} >{0}/given;; esac; done; echo 7"
)


def variables(file: Path) -> dict[str, str]:
    return dict(one.split("=", 1) for one in file.read_text().split("\0") if one)


def test_what_the_sites_plugins_need_is_heard_by_the_commands_and_does_not_travel(
    slurm: Played, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("KRB5CCNAME", "FILE:/tmp/ticket")
    monkeypatch.setenv("TOKEN_OF_THE_SESSION", "secret")
    slurm.say("sbatch", HEARD.format(slurm.folder))
    with dask.config.set({"mlnb": {"targets": {"slurm": {"command-variables": ["KRB5*"]}}}}):
        go(env={"ASKED": "it's\nhere"})
    heard, given = variables(slurm.folder / "heard.--parsable"), variables(slurm.folder / "given")
    assert heard["KRB5CCNAME"] == "FILE:/tmp/ticket"
    assert (given["PATH"], given["ASKED"]) == (heard["PATH"], "it's\nhere")
    assert {"KRB5CCNAME", "TOKEN_OF_THE_SESSION"}.isdisjoint(given)
    assert "TOKEN_OF_THE_SESSION" not in heard
