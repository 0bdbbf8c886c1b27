from __future__ import annotations

import sys
from pathlib import Path

import pytest

from inferwatch.errors import MissingExtra
from inferwatch_dashboards import build
from tests.dashboards.conftest import COMMITTED


def test_the_committed_dashboard_is_the_generated_one(tmp_path: Path) -> None:
    assert [path.name for path in build(tmp_path)] == [COMMITTED.name]
    assert (tmp_path / COMMITTED.name).read_text() == COMMITTED.read_text(), (
        "run: inferwatch dashboards build --out dashboards"
    )


def test_nothing_is_committed_that_is_not_generated() -> None:
    assert [path.name for path in COMMITTED.parent.glob("*.json")] == [COMMITTED.name]


def test_the_folder_is_made_and_an_older_file_replaced(tmp_path: Path) -> None:
    first = build(tmp_path / "new" / "folder")
    first[0].write_text("older")
    assert build(tmp_path / "new" / "folder") == first
    assert first[0].read_text() == COMMITTED.read_text()


def test_without_the_sdk_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [
        name for name in sys.modules if name.startswith(("grafana_foundation_sdk", "inferwatch_dashboards.fleet"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "grafana_foundation_sdk", None)
    with pytest.raises(MissingExtra, match=r"inferwatch\[dashboards\]"):
        build(tmp_path)


def test_the_dashboard_fits_into_a_configmap() -> None:
    assert COMMITTED.stat().st_size < 200_000
