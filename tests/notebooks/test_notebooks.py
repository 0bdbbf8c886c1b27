"""Every notebook is committed clean, says what it needs, and runs from top to bottom on the log of a running `up`."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.components import ROOT
from tests.waiting import eventually
from tests.watched import MODEL, SAMPLE, judged, running_up, send_everything

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

pytestmark = pytest.mark.parametrize("source", NOTEBOOKS, ids=lambda path: path.stem)


def test_notebooks_are_committed_without_outputs(source: Path) -> None:
    notebook = nbformat.read(source, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert cells
    assert all(cell.outputs == [] and cell.execution_count is None for cell in cells)


def test_the_readme_names_the_notebook(source: Path) -> None:
    assert f"`{source.name}`" in (ROOT / "notebooks" / "README.md").read_text(encoding="utf-8")


@pytest.mark.integration
def test_without_a_log_the_notebook_says_where_one_comes_from(source: Path, tmp_path: Path) -> None:
    done = execute(tmp_path, tmp_path / "absent")
    assert done.returncode == 1
    assert f"{source.name}: FileNotFoundError" in done.stderr
    assert "make demo" in done.stderr


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The payload log of an `up` that still runs."""
    with running_up(tmp_path_factory.mktemp("up")) as up:
        send_everything(up.url)
        eventually("up has judged", lambda: judged(up.url))
        yield up.data


@pytest.mark.integration
def test_the_notebook_runs_on_the_log_of_up(source: Path, log: Path, tmp_path: Path) -> None:
    done = execute(tmp_path, log)
    assert done.returncode == 0, done.stderr
    cells = [cell for cell in nbformat.read(tmp_path / source.name, as_version=4).cells if cell.cell_type == "code"]
    shown = [output.get("data", {}) for cell in cells for output in cell.outputs]
    assert sum("image/png" in data for data in shown) == 2
    tables = [data["text/html"] for data in shown if "text/html" in data]
    assert any("petal_length" in table and "effect" in table for table in tables)
    assert any(table.startswith('<img alt="kernel_shap: ') for table in tables)
    assert 0 < tables[-1].find("first-outlier-0") < tables[-1].find("first-shifted")


def execute(out: Path, data: Path) -> subprocess.CompletedProcess[str]:
    named = {"DATA": data, "MODEL": MODEL, "REFERENCE": SAMPLE / "reference.csv"}
    environment = os.environ | {f"INFERWATCH_NOTEBOOK_{name}": str(value) for name, value in named.items()}
    command = [sys.executable, str(ROOT / "scripts" / "run_notebooks.py"), str(out)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
