"""Help, completion, configuration and tables."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mlnb.api import runs
from mlnb.api.submit.option_help import available_options, every_option
from mlnb.workspace import Workspace
from tests.notebook.conftest import Gate
from tests.notebook.kernels import MIME, Kernel, kernel


def test_the_help_lists_every_option_and_what_it_means(nb: Kernel) -> None:
    shown = nb.inspect("%%train")
    for option in every_option():
        row = rf"^ *{option.flag}\b.*{re.escape(str(option.help))}( \(only [a-z]+\))?$"
        assert re.search(row, shown, re.MULTILINE), option.flag
    assert shown.count("A rank is one training process.") == 1
    assert "90s, 30m, 2h" in shown


def test_completion_offers_the_options_that_are_left(nb: Kernel) -> None:
    assert nb.complete("%%train --na") == ["%%train --name"]
    assert "%%train --name x --name" not in nb.complete("%%train --name x --")
    offered = nb.complete("%%train --")
    options = available_options(None, Workspace.of_process())
    assert set(offered) == {f"%%train {flag}" for option in options for flag in option.flags}
    assert nb.complete("%%train --on slurm --part") == ["%%train --on slurm --partition"]
    assert nb.complete("%%train --on local --part") == []
    assert "%%train --env A --env" in nb.complete("%%train --env A --e")


def test_completion_offers_values(nb: Kernel) -> None:
    nb.ok("%%train --name finishing --wait\npass\n")
    assert nb.complete("%%train --on lo") == ["%%train --on local"]
    assert nb.complete("%%train --parallel ") == ["%%train --parallel auto", "%%train --parallel none"]
    assert "%%train --resume finishing" in nb.complete("%%train --resume fini")
    assert nb.complete("%%train --parallel=no") == ["%%train --parallel=none"]


def test_completion_leaves_other_lines_alone(nb: Kernel) -> None:
    assert nb.complete("%%train --name x\nmodel.wei") == ["%%train --name x\nmodel.weight"]
    assert not any("--" in text for text in nb.complete("x = -"))


def test_the_configuration_file_sets_the_defaults(nb: Kernel) -> None:
    assert "1 rank × 1 core " in nb.ok("%%train --dry-run\npass\n").out  # conftest's c.TrainMagics.cpus = 1
    assert "1 rank × 2 cores" in nb.ok("%%train --dry-run --cpus 2\npass\n").out


def test_the_configuration_can_be_changed_in_the_session(nb: Kernel) -> None:
    nb.ok("%config TrainMagics.ranks = 2\n%config TrainMagics.time = '1 h 30 m'")
    try:
        shown = nb.ok("%%train --dry-run\npass\n").out
        assert "2 ranks × 1 core" in shown
        assert "time limit 1 h 30 min" in shown
        assert "1 rank ×" in nb.ok("%%train --dry-run --ranks 1\npass\n").out
        nb.ok("%config TrainMagics.memory = 'plenty'")
        assert (
            nb.run("%%train\npass\n").message
            == "mlnb: --memory plenty: --memory takes a size like 24GB, 1.5GiB or 500M"
        )
    finally:
        nb.ok("%config TrainMagics.ranks = 0\n%config TrainMagics.time = ''\n%config TrainMagics.memory = ''")


def test_loading_twice_is_harmless(nb: Kernel) -> None:
    nb.ok("%load_ext mlnb")
    nb.ok("%reload_ext mlnb")
    assert nb.complete("%%train --na") == ["%%train --name"]
    assert nb.look("sum(type(t).__name__ == 'WaitTransformer' for t in get_ipython().ast_transformers)") == "1"
    nb.ok("%%train --name twice\nanswer = 42\n")
    assert nb.ok("answer").result == "42"


def test_loading_brings_the_name_mlnb_but_takes_no_one_s_place(tmp_path: Path, ipython_folder: Path) -> None:
    with kernel(tmp_path, tmp_path / "runs", ipython_folder) as fresh:
        fresh.ok("mlnb = 'mine'")
        fresh.ok("%load_ext mlnb")
        assert fresh.look("mlnb") == "'mine'"
        assert "No runs yet" in fresh.ok("%runs").text


def test_runs_shows_a_table_newest_first(nb: Kernel) -> None:
    nb.ok("%%train --name older --wait\nsteps(model, optimizer)\n")
    nb.run("%%train --name newer --wait\n1 / 0\n")
    cell = nb.ok("%runs 2")
    lines = cell.displays[0]["text/plain"].splitlines()
    assert lines[0].split() == ["name", "state", "why", "on", "started", "took", "loss", "id"]
    assert [line.split()[:2] for line in lines[1:]] == [["newer", "failed"], ["older", "succeeded"]]
    assert "ZeroDivisionError" in lines[1]
    assert runs["older"].id in lines[2]
    html = cell.displays[0]["text/html"]
    assert html.count("<tr>") == 3
    assert runs["newer"].id in html


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("%runs oldr", "No run named 'oldr' in {root}. Did you mean older?"),
        ("%runs 0", "%runs 0: a number from 1, or a run's name"),
    ],
)
def test_runs_refuses_what_it_cannot_show(nb: Kernel, line: str, message: str) -> None:
    nb.ok("%%train --name older --wait\npass\n")
    assert nb.run(line).message == "mlnb: " + message.format(root=nb.runs)


def test_runs_with_a_name_shows_that_run_and_leaves_its_cell_s_view_alive(nb: Kernel, gate: Gate) -> None:
    first = nb.ok(f"%%train --name seen\nsteps(model, optimizer)\n{gate.wait}\nsteps(model, optimizer)\n")
    second = nb.ok("%runs seen")
    assert second.run["state"] in ("pending", "starting", "running")
    gate.open()
    nb.until(lambda: all(cell.run["state"] == "succeeded" for cell in (first, second)))
    assert {**first.run, "updated": 0} == {**second.run, "updated": 0}
    assert all("image/png" in cell.view for cell in (first, second))
    ended = nb.ok("%runs seen")
    assert ended.run["state"] == "succeeded"
    assert "image/png" in ended.displays[0]
    assert MIME in ended.displays[0]


def test_a_run_as_a_cell_s_value_is_its_view_and_all_runs_are_a_table(nb: Kernel, gate: Gate) -> None:
    nb.ok(f"%%train --name shown\nsteps(model, optimizer)\n{gate.wait}\nsteps(model, optimizer)\n")
    cell = nb.ok("mlnb.runs['shown']")
    assert (cell.run["state"] in ("pending", "starting", "running"), cell.result) == (True, None)
    gate.open()
    nb.until(lambda: cell.run["state"] == "succeeded")
    assert {"image/png", "text/html", "text/plain"} < set(cell.view)
    (table,) = nb.ok("mlnb.runs").displays
    assert re.match(r"shown +succeeded ", table["text/plain"].splitlines()[1])
    assert ">shown</td>" in table["text/html"]


def test_the_view_follows_the_run_with_no_cell_running(nb: Kernel, gate: Gate) -> None:
    cell = nb.ok(f"%%train --name followed\nloss = steps(model, optimizer)\n{gate.wait}\n")
    nb.until(lambda: len(cell.run["metrics"].get("loss", {}).get("step", ())) == 5)
    assert cell.run["state"] == "running"
    assert "image/png" not in cell.view
    gate.open()
    nb.until(lambda: cell.run["state"] == "succeeded")
    assert cell.run["metrics"]["loss"]["step"] == [1, 2, 3, 4, 5]
    assert cell.run["metrics"]["loss"]["value"][-1] == float(nb.ok("loss").result or "")
    assert {"text/plain", "text/html", "image/png"} < set(cell.view)
    assert re.match(r"followed: succeeded · step 5 · loss [\d.]+ · .*took ", cell.view["text/plain"])


def test_the_plan_is_shown_in_full_when_it_has_changed_and_else_folded_below_the_view(
    tmp_path: Path, ipython_folder: Path
) -> None:
    with kernel(tmp_path, tmp_path / "runs", ipython_folder) as fresh:
        fresh.ok("%load_ext mlnb\nrate = 0.5")
        first = fresh.ok("%%train --name planned --wait\nhalf = rate\n")
        assert first.displays[0]["text/plain"].startswith("runs on      local: 1 rank × 1 core")
        assert "<summary>Sends 1 name · runs here on 1 core · returns half</summary>" in first.displays[0]["text/html"]
        assert re.search(r"^sends        1 name$", first.displays[0]["text/plain"], re.MULTILINE)
        assert re.search(r"^ +rate +value +0\.5$", first.displays[0]["text/plain"], re.MULTILINE)
        second = fresh.ok("%%train --name planned --wait\nhalf = rate\n")
        assert not any("runs on" in display["text/plain"] for display in second.displays)
        view, below = second.displays[:2]
        assert MIME in view
        assert below["text/html"] == first.displays[0]["text/html"]
        assert below["text/plain"] == "Sends 1 name · runs here on 1 core · returns half"
        third = fresh.ok("%%train --name planned --wait\nhalf = third = rate\n")
        assert "returns      half, third" in third.text
