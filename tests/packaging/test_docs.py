"""The pages of docs/ that are made from the code say what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_generated_pages_are_up_to_date(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(ROOT / "scripts" / "docs.py"), str(tmp_path)], check=True, capture_output=True)
    written = sorted(path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file())
    assert written
    stale = [str(page) for page in written if (ROOT / "docs" / page).read_bytes() != (tmp_path / page).read_bytes()]
    assert not stale, "out of date; `make docs` writes them again"
