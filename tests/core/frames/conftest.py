"""One log for all tests of a module, each with a model of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.core.frames.logged import Log


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Log]:
    log = Log(tmp_path_factory.mktemp("log"))
    yield log
    log.close()


@pytest.fixture
def log(whole: Log, request: pytest.FixtureRequest) -> Log:
    """The log as a model of the test's own name sees it."""
    return whole.of(request.node.name)
