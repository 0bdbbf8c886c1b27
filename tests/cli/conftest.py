from __future__ import annotations

import pytest


@pytest.fixture
def derived(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the API answer from all that was sent before, where it otherwise waits a second at most for that."""
    monkeypatch.setattr("inferwatch_logger.api.CATCH_UP_S", 120.0)
