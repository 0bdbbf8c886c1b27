"""Fixtures of a pipeline that takes small steps."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from inferwatch import pipeline as pipeline_module
from inferwatch.clock import ManualClock
from inferwatch.payload_log.journal import Journal
from tests.core.pipeline.deriving import (
    EVENING,
    derive,
    state_in,
    traffic,
)


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small steps, each with a commit, and no pause before another try."""
    monkeypatch.setattr(pipeline_module, "BATCH_EVENTS", 3)
    monkeypatch.setattr(pipeline_module, "COMMIT_INTERVAL_S", 0)
    monkeypatch.setattr(pipeline_module, "RETRY_S", 0)
    monkeypatch.setattr(pipeline_module, "time", SimpleNamespace(monotonic=lambda: 1.0))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path, clock=ManualClock(EVENING)) as opened:
        yield opened


@pytest.fixture
def undisturbed(journal: Journal, tmp_path: Path) -> dict[str, list[tuple[Any, ...]]]:
    journal.append(traffic()).result()
    with state_in(tmp_path / "undisturbed") as state:
        return derive(journal, state)
