"""Whose requests are, what differs from model to model, and when events are made."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from inferwatch.errors import ConfigError
from inferwatch.events import CloudEvent
from inferwatch_logger import recorder as recorders
from inferwatch_logger.capture import Capture
from inferwatch_logger.recorder import Recorder

LARGE = b'{"ssn": 1, "pad": "' + b"x" * 100_000 + b'"}'


def captured(*paths: str, **options: Any) -> list[CloudEvent]:
    events: list[CloudEvent] = []
    recorder = Recorder(Capture.of(**options), events.append)
    for path in paths:
        ask(recorder, path)
    assert recorder.guarded.errors == 0
    return events


def ask(recorder: Recorder, path: str, body: bytes = b"asked", reply: bytes = b"") -> None:
    inference = recorder.begin("POST", path, [])
    if inference is not None:
        inference.request_part(body)
        inference.request_end()
        inference.response_start(200, ())
        inference.response_part(reply)
        inference.response_end()


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/v1/models/income:predict", "income"),
        ("/v2/models/a-b.c_1/versions/3/infer", "a-b.c_1"),
        ("/v1/models/", "unknown"),
        ("/openai/v1/completions", "unknown"),
    ],
)
def test_the_path_names_the_model(path: str, name: str) -> None:
    event = captured(path, namespace="prod")[0]
    assert event.stream[:2] == ("prod", name)
    assert event.source == f"/namespaces/prod/services/{name}/predictor"
    event = captured(path, namespace="prod", source="http://localhost:9081/")[0]
    assert event.source == "http://localhost:9081/"


def test_events_come_in_the_order_in_which_their_parts_were_complete() -> None:
    events: list[CloudEvent] = []

    async def pipelined() -> None:
        recorder = Recorder(Capture.of(name="m"), events.append)
        first, second = (recorder.begin("POST", f"/{number}", []) for number in range(2))
        assert first is not None
        assert second is not None
        first.request_end()
        recorder.flush()  # the first request's event is made before the second request is complete
        second.request_end()
        for inference, body in ((first, b"1"), (second, b"2")):
            inference.response_start(200, ())
            inference.response_part(body)
            inference.response_end()
        recorder.flush()

    asyncio.run(pipelined())
    assert [event.data for event in events] == [b"", b"", b"1", b"2"]


def test_names_are_bounded() -> None:
    paths = [*(f"/v1/models/m{number}:predict" for number in range(1_003)), "/v1/models/m1:predict"]
    events = captured(*paths, mode="request")
    assert [event.stream.name for event in events[998:]] == ["m998", "m999", "unknown", "unknown", "unknown", "m1"]


def test_models_are_switched_one_by_one() -> None:
    models: Mapping[str, Mapping[str, Any]] = {
        "income": {"enabled": False},
        "iris": {"mode": "response", "max_body_bytes": 2},
        "test-*": {"mode": "request"},
        "test-b": {"enabled": False},
    }
    paths = [f"/v1/models/{name}:predict" for name in ("income", "iris", "test-a", "test-b", "other")]
    events = captured(*paths, name="all", models=models, namespace="prod")
    seen = [(event.extensions["path"][11:-8], event.type.rsplit(".")[-1], event.data) for event in events]
    assert seen == [
        ("iris", "response", b""),
        ("test-a", "request", b"asked"),
        ("test-b", "request", b"asked"),
        ("other", "request", b"asked"),
        ("other", "response", b""),
    ]
    assert {event.stream.name for event in events} == {"all"}
    events = captured(*paths, models=models)
    assert [event.stream.name for event in events] == ["iris", "test-a", "test-b", "other", "other"]
    assert captured(*paths, models={"*": {"enabled": False}, "iris": {"enabled": True}}) == []
    on = captured(*paths, enabled=False, models={"iris": {"enabled": True}})
    assert [event.stream.name for event in on] == ["iris", "iris"]
    assert captured(*paths, enabled=False) == []


def test_a_models_rules_come_on_top() -> None:
    events: list[CloudEvent] = []
    options = {"redact": ["$.a"], "models": {"m": {"redact": ["$.b"], "sample": {"rate": 1.0}}}}
    recorder = Recorder(Capture.of(name="m", **options), events.append)  # type: ignore[arg-type]
    for name in ("m", "other"):
        ask(recorder, f"/v1/models/{name}:predict", b'{"a":1,"b":2}')
    assert [event.data for event in events if event.data] == [b'{"a":null,"b":null}', b'{"a":null,"b":2}']


@pytest.mark.parametrize(
    ("options", "faults"),
    [
        ({"models": {"m": {"path": 1}}}, ["models.m: path: unknown key; allowed here: enabled, mode, sample"]),
        ({"models": {"m": 1}}, ["models.m: 1 is no mapping; allowed here: enabled"]),
        ({"models": {"m": {"mode": "x"}}}, ["models.m.mode: 'x' is none of all, request, response"]),
        ({"sample": {"rate": 2}}, ["sample: rate: 2 is no number from 0 to 1"]),
        ({"sample": {"rate": True}}, ["sample: rate: True is no number"]),
        ({"sample": 0.5}, ["sample: 0.5: a sample is a mapping with rate, by, key_file"]),
        ({"sample": {"by": "x-user"}}, ["sample: 'x-user': by is a mapping with header, field"]),
        ({"sample": {"by": {}}}, ["sample: by: names either a `header` or a `field`"]),
        ({"sample": {"by": {"header": "a", "field": "$.a"}}}, ["sample: by: is either a `header` or a `field`"]),
        ({"sample": {"by": {"field": "user"}}}, ["sample: 'user' is no JSON path; allowed is $ with steps"]),
        ({"sample": {"key_file": "/no/such"}}, ["sample: /no/such: No such file"]),
        ({"redact": ["ssn"]}, ["redact: 'ssn': a rule is `headers.NAME`, or a JSON path"]),
        ({"redact": "$.ssn"}, ["redact: '$.ssn' is one text; allowed is a list"]),
        ({"metadata_headers": "x-a", "paths": "/v1"}, ["metadata_headers: 'x-a' is one text", "paths: '/v1' is one"]),
        ({"enabled": "no", "max_body_bytes": "1"}, ["enabled: 'no' is neither", "max_body_bytes: '1' is no number"]),
    ],
)
def test_every_fault_of_the_options_is_named(options: dict[str, Any], faults: list[str]) -> None:
    with pytest.raises(ConfigError) as raised:
        Capture.of(name="m", **options)
    assert len(raised.value.faults) == len(faults)
    for fault, beginning in zip(raised.value.faults, faults, strict=True):
        assert str(fault).startswith(beginning)


def test_nothing_is_made_while_a_request_waits_and_everything_soon_after() -> None:
    events: list[CloudEvent] = []

    async def test() -> None:
        recorder = Recorder(Capture.of(name="m"), events.append)
        for _ in range(200):
            ask(recorder, "/p")
        assert events == []
        async with asyncio.timeout(60):  # a loop that is never idle holds them up no longer than their making takes
            while len(events) < 400:  # noqa: ASYNC110 - as requests keep a loop busy
                await asyncio.sleep(0)
        ask(recorder, "/p")

    asyncio.run(test())
    before = len(events)

    async def another_loop() -> None:
        ask(recorder, "/p")
        await asyncio.sleep(0.05)

    recorder = Recorder(Capture.of(name="m"), events.append)
    asyncio.run(another_loop())
    asyncio.run(another_loop())
    assert len(events) == before + 4


def test_events_are_made_in_the_next_turn_of_the_loop_and_under_load_gathered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorders, "_GATHER_S", 60.0)
    events: list[CloudEvent] = []

    async def test() -> None:
        recorder = Recorder(Capture.of(name="m"), events.append)
        for number in range(8):
            ask(recorder, "/p")
            assert len(events) == 2 * number
            await asyncio.sleep(0.01)
            assert len(events) == 2 * number + 2
        ask(recorder, "/p")
        await asyncio.sleep(0.01)
        assert len(events) == 16
        recorder.flush()
        assert len(events) == 18

    asyncio.run(test())


def test_large_bodies_are_redacted_beside_the_loop() -> None:
    events: list[CloudEvent] = []

    async def test() -> None:
        recorder = Recorder(Capture.of(name="m", redact=["$.ssn"]), events.append)
        for _ in range(5):
            ask(recorder, "/p", LARGE, LARGE)
        recorder.flush()
        assert events == []
        await recorder.aclose(10)
        assert recorder.tallies.withheld == [0, 0]

    asyncio.run(test())
    assert len(events) == 10
    assert {event.data for event in events} == {LARGE.replace(b'"ssn": 1', b'"ssn": null')}


def test_what_waits_to_be_redacted_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorders, "_MOST_PENDING_BYTES", 3 * len(LARGE))
    events: list[CloudEvent] = []

    async def test() -> None:
        recorder = Recorder(Capture.of(name="m", redact=["$.ssn"], mode="request"), events.append)
        for _ in range(5):
            ask(recorder, "/p", LARGE)
        recorder.flush()
        assert [event.data for event in events] == [b"null"] * 2
        await recorder.aclose(10)
        assert recorder.tallies.withheld == [2, 0]

    asyncio.run(test())
    assert len(events) == 5
