"""``make bench``: every benchmark in one run; ``--write`` puts the tables into docs/performance.md."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))


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
        ranks,
        steps,
        weights,
    )

    chosen = [name for name in sys.argv[1:] if not name.startswith("-")]
    tables = []
    for module in (log_call, first_metric, plan, weights, open_run, steps, ranks, chart_refresh, chart_smooth):
        name = module.__name__.rpartition(".")[2]
        if chosen and name not in chosen:
            continue
        print(name, flush=True)
        place = folder / name
        place.mkdir()
        tables.append(module.measure(place))
    from mlnb.targets import warm

    warm.stop()
    text = "\n".join(table.markdown() for table in tables)
    print(f"\n{text}")
    if "--write" in sys.argv:
        import torch

        machine = f"{os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}"
        where = f"{machine}, {time.strftime('%Y-%m-%d')}"
        path = ROOT / "docs" / "performance.md"
        head = path.read_text(encoding="utf-8").partition("<!-- tables -->")[0] if path.exists() else ""
        path.write_text(
            f"{head}<!-- tables -->\n\nBy `make bench` on {where}; all rows of a table in one run.\n\n{text}",
            encoding="utf-8",
        )


if __name__ == "__main__":
    main()
