"""Logs that these tests read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.logger.watched_log import WatchedLog, watched_log


@pytest.fixture
def log(tmp_path: Path) -> Iterator[WatchedLog]:
    with watched_log(tmp_path) as log:
        yield log


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedLog]:
    """A log for tests that look at their own payload alone, or at none."""
    with watched_log(tmp_path_factory.mktemp("shared")) as log:
        yield log
