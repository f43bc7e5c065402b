"""``make demo``: the first notebook, headless, with a kernel restart in its middle; then where to look."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbconvert import HTMLExporter

NOTEBOOK = Path(__file__).with_name("01-train-in-a-cell.ipynb")


def run(notebook: Path, *options: str) -> nbformat.NotebookNode:
    """Execute ``notebook``; cells tagged ``after-restart`` in a new kernel.

    Parameters
    ----------
    options
        added to every ``%%train`` line, as in ``--on slurm``.
    """
    book = nbformat.read(notebook, as_version=4)
    cells = [(index, cell) for index, cell in enumerate(book.cells) if cell.cell_type == "code"]
    later = [(index, cell) for index, cell in cells if "after-restart" in cell.metadata.get("tags", [])]
    for part in ([pair for pair in cells if pair not in later], later):
        client = NotebookClient(book, timeout=600, resources={"metadata": {"path": str(notebook.parent)}})
        with client.setup_kernel():  # a kernel of its own
            for index, cell in part:
                source = cell.source
                if options and source.startswith("%%train"):
                    first, _, rest = source.partition("\n")
                    cell.source = f"{first} {' '.join(options)}\n{rest}"
                client.execute_cell(cell, index)
                cell.source = source
    return book


def printed(book: nbformat.NotebookNode, pattern: str) -> str:
    """The first match of ``pattern``'s group in what the notebook printed."""
    for cell in book.cells:
        for output in cell.get("outputs", ()):
            found = re.search(pattern, str(output.get("text", "")))
            if found:
                return found[1]
    raise SystemExit(f"the notebook printed nothing like {pattern!r}")


def main() -> None:
    """Run the demo and say where its results are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", nargs="?", type=Path, default=Path("demo-out"), help="folder for what it leaves")
    parser.add_argument("--on", help="the target that its cells run on")
    chosen = parser.parse_args()
    out = chosen.out.absolute()
    out.mkdir(exist_ok=True)
    os.environ.setdefault("MLNB_RUNS", str(out / "runs"))
    print(f"executing {NOTEBOOK.name} …", flush=True)
    book = run(NOTEBOOK, *(["--on", chosen.on] if chosen.on else []))
    nbformat.write(book, out / NOTEBOOK.name)
    page = out / NOTEBOOK.with_suffix(".html").name
    page.write_text(HTMLExporter().from_notebook_node(book)[0], encoding="utf-8")
    print(f"accuracy before  {printed(book, r'accuracy before: ([0-9.]+)')}")
    print(f"accuracy after   {printed(book, r'accuracy after: ([0-9.]+)')}")
    print(f"after a restart  {printed(book, r'on all digits: ([0-9.]+)')}")
    print(f"the notebook as HTML: {page}")


if __name__ == "__main__":
    main()
