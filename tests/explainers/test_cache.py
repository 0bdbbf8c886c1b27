"""The same question again is answered from what was kept, and nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from inferwatch.events import CloudEvent
from inferwatch.explanation import Summary
from inferwatch.explanation_event import ExplanationEvent
from inferwatch_explainers.cache import ExplanationCache
from tests.explainers.explaining import INSTANCES, SCHEMA, Service, Setup, starting

MOST = 1_000_000


@pytest.fixture(scope="module")
def shared() -> Any:
    with starting() as start:
        yield start(cache=ExplanationCache(MOST, 60.0))


def test_the_same_question_again_asks_no_predictor(setup: Setup) -> None:
    told: list[CloudEvent] = []
    service = setup(cache=ExplanationCache(MOST, 60.0), record=told.append)
    replies = [service.post("/v1/models/m:explain", {"instances": INSTANCES}) for _ in range(2)]
    (_, first, _), (status, again, headers) = replies
    calls = len(service.server.calls)
    assert status == 200
    assert ("cached" in first, again["cached"], headers["age"]) == (False, True, "0")
    spent = ("predictor_calls", "predictor_rows", "elapsed_s")
    for old, new in zip(first["explanations"], again["explanations"], strict=True):
        assert {name: new.pop(name) for name in spent} == dict.fromkeys(spent, 0)
        assert old["predictor_calls"] == calls
        assert new.items() <= old.items()
    for result in ("hit", "miss"):
        counted = {"model_namespace": "default", "model_name": "m", "result": result}
        assert service.metric("inferwatch_explain_cache_lookups_total", **counted) == 1
    assert service.metric("inferwatch_explain_cache_bytes") > 100  # type: ignore[operator]  # it is there
    assert len({event.id for event in told}) == 2
    assert [read.cached for event in told if (read := ExplanationEvent.of(event))] == [False, True]
    fresh = service.post("/v1/models/m:explain", {"instances": INSTANCES}, {"Cache-Control": "no-cache"})
    assert "cached" not in fresh[1]
    assert len(service.server.calls) == 2 * calls


@pytest.mark.parametrize(
    ("changed", "headers", "kept"),
    [
        ({"parameters": {"reply": "alibi"}}, {}, True),
        ({"parameters": {"deadline_s": 9.0}}, {"traceparent": "00-1"}, True),
        ({"instances": INSTANCES[:1]}, {}, False),
        ({"parameters": {"samples": 16}}, {}, False),
        ({"parameters": {"method": "exact_shapley"}}, {}, False),
        ({"instances": [dict(zip(("age", "hours", "work"), row, strict=True)) for row in INSTANCES]}, {}, False),
        ({}, {"Authorization": "Bearer other"}, False),
    ],
)
def test_only_what_the_answer_does_not_depend_on_may_differ(
    shared: Service, changed: dict[str, Any], headers: dict[str, str], kept: bool
) -> None:
    body = {"instances": INSTANCES}
    assert shared.post("/v1/models/m:explain", body)[0] == 200
    before = len(shared.server.calls)
    status, _, said = shared.post("/v1/models/m:explain", body | changed, headers)
    assert status == 200
    assert ("age" in said, len(shared.server.calls) == before) == (kept, kept)


def test_another_version_of_the_model_is_asked_again(setup: Setup) -> None:
    service = setup(cache=ExplanationCache(MOST, 60.0))
    cells = [[39.0, 61.5], [40.0, 20.0], ["Private", "Other"]]
    inputs = [
        {"name": feature.name, "shape": [2, 1], "datatype": kind, "data": data}
        for feature, kind, data in zip(SCHEMA.features, ("FP64", "FP64", "BYTES"), cells, strict=True)
    ]

    def cached(instances: Any = inputs) -> bool:
        status, reply, _ = service.post("/v2/models/m/explain", {"inputs": instances})
        assert status == 200
        return "cached" in reply

    service.server.version = "1"
    assert [cached(), cached()] == [False, True]
    service.server.version = "2"
    assert cached() is True  # nobody has heard of it yet
    other = [inputs[0] | {"data": [40.0, 61.5]}, *inputs[1:]]
    assert [cached(other), cached(), cached()] == [False, False, True]


def test_what_a_deadline_cut_is_not_kept() -> None:
    cache = ExplanationCache(MOST, 60.0)
    cache.put(b"k", Summary("m", ({"a": 1},), 0, 0, 0.1, deadline_reached=True))
    assert (cache.get(b"k"), cache.size) == (None, 0)


def test_the_latest_are_kept_up_to_so_many_bytes_and_for_so_long() -> None:
    now = [0.0]
    entries = {key: Summary("m", ({"key": key, "text": "x" * 200},), 0, 0, 0.1) for key in "abc"}
    cache = ExplanationCache(800, 10.0, clock=lambda: now[0])
    for key in "ab":
        cache.put(key.encode(), entries[key])
    assert cache.get(b"a") == (entries["a"], 0.0)
    cache.put(b"c", entries["c"])
    assert [cache.get(key) is not None for key in (b"a", b"b", b"c")] == [True, False, True]
    cache.put(b"c", entries["c"])
    assert cache.size <= 800
    cache.put(b"d", Summary("m", ({"text": "x" * 900},), 0, 0, 0.1))
    assert cache.get(b"d") is None
    now[0] = 10.5
    assert [cache.get(key) for key in (b"a", b"c")] == [None, None]
    assert cache.size == 0
