"""Our own questions and health checks are stored and not judged; nothing else escapes judgement."""

from __future__ import annotations

import pytest

from inferwatch.events import REQUEST_TYPE, CloudEvent
from inferwatch.exclusion import exclusion


def event(identity: str = "1", **extensions: str) -> CloudEvent:
    return CloudEvent(identity, "test", REQUEST_TYPE, extensions=extensions)


@pytest.mark.parametrize(
    "excluded",
    [
        event("inferwatch-explain-5"),
        event(component="explainer"),
        event(metadata='{"X-Inferwatch-Origin":["explain"]}'),
        event(metadata='{"x-inferwatch-origin":"explain"}'),
        event(metadata='{"Accept":["*/*"],"X-INFERWATCH-ORIGIN":["explain"]}'),
    ],
)
def test_our_own_questions_are_excluded(excluded: CloudEvent) -> None:
    assert exclusion(excluded, "v1") == "explain"
    assert exclusion(excluded, "health") == "explain"


@pytest.mark.parametrize(
    "counted",
    [
        event(),
        event("explain-inferwatch-"),
        event(component="transformer"),
        event(metadata="null"),
        event(metadata="{}"),
        event(metadata='["x-inferwatch-origin"]'),
        event(metadata="x-inferwatch-origin: explain"),
        event(metadata='{"X-Inferwatch-Origin":[]}'),
        event(metadata='{"X-Inferwatch-Origin":["replay"]}'),
        event(metadata='{"Referer":["x-inferwatch-origin=explain"]}'),
    ],
)
def test_other_traffic_counts(counted: CloudEvent) -> None:
    assert exclusion(counted, "v2") is None
    assert exclusion(counted, "unknown") is None


def test_health_is_excluded() -> None:
    assert exclusion(event(), "health") == "health"
