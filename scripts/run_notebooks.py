"""Executes every notebook in notebooks/ and leaves the executed copies in build/notebooks.

    .venv/bin/python scripts/run_notebooks.py [OUT]

Exits 1 when a cell fails, with the cell's own error in one line; the copy then shows how far the notebook came.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 300


def execute(source: Path, out: Path) -> str | None:
    """Write the executed copy of a notebook into `out` and return the error of the cell that failed, if one did."""
    notebook = nbformat.read(source, as_version=4)
    resources = {"metadata": {"path": str(source.parent)}}
    client = NotebookClient(notebook, timeout=TIMEOUT_S, resources=resources)
    try:
        client.execute()
    except CellExecutionError as fault:
        return f"{fault.ename}: {fault.evalue}"
    finally:
        nbformat.write(notebook, out / source.name)
    return None


def main(out: Path) -> int:
    """Execute all and return the exit code."""
    out.mkdir(parents=True, exist_ok=True)
    failed = 0
    for source in sorted((ROOT / "notebooks").glob("*.ipynb")):
        error = execute(source, out)
        failed += error is not None
        print(f"{source.name}: {error or out / source.name}", file=sys.stderr if error else sys.stdout)
    return min(failed, 1)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "notebooks"))
