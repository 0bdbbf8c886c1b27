"""Sampling in the capture middleware: by chance, by a header, by a field of the body."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import orjson
import pytest
from prometheus_client import CollectorRegistry

from inferwatch.events import CloudEvent
from inferwatch.sampling import Sampling
from inferwatch_logger import CaptureMiddleware
from tests.logger.asgi import JSON, call
from tests.logger.captured import captured

WHOSE = {"model_namespace": "prod", "model_name": "income", "sink": "MemorySink"}
USERS = [f"user-{number}" for number in range(60)]


def sampled(headers: Callable[[str], list[tuple[str, str]]], **sample: Any) -> tuple[list[CloudEvent], float]:
    """Ask once for every user; return the events, and how many requests were left out."""
    left_out = 0.0
    accounted: list[float | None] = []

    async def test(wrap: Callable[..., CaptureMiddleware]) -> None:
        nonlocal left_out
        registry = CollectorRegistry()
        middleware = wrap(sample=sample, metadata_headers=["x-user"], metrics=registry)
        for user in USERS:
            body = orjson.dumps({"instances": [[1]], "user": user})
            await call(middleware, headers=[JSON, *headers(user)], parts=[body[:9], body[9:]])
        await middleware.aclose()
        left_out = registry.get_sample_value("inferwatch_logger_sampled_out_total") or 0.0
        accounted.append(registry.get_sample_value("inferwatch_logger_captured_total", WHOSE))

    events = captured(test)
    assert accounted == [len(events)]  # what is left out was never captured
    return events, left_out


def test_sampling_by_a_header_or_a_field_takes_the_same_users_with_both_halves() -> None:
    by_header, out_by_header = sampled(lambda user: [("x-user", user)], rate=0.4, by={"header": "X-User"})
    by_field, out_by_field = sampled(lambda user: [("x-user", user)], rate=0.4, by={"field": "$.user"})
    users = [[event.extensions["metadata"] for event in events] for events in (by_header, by_field)]
    assert sorted(users[0]) == sorted(users[1])
    halves = Counter((event.extensions["metadata"], event.type) for event in by_header)
    assert set(halves.values()) == {1}
    assert len(by_header) == 2 * len(set(users[0]))
    assert 0 < len(by_header) < 2 * len(USERS)
    assert out_by_header == out_by_field == len(USERS) - len(by_header) / 2
    assert {event.extensions["sampledrate"] for event in by_header} <= {"2", "3"}


def test_sampling_by_chance_keeps_halves_together() -> None:
    events, left_out = sampled(lambda _: [], rate=0.5)
    assert set(Counter(event.id for event in events).values()) <= {2}
    assert left_out == len(USERS) - len(events) / 2
    events, left_out = sampled(lambda _: [], rate=1.0)
    assert (len(events), left_out) == (2 * len(USERS), 0)
    assert "sampledrate" not in events[0].extensions
    assert sampled(lambda _: [], rate=0) == ([], len(USERS))


def test_a_request_without_the_value_is_sampled_by_chance_and_said_once(caplog: pytest.LogCaptureFixture) -> None:
    for by in ({"header": "x-user"}, {"field": "$.nobody"}):
        caplog.clear()
        events, left_out = sampled(lambda _: [], rate=0.5, by=by)
        assert left_out == len(USERS) - len(events) / 2
        assert [record.message for record in caplog.records].count(
            "a request has no value that `sample.by` names; it is sampled by chance"
        ) == 1


def test_responses_alone_are_sampled_by_their_requests() -> None:
    async def test(wrap: Callable[..., CaptureMiddleware]) -> None:
        middleware = wrap(mode="response", sample={"rate": 0.5, "by": {"field": "$.user"}})
        for user in USERS:
            await call(middleware, parts=[orjson.dumps({"instances": [[1]], "user": user})])

    kept = len(captured(test))
    assert kept == sum(Sampling(0.5).takes(user) for user in USERS)
