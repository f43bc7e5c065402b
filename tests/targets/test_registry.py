"""Targets by name: the built-in ones, and those that other distributions install."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import dask
import pytest

from mlnb.errors import UsageError
from mlnb.targets.local import Local
from mlnb.targets.registry import KINDS, load_kind, names, target
from tests.targets.distributions import installed, write_distribution

TOY = """
from mlnb.targets.local import Local

class Toy(Local):
    kind = "toy"
    settings = frozenset({"warm", "speed"})
"""


@pytest.fixture
def site_packages(tmp_path: Path) -> Iterator[Path]:
    """A folder of installed distributions: one good, one that raises, one that is no target, and two of one name."""
    folder = tmp_path / "site-packages"
    toy = {"toy": "mlnb_toy:Toy"}
    write_distribution(folder, "mlnb-toy", {"mlnb_toy": TOY}, {"mlnb.targets": toy})
    raises = "import sys\nraise RuntimeError('no\\nlicense')"
    write_distribution(folder, "mlnb-bad", {"mlnb_bad": raises}, {"mlnb.targets": {"bad": "mlnb_bad:Bad"}})
    write_distribution(folder, "mlnb-gone", {}, {"mlnb.targets": {"gone": "mlnb_gone:Gone"}})
    write_distribution(folder, "mlnb-odd", {"mlnb_odd": "odd = 1"}, {"mlnb.targets": {"odd": "mlnb_odd:odd"}})
    for name in ("mlnb-one", "mlnb-two"):
        write_distribution(folder, name, {}, {"mlnb.targets": {"twice": "mlnb_toy:Toy", "local": "mlnb_toy:Toy"}})
    with installed(folder):
        yield folder


def refusal(name: str) -> str:
    with pytest.raises(UsageError) as caught:
        target(name)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_kind_of_another_distribution_is_a_target(site_packages: Path):
    assert "toy" in names()
    assert "mlnb_toy" not in sys.modules  # to know its name is not to import it
    assert type(target("toy")).__name__ == "Toy"
    with dask.config.set({"mlnb": {"targets": {"fast": {"kind": "toy", "speed": 3}}}}):
        assert (target("fast").name, "fast" in names()) == ("fast", True)
    with dask.config.set({"mlnb": {"targets": {"fast": {"kind": "toy", "sped": 3}}}}):
        assert refusal("fast") == "targets: fast: sped: a toy target has no such setting; did you mean speed?"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("bad", "target kind bad of the distribution mlnb-bad can't be loaded: RuntimeError: no license"),
        ("gone", "target kind gone of the distribution mlnb-gone can't be loaded: ModuleNotFoundError: No module"),
        ("odd", "target kind odd of the distribution mlnb-odd is not a class of targets: it has no 'kind'"),
        ("twice", "target kind twice: both mlnb-"),
    ],
)
def test_one_that_can_not_be_loaded_is_one_line_and_disturbs_no_other(site_packages: Path, name: str, line: str):
    assert refusal(name).startswith(line)
    assert type(target("toy")).__name__ == "Toy"
    assert {"local", "toy", name} <= set(names())


def test_only_the_chosen_class_is_imported(site_packages: Path):
    target("local")
    assert not {"mlnb_toy", "mlnb_bad", "mlnb_odd"} & set(sys.modules)


def test_a_built_in_kind_is_not_replaced(site_packages: Path):
    assert load_kind("local") is Local


def test_every_built_in_kind_has_its_own_name():
    for kind in (*KINDS.names(), "slurm", "sge", "pbs", "moab", "lsf", "oar", "htcondor"):
        assert load_kind(kind).kind == kind


@pytest.mark.parametrize(
    ("name", "nearest"), [("slrum", "slurm"), ("locla", "local"), ("htcondo", "htcondor"), ("moon", "")]
)
def test_an_unknown_target_is_refused_with_the_nearest(name: str, nearest: str):
    hint = f" Did you mean {nearest}?" if nearest else ""
    assert refusal(name).startswith(f"Unknown target {name}.{hint} Available: local")


@pytest.mark.parametrize("kind", ["slrum", "pool"])
def test_an_unknown_kind_in_the_configuration_is_refused(kind: str):
    with dask.config.set({"mlnb": {"targets": {"a100": {"kind": kind}}}}):
        assert refusal("a100").startswith(f"targets: a100: unknown kind {kind}.")
