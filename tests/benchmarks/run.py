"""``make bench``: every benchmark, or those named; ``--write`` puts their tables into docs/performance.md."""

from __future__ import annotations

import os
import platform
import re
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from mlnb.workspace import Workspace

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))
MARK = "<!-- tables -->"

if TYPE_CHECKING:
    from tests.benchmarks.timing import Table


def main() -> None:
    """Run all, or those named on the command line."""
    folder = Path(tempfile.mkdtemp(prefix="mlnb-bench-"))
    os.environ["MLNB_RUNS"] = str(folder / "runs")
    os.environ["MLNB_RUNTIME"] = str(folder / "rt")
    from tests.benchmarks import (
        chart_refresh,
        chart_smooth,
        first_metric,
        log_call,
        open_run,
        plan,
        pool_first_metric,
        ranks,
        slurm,
        steps,
        weights,
    )

    chosen = [name for name in sys.argv[1:] if not name.startswith("-")]
    everywhere = (log_call, first_metric, plan, weights, open_run, steps, ranks, chart_refresh, chart_smooth)
    clusters = (slurm, pool_first_metric) if slurm.there() else ()
    tables: list[Table] = []
    for module in (*everywhere, *clusters):
        name = module.__name__.rpartition(".")[2]
        if chosen and name not in chosen:
            continue
        print(name, flush=True)
        place = folder / name
        place.mkdir()
        made = module.measure(place)
        tables += made if isinstance(made, list) else [made]
    from mlnb.targets import warm

    warm.stop(Workspace.of_process())
    print("\n" + "\n".join(table.markdown() for table in tables))
    if "--write" in sys.argv:
        path = ROOT / "docs" / "performance.md"
        path.write_text(merged(path.read_text(encoding="utf-8"), tables), encoding="utf-8")


def merged(document: str, tables: Sequence[Table]) -> str:
    """The document with these tables: each in the place of the one with its title, new ones at the end."""
    head, _, rest = document.partition(MARK)
    found = {part.partition("\n")[0]: part for part in re.split(r"^### ", rest, flags=re.MULTILINE)[1:]}
    for table in tables:
        title, _, body = table.markdown().removeprefix("### ").partition("\n")
        found[title] = f"{title}\n\n{_where()}\n{body}"
    return f"{head}{MARK}\n\n" + "\n".join(f"### {part.rstrip()}\n" for part in found.values())


def _where() -> str:
    import torch

    machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
    return f"On {machine}, {time.strftime('%Y-%m-%d')}, load {os.getloadavg()[0]:.1f} at its end."


if __name__ == "__main__":
    main()
