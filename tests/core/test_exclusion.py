"""Our own questions, health checks and what a rule names are stored and not judged; nothing else escapes judgement."""

from __future__ import annotations

import pytest

from inferwatch.events import REQUEST_TYPE, CloudEvent
from inferwatch.exclusion import ComponentRule, Exclusion, HeaderRule


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
    assert Exclusion().reason(excluded, "v1") == "explain"
    assert Exclusion().reason(excluded, "health") == "explain"


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
    assert Exclusion().reason(counted, "v2") is None
    assert Exclusion().reason(counted, "unknown") is None


def test_health_is_excluded() -> None:
    assert Exclusion().reason(event(), "health") == "health"


RULES = Exclusion([HeaderRule("X-Synthetic", "true"), HeaderRule("x-replay"), ComponentRule("transformer")])


@pytest.mark.parametrize(
    "excluded",
    [
        event(component="transformer"),
        event(metadata='{"X-Synthetic":["true"]}'),
        event(metadata='{"x-synthetic":"true"}'),
        event(metadata='{"x-synthetic":["false","true"]}'),
        event(metadata='{"x-synthetic":"no","X-SYNTHETIC":["true"]}'),
        event(metadata='{"X-Replay":["anything"]}'),
        event(metadata='{"X-Replay":[]}'),
    ],
)
def test_what_a_rule_names_is_excluded(excluded: CloudEvent) -> None:
    assert RULES.reason(excluded, "v1") == "rule"
    assert Exclusion().reason(excluded, "v1") is None


@pytest.mark.parametrize(
    "counted",
    [
        event(),
        event(component="transformer2"),
        event(metadata='{"X-Synthetic":["True"]}'),
        event(metadata='{"X-Synthetic":[]}'),
        event(metadata='{"X-Synthetic-Data":["true"]}'),
        event(metadata='["x-replay"]'),
        event(metadata="x-replay"),
    ],
)
def test_what_no_rule_names_counts(counted: CloudEvent) -> None:
    assert RULES.reason(counted, "v1") is None


def test_the_reason_is_the_one_that_holds_without_rules() -> None:
    assert RULES.reason(event("inferwatch-explain-1", metadata='{"x-replay":["1"]}'), "v1") == "explain"
    assert RULES.reason(event(metadata='{"x-replay":["1"]}'), "health") == "health"
