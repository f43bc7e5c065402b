"""A cell with ``%%train``: what may come above it, on its line and just below it."""

from __future__ import annotations

import pytest

from mlnb.notebook.first_line import move_magic_up
from tests.notebook.kernels import Kernel


@pytest.mark.parametrize(
    ("cell", "moved"),
    [
        ("# a\n\n%%train --name x\ny\n", "%%train --name x\n# a\n\ny\n"),
        ("\n%%train", "%%train\n\n"),
        ("%%train\n# a\n", "%%train\n# a\n"),
        ("x = 1\n%%train\n", "x = 1\n%%train\n"),
        ("# a\n%%trainer\n", "# a\n%%trainer\n"),
        ("# a\n%%time\n%%train\n", "# a\n%%time\n%%train\n"),
        ("", ""),
    ],
)
def test_what_is_above_the_magic_moves_below_it(cell: str, moved: str) -> None:
    assert "".join(move_magic_up(cell.splitlines(keepends=True))) == moved


def test_comments_above_and_lines_keep_their_numbers(nb: Kernel) -> None:
    nb.ok("# a comment\n\n%%train --name above --wait\nanswer = 42\n")
    assert nb.ok("answer").result == "42"
    cell = nb.run("# a comment\n\n%%train --name wrong --wait\nx = 1\n1 / 0\n")
    assert "line 5: ZeroDivisionError" in cell.text


def test_the_times_of_a_statement_and_of_the_cell_are_printed(nb: Kernel) -> None:
    nb.ok(
        "%%train --name timed --wait\n%%time\n%time loss = steps(model, optimizer)\n%timeit -n 2 -r 1 loss + 1\nloss\n"
    )
    text = nb.ok("import mlnb\nprint(mlnb.runs['timed'].logs())").out
    assert text.count("CPU times: user ") == 2
    assert text.count("Wall time: ") == 2
    assert "per loop (mean ± std. dev. of 1 run, 2 loops each)" in text
    assert nb.ok("loss > 0").result == "True"


def test_a_cell_may_wait_for_something_at_top_level(nb: Kernel) -> None:
    nb.ok(
        "%%train --name awaits --wait\nimport asyncio\n"
        "async def double(x):\n    await asyncio.sleep(0)\n    return 2 * x\n"
        "twice = await double(4)\n"
    )
    assert nb.ok("twice").result == "8"


def test_values_in_braces_are_expanded_also_pending_ones(nb: Kernel) -> None:
    nb.ok("sizes = [3, 5]")
    nb.ok("%%train --name size-{sizes[1]}\nk = 7\n")
    nb.ok("%%train --name k-{k} --wait\npass\n")
    assert nb.ok("import mlnb\n[mlnb.runs[number].name for number in (0, 1)]").result == "['k-7', 'size-5']"
    assert nb.run("%%train --name k-{nothing_such}\npass\n").message == (
        "mlnb: %%train --name k-{nothing_such}: NameError: name 'nothing_such' is not defined"
    )
