"""The demo, as a newcomer runs it once everything is installed, without a terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.timeout(300)]


def _demo(directory: Path, server_python: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "inferwatch_cli", "demo", "--directory", str(directory)]
    return subprocess.run(
        [*command, "--server-python", str(server_python), *options],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def test_it_finds_what_it_planted(tmp_path: Path, model_server_python: Path) -> None:
    done = _demo(tmp_path / "demo", model_server_python)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "everything that was planted was found" in done.stdout
    last = done.stdout.strip().splitlines()[-1]
    page = Path(last.removeprefix("page: ")).read_text()
    assert "employment" in page
    assert "alarm" in page
    assert "AGEP" in page


def test_without_drift_it_says_that_it_found_none(tmp_path: Path, model_server_python: Path) -> None:
    done = _demo(tmp_path / "demo", model_server_python, "--no-drift")
    assert done.returncode == 1, done.stdout + done.stderr
    assert "no drift alarm" in done.stdout
    assert "NOT found" in done.stdout


def test_a_missing_environment_is_named_with_the_command_that_makes_it(tmp_path: Path) -> None:
    done = _demo(tmp_path / "demo", tmp_path / "absent" / "python")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "make setup-demo" in done.stderr
