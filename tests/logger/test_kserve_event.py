"""Events beside those of KServe's own logger: its attributes, its values, byte for byte, and ours beside."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest

from inferwatch.delivery.http import HttpSink
from inferwatch.delivery.memory import MemorySink
from inferwatch.events import CloudEvent
from inferwatch.wire.cloudevents import to_http
from inferwatch_logger import CaptureMiddleware
from inferwatch_logger.capture import Capture
from inferwatch_logger.recorder import Recorder
from tests.core.delivery.scripted_sink import OK, ScriptedSink, scripted_sink
from tests.core.wire.test_cloudevents import fields_of
from tests.logger.asgi import PLAIN, call

AGENTS = """\
Ce-Annotations: {"a/b":"c d","owner":"me"}
Ce-Component: predictor
Ce-Endpoint:\x20
Ce-Id: b9181bae-70ef-4523-9d22-ad104a141f7a
Ce-Inferenceservicename: iris
Ce-Metadata: {"Content-Type":["application/json"],"X-Request-Id":["abc"]}
Ce-Namespace: ns1
Ce-Recordedtime: 2026-11-21T02:22:01.480663283Z
Ce-Source: http://localhost:9181/
Ce-Specversion: 1.0
Ce-Time: 2026-11-21T02:22:01.480593408Z
Ce-Type: org.kubeflow.serving.inference.response
Content-Type: application/json"""
"""What KServe's agent of 0.20 sent."""

OURS = {"ce-path", "ce-method", "ce-statuscode", "ce-latencyms"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def both(**headers: str) -> list[CloudEvent]:
    """Capture what the agent was asked, with the agent's settings."""
    events: list[CloudEvent] = []
    capture = Capture.of(
        name="iris",
        namespace="ns1",
        endpoint="",
        source="http://localhost:9181/",
        annotations={"owner": "me", "a/b": "c d"},
        metadata_headers=["x-request-id", "content-type"],
    )
    given = {"content-type": "application/json", "x-request-id": "abc"} | headers
    fields = [(name.encode(), value.encode()) for name, value in given.items()]
    inference = Recorder(capture, events.append).begin("POST", "/v1/models/iris:predict", fields)
    assert inference is not None
    inference.request_part(b'{"instances": [1]}')
    inference.request_end()
    inference.response_start(200, [(b"Content-Type", b"application/json")])
    inference.response_part(b'{"predictions": [1]}')
    inference.response_end()
    return events


def test_the_agents_attributes_and_values() -> None:
    agents = dict(line.lower().split(": ", 1) for line in AGENTS.splitlines() if not line.startswith("Ce-Metadata"))
    given = both(**{"ce-id": "b9181bae-70ef-4523-9d22-ad104a141f7a"})[1]
    attributes = {f"ce-{name}": value for name, value in given.attributes().items()}
    attributes["content-type"] = attributes.pop("ce-datacontenttype")
    assert attributes.pop("ce-metadata") == '{"Content-Type":["application/json"],"X-Request-Id":["abc"]}'
    for name in ("ce-time", "ce-recordedtime"):
        assert TIME.fullmatch(attributes.pop(name))
        assert TIME.fullmatch(agents.pop(name).upper())
    assert {name: value for name, value in attributes.items() if name not in OURS} == agents
    assert set(attributes) >= OURS
    assert given.data == b'{"predictions": [1]}'


def test_the_two_of_a_request_and_their_times() -> None:
    request, response = both()
    assert request.id == response.id
    assert UUID.fullmatch(request.id)
    assert len({both()[0].id for _ in range(50)}) == 50
    assert {request.type, response.type} == {
        f"org.kubeflow.serving.inference.{half}" for half in ("request", "response")
    }
    assert request.source == response.source
    assert request.extensions["metadata"] == response.extensions["metadata"]
    assert request.time_ns is not None
    assert response.time_ns is not None
    assert request.time_ns <= response.time_ns
    assert set(response.extensions) - set(request.extensions) == {"statuscode", "latencyms"}


def test_on_the_wire_values_are_visible_ascii() -> None:
    event = both(**{"ce-id": "naïve", "x-request-id": 'a "b"'})[0]
    headers = dict(fields_of(to_http(event)[0]))
    assert headers[b"ce-id"] == b"na%C3%AFve"
    assert all(re.fullmatch(rb"[ -~]*", value) for value in headers.values())

    async def posted() -> list[CloudEvent]:
        async with scripted_sink(lambda _: OK) as server:
            sink = HttpSink(server.url)
            await sink.send([event])
            await sink.aclose()
            return server.events

    assert asyncio.run(posted()) == [event]


def test_a_repeated_event_is_the_same_event() -> None:
    replies = iter([b"HTTP/1.1 503 Busy\r\nretry-after: 0\r\ncontent-length: 0\r\n\r\n"] * 2)
    seen: list[ScriptedSink] = []

    async def test() -> None:
        async with scripted_sink(lambda _: next(replies, OK)) as server:
            seen.append(server)
            middleware = CaptureMiddleware(PLAIN, sink=server.url, name="m", mode="request")
            await call(middleware)
            await middleware.aclose()
            assert middleware.delivery is not None
            assert middleware.delivery.account().delivered == 1

    asyncio.run(asyncio.wait_for(test(), 120))
    tries = seen[0].events
    assert len(tries) == 3
    assert tries[0] == tries[1] == tries[2]


SECRETS = ["authorization", "cookie", "proxy-authorization", "x-api-key"]


@pytest.mark.parametrize("written", [str.lower, str.upper, str.title])
def test_credentials_never_enter_an_event(written: Any) -> None:
    sink = MemorySink()

    async def test() -> None:
        wanted = [*map(written, SECRETS), "x-request-id"]
        middleware = CaptureMiddleware(PLAIN, sink=sink, name="m", metadata_headers=wanted)
        headers = [(name, "s3cret") for name in SECRETS] + [("x-request-id", "7")]
        await call(middleware, headers=headers)
        await middleware.aclose()

    asyncio.run(test())
    assert len(sink.events) == 2
    assert "s3cret" not in repr(sink.events)
    assert {event.extensions["metadata"] for event in sink.events} == {'{"X-Request-Id":["7"]}'}
