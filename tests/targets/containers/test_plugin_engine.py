"""A container engine of another distribution: the example of docs/contributing/add-a-container-engine.md."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mlnb.errors import UsageError
from mlnb.rundir import RunDir, write_json
from mlnb.targets import containers
from mlnb.targets.base import Placement
from mlnb.targets.containers import ENGINES
from mlnb.targets.local import Local
from mlnb.task import Resources
from mlnb.workspace import Workspace
from tests.targets.distributions import installed, write_distribution

PAGE = Path(__file__).parents[3] / "docs" / "contributing" / "add-a-container-engine.md"
GROUP = "mlnb.container_engines"


def blocks(language: str) -> list[str]:
    """The page's blocks of code in one language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.S | re.M)


@pytest.fixture
def chroot(tmp_path: Path) -> Iterator[None]:
    """The page's engine is installed; so are one whose module raises an exception, and one that is no engine."""
    (source,) = blocks("python")
    (table,) = blocks("toml")
    name, point = re.findall(r'^(\w+) = "(\S+)"$', table, re.M)[0]
    assert f'"{GROUP}"' in table
    folder = tmp_path / "site-packages"
    write_distribution(folder, "mlnb-chroot", {"mlnb_chroot": source}, {GROUP: {name: point}})
    write_distribution(
        folder, "mlnb-bad", {"mlnb_bad": "raise RuntimeError('no license')"}, {GROUP: {"bad": "mlnb_bad:E"}}
    )
    write_distribution(folder, "mlnb-odd", {"mlnb_odd": "odd = 1"}, {GROUP: {"odd": "mlnb_odd:odd"}})
    with installed(folder):
        yield


def settings(engine: str) -> dict[str, dict[str, str]]:
    return {"container": {"engine": engine}}


@pytest.mark.usefixtures("chroot")
def test_it_runs_the_node_program_as_the_page_says(tmp_path: Path):
    assert "chroot" in ENGINES.names()
    assert "mlnb_chroot" not in sys.modules  # to know its name is not to import it
    run = RunDir(tmp_path / "a run")
    run.path.mkdir()
    write_json(run.run, {"cwd": "/usr"})
    contained = containers.for_target("/srv/chroots/torch", settings("chroot"), Workspace.of_process())
    wrapped = contained.wrap(["-m", "mlnb.node", str(run.path)], run, Resources(), {"KEY": "secret"})
    assert wrapped.command[:2] == ["chroot", "/srv/chroots/torch"]
    assert wrapped.command[-3:] == ["-m", "mlnb.node", str(run.path)]
    assert wrapped.before == [f"mount --bind '{run.path}' '/srv/chroots/torch{run.path}'"]
    assert f"PYTHONPATH={run.node_zip}" in wrapped.command
    assert "secret" not in " ".join([*wrapped.command, *wrapped.before])


@pytest.mark.usefixtures("chroot")
def test_it_is_chosen_for_its_images_after_the_engines_of_mlnb(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.which", lambda program: program if program == "chroot" else None)
    assert containers.engine(None, "/srv/chroots/torch").name == "chroot"
    monkeypatch.setattr("shutil.which", lambda program: program if program in ("chroot", "ch-run") else None)
    assert containers.engine(None, "/srv/chroots/torch").name == "charliecloud"


@pytest.mark.usefixtures("chroot")
def test_the_local_target_refuses_what_it_has_not():
    local = Local("local", settings("chroot"), Workspace.of_process())
    with pytest.raises(UsageError, match=r"^--image /srv/chroots/none: there is no such file or folder$"):
        local.offer(Resources(), Placement(options={"image": "/srv/chroots/none"}))


@pytest.mark.usefixtures("chroot")
@pytest.mark.parametrize(
    ("engine", "line"),
    [
        ("bad", "container engine bad of the distribution mlnb-bad can't be loaded: RuntimeError: no license"),
        (
            "odd",
            "container engine odd of the distribution mlnb-odd is not a subclass of mlnb.targets.containers.Engine",
        ),
        (
            "chrot",
            "container.engine 'chrot': unknown engine. Did you mean chroot? Available: apptainer, bad, charliecloud",
        ),
    ],
)
def test_one_that_can_not_be_used_is_one_line_that_says_whose_it_is(engine: str, line: str):
    with pytest.raises(UsageError) as caught:
        containers.for_target("/srv/chroots/torch", settings(engine), Workspace.of_process())
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)


@pytest.mark.usefixtures("chroot")
def test_a_broken_one_that_nobody_named_is_in_nobodys_way(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("shutil.which", lambda program: program)
    assert containers.engine(None, "torch:1").name == "podman"
