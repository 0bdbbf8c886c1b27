"""What the capture middleware says of a request and its response, and of which ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from starlette.responses import Response

from inferwatch.clock import parse_time
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, Stream
from inferwatch.wire.cloudevents import from_http, to_http
from inferwatch_logger import CaptureMiddleware
from tests.core.wire.test_cloudevents import fields_of
from tests.logger.asgi import BODY, Message, call, echo
from tests.logger.captured import captured, one_call


def test_a_request_and_its_response_under_one_id() -> None:
    request, response = one_call()
    assert request.id == response.id
    assert len(request.id) == 36
    assert (request.type, response.type) == (REQUEST_TYPE, RESPONSE_TYPE)
    assert (request.data, response.data) == (BODY, b'{"predictions":[3]}')
    assert request.stream == response.stream == Stream("prod", "income", "predictor", "default")
    shared = {"inferenceservicename": "income", "namespace": "prod", "component": "predictor", "endpoint": "default"}
    shared |= {"path": "/v1/models/income:predict", "method": "POST", "metadata": "{}"}
    assert request.extensions == shared | {"recordedtime": request.extensions["recordedtime"]}
    own = {name: response.extensions[name] for name in ("recordedtime", "latencyms")}
    assert response.extensions == shared | own | {"statuscode": "200"}
    assert request.time_ns is not None
    assert response.time_ns is not None
    assert response.time_ns - request.time_ns == pytest.approx(float(own["latencyms"]) * 1e6, abs=1e3)
    assert parse_time(request.extensions["recordedtime"]) >= request.time_ns
    for event in (request, response):
        lines, body = to_http(event)
        assert from_http(fields_of(lines), body) == [event]


def test_the_callers_id_is_taken() -> None:
    assert {event.id for event in one_call(headers=[("ce-id", "naïve 1")])} == {"naïve 1"}
    assert all(len(event.id) == 36 for event in one_call(headers=[("ce-id", "")]))
    assert all(len(event.id) == 36 for event in one_call(headers=[("ce-id", "a\tb")]))


def test_metadata_headers_in_any_case_and_never_credentials() -> None:
    secrets = ["authorization", "Cookie", "proxy-authorization", "X-API-Key"]
    options = {"metadata_headers": ["x-request-id", "X-Tenant", "x-absent", *secrets]}
    headers = [("X-Request-ID", "a"), ("x-request-id", "b"), ("x-tenant", "é"), ("x-other", "o")]
    headers += [(name, "s3cret") for name in secrets]
    request, response = one_call(options=options, headers=[(name.lower(), value) for name, value in headers])
    assert request.extensions["metadata"] == '{"X-Request-Id":["a","b"],"X-Tenant":["é"]}'
    assert response.extensions["metadata"] == request.extensions["metadata"]
    assert "s3cret" not in repr([request, response])


def test_the_mark_of_an_explainer_is_always_carried() -> None:
    for event in one_call(headers=[("x-inferwatch-origin", "explain")]):
        assert json.loads(event.extensions["metadata"]) == {"X-Inferwatch-Origin": ["explain"]}


def test_traceparent_and_model_version() -> None:
    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    for event in one_call(path="/v2/models/m/versions/3/infer", headers=[("traceparent", trace)]):
        assert (event.extensions["traceparent"], event.extensions["modelversion"]) == (trace, "3")
    for event in one_call(path="/v1/models/m/versions/12:predict"):
        assert event.extensions["modelversion"] == "12"


def test_each_event_has_its_own_content_type() -> None:
    request, response = one_call(headers=[("content-type", "text/csv"), ("content-type", "again")])
    assert (request.content_type, response.content_type) == ("text/csv", "application/json")
    assert one_call(headers=[])[0].content_type is None


@pytest.mark.parametrize(
    ("mode", "types"),
    [("all", [REQUEST_TYPE, RESPONSE_TYPE]), ("request", [REQUEST_TYPE]), ("response", [RESPONSE_TYPE])],
)
def test_mode(mode: str, types: list[str]) -> None:
    assert [event.type for event in one_call(options={"mode": mode})] == types


@pytest.mark.parametrize(
    ("request_", "events"),
    [
        ({}, 2),
        ({"method": "GET", "path": "/v2/health/ready", "parts": [b""]}, 2),
        ({"method": "GET", "path": "/metrics", "parts": [b""]}, 0),
        ({"method": "OPTIONS"}, 0),
        ({"headers": [("user-agent", "kube-probe/1.32")]}, 0),
        ({"headers": [("k-network-probe", "probe")]}, 0),
        ({"headers": [("user-agent", "python-requests/2")]}, 2),
    ],
)
def test_what_is_captured(request_: dict[str, Any], events: int) -> None:
    assert len(one_call(app=echo, **request_)) == events


@pytest.mark.parametrize(
    ("paths", "events"),
    [(["/v1/models/*:predict"], 2), (["/v2/*", "/v1/models/income:*"], 2), (["/v2/*"], 0), (["predict"], 0), ([], 0)],
)
def test_paths(paths: list[str], events: int) -> None:
    assert len(one_call(options={"paths": paths})) == events


@pytest.mark.parametrize("parts", [[b"x" * 11], [b"x" * 4] * 5, [b"x" * 10, b"y"]])
def test_long_bodies_are_cut_and_marked(parts: list[bytes]) -> None:
    async def test(wrap: Callable[..., CaptureMiddleware]) -> None:
        sent = await call(wrap(echo, max_body_bytes=10), parts=parts)
        assert b"".join(message.get("body", b"") for message in sent) == b"".join(parts)

    for event in captured(test):
        assert event.data == b"x" * 10
        assert event.truncated
        assert event.extensions["truncated"] == "true"


def test_a_body_of_exactly_the_limit_is_whole() -> None:
    for event in one_call(app=echo, options={"max_body_bytes": 10}, parts=[b"x" * 10]):
        assert (len(event.data), event.truncated, "truncated" in event.extensions) == (10, False, False)


@pytest.mark.parametrize("status", [204, 400, 404, 422, 503])
def test_replies_of_every_status_are_events(status: int) -> None:
    async def refusing(scope: Message, receive: Any, send: Any) -> None:
        await Response(b"" if status == 204 else b'{"error":"x"}', status)(scope, receive, send)

    request, response = one_call(app=refusing)
    assert response.extensions["statuscode"] == str(status)
    assert (request.data, request.truncated) == (b"", True)  # the application never read it


def test_an_answer_that_breaks_off_is_marked() -> None:
    async def breaking(_scope: Message, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"part", "more_body": True})
        raise ConnectionError("gone")

    async def test(wrap: Callable[..., CaptureMiddleware]) -> None:
        with pytest.raises(ConnectionError):
            await call(wrap(breaking))

    _, response = captured(test)
    assert (response.data, response.truncated, response.extensions["statuscode"]) == (b"part", True, "200")


def test_a_client_that_leaves_midway() -> None:
    async def patient(_scope: Message, receive: Any, _send: Any) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    (request,) = one_call(app=patient, leaves=True, parts=[b"half"], headers=[("transfer-encoding", "chunked")])
    assert (request.data, request.truncated) == (b"half", True)


def test_without_a_name_the_path_names_the_model() -> None:
    assert {event.stream.name for event in one_call(options={"name": None})} == {"income"}
