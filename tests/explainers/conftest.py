"""Services of explanations for tests, one a test or one a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.explainers.explaining import Service, Setup, starting


@pytest.fixture
def setup() -> Iterator[Setup]:
    """Return a function that starts a model server and a service in front of it."""
    with starting() as start:
        yield start


@pytest.fixture(scope="module")
def shared() -> Iterator[Service]:
    """Start a service for tests that leave nothing behind."""
    with starting() as start:
        yield start()
