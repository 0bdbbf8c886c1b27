"""The lines of core/README.md that read the files with other tools, as they stand there."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import duckdb
import polars  # noqa: ICN001 - as the page has it
import pytest

from inferwatch.clock import ManualClock
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.segment import COLUMNS
from tests.components import ROOT
from tests.core.payload_log.test_sealing import sealer_of
from tests.core.pipeline.deriving import EVENING
from tests.inferences import request

README = (ROOT / "core" / "README.md").read_text(encoding="utf-8")
LINES = dict(re.findall(r"^((?:duckdb|polars)\.)(.*parquet.*)$", README, re.MULTILINE))


def test_the_lines_of_the_readme_work_as_they_stand(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal.open(tmp_path / "data" / "payloads", clock=ManualClock(EVENING)) as journal:
        journal.append([request(f"{number}", 60 * (number // 4), [[number]]) for number in range(8)]).result()
        sealer_of(journal).seal(everything=True)
    monkeypatch.chdir(tmp_path)
    for unneeded in ("pytz", "pandas"):
        monkeypatch.setitem(sys.modules, unneeded, None)
    counted = eval("duckdb." + LINES["duckdb."], {"duckdb": duckdb})  # noqa: S307 - our own page
    assert sorted((name, count) for name, _, count in counted.fetchall()) == [("income", 4), ("income", 4)]
    frame = eval("polars." + LINES["polars."], {"polars": polars})  # noqa: S307 - our own page
    assert (frame.height, frame.columns) == (8, list(COLUMNS))
