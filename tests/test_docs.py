"""The documentation is true: its examples run, its options and settings exist, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml

from mlnb.api.pools import POOL_OPTIONS, for_pools
from mlnb.api.submit.option_help import every_option
from mlnb.api.submit.option_reader import OptionTable, read, value_of
from mlnb.cli import main
from mlnb.cli.pool import pool
from mlnb.targets.config import settings as typed
from mlnb.targets.containers.base import Settings
from mlnb.targets.registry import load_kind
from mlnb.workspace import Workspace
from tests.notebook.kernels import kernel

ROOT = Path(__file__).parents[1]
DOCS = sorted((ROOT / "docs").rglob("*.md"))
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *DOCS]
USER_PAGES = [
    ROOT / "README.md",
    ROOT / "docs/site-setup.md",
    ROOT / "docs/first-steps.md",
    *sorted((ROOT / "docs/guide").glob("*.md")),
]
NOTEBOOKS = [ROOT / "docs/first-steps.md", *sorted((ROOT / "docs/guide").glob("*.md"))]
SERVED = {"mlnb/runs/ID/stream"}  # paths of the server, not of the tree
CONFIG = "c.TrainMagics.cpus = 1  # a small machine runs several tests at a time\n"


class Block(NamedTuple):
    """A fenced block: its language, its text, and whether ``<!-- fails -->`` stands before it."""

    language: str
    text: str
    fails: bool

    @property
    def runs_here(self) -> bool:
        """Whether it needs no batch system."""
        return "--on " not in self.text.partition("\n")[0]


def blocks(page: Path, language: str) -> list[Block]:
    blocks = re.findall(r"^(<!-- fails -->\n)?```(\w*)[^\n]*\n(.*?)^```", page.read_text(), flags=re.S | re.M)
    return [Block(kind, text, bool(fails)) for fails, kind, text in blocks if kind == language]


def runs_here(page: Path) -> bool:
    return any(block.runs_here for block in blocks(page, "python"))


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


def lines(pages: list[Path], pattern: str, language: str) -> Iterator[tuple[Path, str]]:
    for page in pages:
        for block in blocks(page, language):
            for match in re.findall(pattern, block.text, flags=re.M):
                yield page, match.partition(" #")[0].strip()


@pytest.mark.cluster
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "page", [page for page in NOTEBOOKS if any(b.runs_here for b in blocks(page, "python"))], ids=name
)
def test_the_cells_of_a_page_run(page: Path, tmp_path: Path):
    profile = tmp_path / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_kernel_config.py").write_text(CONFIG)
    with kernel(tmp_path, tmp_path / "runs", tmp_path / "ipython") as session:
        for block in blocks(page, "python"):
            if block.runs_here:
                cell = session.run(block.text)
                assert cell.status == ("error" if block.fails else "ok"), f"{block.text}\n{cell.text}"


@pytest.mark.parametrize(("page", "line"), lines(PAGES, r"^%%train(.*)$", "python"))
def test_the_options_of_cells_exist(page: Path, line: str):
    if "--gpu 1" not in line:  # the misspelt one, in a cell that is said to fail
        read(shlex.split(line), Workspace.of_process())


@pytest.mark.parametrize(("page", "line"), lines(PAGES, r"^%pool start(.*)$", "python"))
def test_the_options_of_pools_exist(page: Path, line: str):
    arguments = shlex.split(line)
    OptionTable(value_of(arguments, "--on"), Workspace.of_process(), POOL_OPTIONS, for_pools).read(arguments)


@pytest.mark.parametrize(("page", "line"), lines(PAGES, r"^mlnb(?= )(.*)$", "sh"))
def test_the_commands_exist(page: Path, line: str):
    command, *arguments = shlex.split(line)
    group = main
    if command == "pool":
        group, command, arguments = pool, arguments[0], arguments[1:]
    subcommand = group.commands[command]  # type: ignore[attr-defined]
    subcommand.make_context(command, arguments)
    if (group, command) == (pool, "start"):  # which reads its options when it is called
        OptionTable(value_of(arguments, "--on"), Workspace.of_process(), POOL_OPTIONS, for_pools).read(arguments)


@pytest.mark.parametrize("page", USER_PAGES, ids=name)
def test_options_that_are_named_exist(page: Path):
    """In code spans of pages for users: ``--name`` of mlnb, apart from those of other programs."""
    of_others = {"--all", "--gres", "--me"}
    of_commands = {"--detach", "--follow", "--help", "--json", "--number", "--rank"}
    ours = {flag for option in (*every_option(), *POOL_OPTIONS) for flag in option.flags} | of_commands
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M))
    named = {flag for span in spans for flag in re.findall(r"(?<![\w-])--[a-z][a-z-]*", span)}
    assert named - ours - of_others == set()


def packaged_kinds(page: Path) -> set[str]:
    """The kinds of targets that a page's example package defines."""
    return set(re.findall(r'entry-points."mlnb.targets"\]\n(\w+) = ', page.read_text()))


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_configurations_are_valid(page: Path):
    for block in blocks(page, "yaml"):
        section = yaml.safe_load(block.text)["mlnb"]
        assert set(section) <= {"runs", "target", "targets"}
        for target, settings in section["targets"].items():
            kind = settings.get("kind", target)
            if kind in packaged_kinds(page):  # the page's own test installs the package that it shows
                continue
            typed.checked(target, kind, settings, load_kind(kind).settings)
            Settings.of(settings.get("container", {}))
        assert section.get("target", "local") in {"local", *section["targets"]}


@pytest.mark.parametrize("kind", ["local", "slurm", "sge", "pbs", "moab", "lsf", "oar", "htcondor"])
def test_the_settings_of_targets_are_documented(kind: str):
    text = (ROOT / "docs/site-setup.md").read_text()
    assert [setting for setting in load_kind(kind).settings if not re.search(rf"`{setting}[`:]", text)] == []


@pytest.mark.parametrize("page", [*PAGES, ROOT / "docs/images/architecture.svg"], ids=name)
def test_files_that_are_named_exist(page: Path):
    named = re.findall(r"(?<![\w/.-])((?:mlnb|tests|labextension|notebooks)/[\w./-]*\w)", page.read_text())
    assert [path for path in named if not (ROOT / path).exists() and path not in SERVED] == []


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M), flags=re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path):
    """As on a forge, where nothing is built; ``make docs`` checks the site."""
    text = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.S | re.M)
    dead = []
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        leads_to = (page.parent / path).resolve() if path else page
        if not leads_to.exists() or (anchor and anchor not in anchors(leads_to)):
            dead.append(link)
    assert dead == []
