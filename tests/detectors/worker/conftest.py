"""Small detectors among those of the registry."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from inferwatch.protocols import Detector
from inferwatch_detectors import plugins
from inferwatch_detectors.registry import DETECTORS, Entry
from tests.detectors.worker.plugged import Each, Plug, Seen


@pytest.fixture
def plug(monkeypatch: pytest.MonkeyPatch) -> Plug:
    """Put the small detectors, and others given as (kind, method)=builder, among those of the registry."""

    def plugged(**built: Callable[[], Detector]) -> None:
        known: dict[str, Callable[[], Detector]] = {"seen": Seen, "each": Each, **built}
        entries = {
            (kind, method): Entry(kind, method, kind == "drift", lambda *_, make=make, **__: make())
            for method, make in known.items()
            for kind in ("drift", "outlier")
        }
        monkeypatch.setattr(plugins, "DETECTORS", dict(DETECTORS) | entries)

    plugged()
    return plugged
