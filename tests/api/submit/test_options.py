"""Options: what can't be used is refused with one line that says what was given and what is allowed."""

from __future__ import annotations

import shutil
from dataclasses import fields

import dask
import pytest

from mlnb.api.submit.option_help import every_option, help_text
from mlnb.api.submit.options import OPTIONS, RANKS, Options
from mlnb.errors import UsageError
from mlnb.targets.registry import kinds
from mlnb.task import Resources
from tests.option_line import parse

SLURM_IS_HERE = shutil.which("sbatch") is not None


def refusal(line: str) -> str:
    with pytest.raises(UsageError) as caught:
        parse(line)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_everything_that_there_is(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("FROM_SESSION", "a b")
    got = parse(
        "--gpus 2 --ranks 4 --cpus 3 --memory 16GB --time 1h30m --on a100 --in data --in other.py --out model "
        "--name resnet-50 --seed 7 --env A=1=2 --env FROM_SESSION --parallel none --resume old --wait --dry-run"
    )
    assert got == Options(
        gpus=2,
        ranks=4,
        cpus=3,
        memory=16 * 10**9,
        time=5400,
        on="a100",
        include=("data", "other.py"),
        outputs=("model",),
        name="resnet-50",
        seed=7,
        env=(("A", "1=2"), ("FROM_SESSION", "a b")),
        parallel="none",
        resume="old",
        wait=True,
        dry_run=True,
    )


@pytest.mark.parametrize("line", ["--cpus 2 --name x", "--cpus=2 --name=x", "  --cpus 2  --name 'x'  # a comment"])
def test_ways_to_write_the_same(line: str):
    assert parse(line) == Options(cpus=2, name="x")


def test_defaults_hold_where_nothing_is_said():
    assert parse("--cpus 2", Options(gpus=1, cpus=8)) == Options(gpus=1, cpus=2)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--gpu 2", ["--gpu", "did you mean --gpus?"]),
        ("--memmory 2GB", ["--memmory", "did you mean --memory?"]),
        ("gpus 2", ["gpus", "did you mean --gpus?"]),
        ("--xyzzy", ["--xyzzy", "options are", "--gpus", "--wait"]),
        ("--gpus", ["--gpus needs a value", "--gpus N", "GPUs on each node"]),
        ("--gpus --wait", ["--gpus needs a value"]),
        ("--gpus -1", ["--gpus -1", "a whole number from 0"]),
        ("--gpus two", ["--gpus two", "a whole number from 0"]),
        ("--cpus 0", ["--cpus 0", "a whole number from 1"]),
        ("--ranks 1.5", ["--ranks 1.5", "a whole number from 1"]),
        ("--memory lots", ["--memory lots", "24GB", "1.5GiB"]),
        ("--time soon", ["--time soon", "90s", "2h", "02:30:00"]),
        ("--seed -1", ["--seed -1", "2^63"]),
        ("--seed 9223372036854775808", ["--seed 9223372036854775808", "2^63 - 1"]),
        ("--parallel atuo", ["--parallel atuo", "auto or none", "did you mean auto?"]),
        ("--name 'two words'", ["--name 'two words'", "letters, digits"]),
        ("--name ../up", ["../up", "letters, digits"]),
        (f"--name {'x' * 65}", ["64 at most"]),
        ("--env 1X=2", ["--env 1X", "NAME or NAME=value"]),
        ("--cpus 1 --cpus 2", ["--cpus is given twice"]),
        ("--wait=yes", ["--wait=yes", "takes no value"]),
        ("--name 'open", ["--name 'open", "quote"]),
    ],
)
def test_what_cannot_be_used_is_named_with_what_can(line: str, words: list[str]):
    text = refusal(line)
    for word in words:
        assert word in text


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("NOT_THERE", raising=False)
    assert "NOT_THERE is not set in this session" in refusal("--env NOT_THERE")


def test_a_value_that_may_be_secret_is_not_repeated():
    assert "s3cret" not in refusal("--env 1X=s3cret")
    assert "s3cret" not in repr(parse("--env X=s3cret"))


def test_one_rank_a_gpu_where_nothing_else_is_said():
    assert parse("").resources() == Resources(1, 1, None)
    assert parse("--gpus 3").resources() == Resources(1, 3, 3)
    assert parse("--gpus 0").resources() == Resources(1, 1, 0)
    assert parse("--ranks 2 --cpus 1").resources() == Resources(1, 2, None, 1)


def test_several_partitions():
    assert parse("--on slurm --partition cpu,gpu").target_options == {"partition": "cpu,gpu"}
    assert "--partition cpu,: --partition takes a name" in refusal("--on slurm --partition cpu,")


def test_a_switch_can_be_off_and_is_one_option():
    assert parse("--on slurm --requeue").target_options == {"requeue": True}
    assert parse("--on slurm --no-requeue").target_options == {"requeue": False}
    assert parse("--on slurm").target_options == {}
    assert refusal("--on slurm --no-requeue --requeue") == "--no-requeue and --requeue: give one of them"
    assert refusal("--on slurm --requeue --requeue") == "--requeue is given twice"


@pytest.mark.parametrize(
    ("line", "start"),
    [
        ("--partition gpu", "--partition gpu: target local has no such option. "),
        ("--partition=gpu --on local", "--partition gpu: target local has no such option. "),
        ("--on local --no-requeue", "--no-requeue: target local has no such option. "),
        ("--on lsf --qos high", "--qos high: target lsf has no such option. "),
        ("--partiton gpu", "--partiton: not an option; did you mean --partition?"),
        ("--partition gpu --on slrum", "Unknown target slrum. Did you mean slurm?"),
    ],
)
def test_what_only_other_targets_have_is_refused_and_they_are_named(line: str, start: str):
    text = refusal(line)
    assert text.startswith(start)
    if "no such option" in text:
        assert "that have it: " in text
        assert "slurm" in text.partition("that have it: ")[2]


def test_the_default_target_s_options_need_no_name_of_it():
    assert parse("--partition gpu", Options(on="slurm")) == Options(on="slurm", target_options={"partition": "gpu"})
    with dask.config.set({"mlnb": {"target": "a100", "targets": {"a100": {"kind": "slurm"}}}}):
        assert parse("--partition gpu").target_options == {"partition": "gpu"}
        assert refusal("--on local --partition gpu").endswith("Targets that have it: a100.") or SLURM_IS_HERE


def test_help_has_a_line_for_every_option():
    options = every_option()
    *lines, ranks = help_text(options).splitlines()
    groups = [line for line in lines if line.endswith(":")]
    assert groups == ["Common:", "GPUs:", "Cluster:", "Advanced:"]
    rows = [line for line in lines if line.startswith("  ")]
    assert len(rows) == len(options)
    for option in options:
        (row,) = [row for row in rows if row.split()[0] == option.flag]
        assert str(option.help) in row
    assert ranks == RANKS


def test_help_has_what_targets_declare_once():
    flags = [option.flag for option in every_option()]
    assert {"--partition", "--account", "--qos", "--requeue", "--image"} < set(flags)
    assert len(set(flags)) == len(flags)


def test_no_target_declares_an_option_that_every_run_has():
    general = {flag for option in OPTIONS for flag in (option.key, *option.flags)}
    for kind, loaded in kinds().items():
        assert not general & {flag for option in loaded.options for flag in (option.key, *option.flags)}, kind


def test_every_general_option_has_an_attribute():
    assert {option.key for option in OPTIONS} | {"target_options"} == {field.name for field in fields(Options)}
