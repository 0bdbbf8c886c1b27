"""The capture middleware in small ASGI applications: what it sends, and that it changes nothing."""

from __future__ import annotations

import asyncio
import hmac
import json
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, MutableMapping
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from inferwatch.clock import parse_time
from inferwatch.delivery.memory import MemorySink
from inferwatch.errors import ConfigError
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, CloudEvent, Stream
from inferwatch.sampling import Sampling
from inferwatch.wire.cloudevents import from_http, to_http
from inferwatch_logger import CaptureMiddleware
from tests.certificates import authority, signed
from tests.core.delivery.scripted_sink import scripted_sink
from tests.logger.asgi import BODY, JSON, PLAIN, App, Message, call, echo, lifespan


def captured(test: Callable[[Callable[..., CaptureMiddleware]], Coroutine[Any, Any, Any]]) -> list[CloudEvent]:
    """Run a test with a factory of middlewares and return what reached the sink."""
    sink = MemorySink()
    made: list[CaptureMiddleware] = []

    def wrap(app: App = PLAIN, **options: Any) -> CaptureMiddleware:
        given: dict[str, Any] = {"sink": sink, "name": "income", "namespace": "prod"} | options
        made.append(CaptureMiddleware(app, **given))
        return made[-1]

    async def whole() -> None:
        await asyncio.wait_for(test(wrap), 20)
        for middleware in made:
            await middleware.aclose()
            assert middleware.errors == 0

    asyncio.run(whole())
    return sink.events


def one_call(*, app: App = PLAIN, options: dict[str, Any] | None = None, **request: Any) -> list[CloudEvent]:
    return captured(lambda wrap: call(wrap(app, **(options or {})), **request))


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
        headers, body = to_http(event)
        assert from_http([(name.encode(), value.encode()) for name, value in headers], body) == [event]


def test_the_application_and_the_client_see_what_they_would_without() -> None:
    async def test(wrap: Callable[..., CaptureMiddleware]) -> None:
        assert await call(wrap()) == await call(PLAIN)

    captured(test)


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


def test_streams_are_passed_on_part_by_part_and_kept_whole() -> None:
    async def test(wrap: Callable[..., CaptureMiddleware]) -> None:
        sent = await call(wrap(echo), parts=[b"a", b"", b"bc"])
        assert [message.get("body") for message in sent] == [None, b"a", b"", b"bc"]

    request, response = captured(test)
    assert (request.data, response.data, response.extensions["statuscode"]) == (b"abc", b"abc", "201")
    assert response.content_type == "a/b"
    assert not request.truncated
    assert not response.truncated


def test_a_part_is_sent_before_the_next_is_made() -> None:
    seen: list[str] = []

    async def streaming(_scope: Message, _receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for number in range(3):
            seen.append(f"made {number}")
            await send({"type": "http.response.body", "body": b"x", "more_body": number < 2})

    async def test(wrap: Callable[..., CaptureMiddleware]) -> None:
        async def send(message: MutableMapping[str, Any]) -> None:
            seen.append(message["type"])

        async def receive() -> Message:
            return {"type": "http.request"}

        scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
        await wrap(streaming)(scope, receive, send)

    assert [event.data for event in captured(test)] == [b"", b"xxx"]
    body = "http.response.body"
    assert seen == ["http.response.start", "made 0", body, "made 1", body, "made 2", body]


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


def test_errors_of_the_application_are_raised_unchanged() -> None:
    problem = ValueError("boom")

    async def failing(_scope: Message, receive: Any, _send: Any) -> None:
        await receive()
        raise problem

    async def test(wrap: Callable[..., CaptureMiddleware]) -> None:
        with pytest.raises(ValueError, match="boom") as raised:
            await call(wrap(failing))
        assert raised.value is problem

    request, response = captured(test)
    assert request.data == BODY
    assert (response.extensions["statuscode"], response.data, response.truncated) == ("500", b"", False)


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


def test_a_cancelled_request_is_cancelled_and_leaves_no_answer() -> None:
    async def endless(_scope: Message, receive: Any, _send: Any) -> None:
        await receive()
        await asyncio.Event().wait()

    async def test(wrap: Callable[..., CaptureMiddleware]) -> None:
        task = asyncio.ensure_future(call(wrap(endless)))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    assert [event.type for event in captured(test)] == [REQUEST_TYPE]


def test_a_starlette_stream_and_a_fastapi_application() -> None:
    app = FastAPI()

    @app.post("/v1/models/income:predict")
    async def handle(request: Request) -> StreamingResponse:
        whole = await request.body()
        return StreamingResponse(iter([b"data: 1\n\n", whole]), media_type="text/event-stream")

    sink = MemorySink()
    app.add_middleware(CaptureMiddleware, sink=sink, name="income")

    async def test() -> None:
        sent = await call(app)
        assert sent[0]["status"] == 200
        await lifespan(app)

    asyncio.run(test())
    request, response = sink.events
    assert (request.data, response.data) == (BODY, b"data: 1\n\n" + BODY)
    assert response.content_type == "text/event-stream; charset=utf-8"
    assert sink.closed


def test_shutdown_delivers_what_is_queued() -> None:
    sink = MemorySink()
    middleware = CaptureMiddleware(PLAIN, sink=sink, name="m")

    async def test() -> None:
        await call(middleware)
        assert sink.events == []
        assert await lifespan(middleware) == ["lifespan.startup.complete", "lifespan.shutdown.complete"]

    asyncio.run(test())
    assert len(sink.events) == 2
    assert sink.closed


def test_other_connections_are_not_touched() -> None:
    seen: list[tuple[Any, ...]] = []

    async def app(*arguments: Any) -> None:
        seen.append(arguments)

    async def test(wrap: Callable[..., CaptureMiddleware]) -> None:
        scope, receive, send = {"type": "websocket", "path": "/"}, object(), object()
        await wrap(app)(scope, receive, send)  # type: ignore[arg-type]
        assert seen == [(scope, receive, send)]
        assert all(given is passed for given, passed in zip(seen[0], (scope, receive, send), strict=True))

    assert captured(test) == []


@pytest.mark.parametrize("fate", ["dead", "refusing", "hanging", "failing", "throttling"])
def test_whatever_the_sink_does_the_answers_are_the_same(fate: str) -> None:
    replies: dict[str, bytes | None] = {
        "refusing": b"HTTP/1.1 400 Bad\r\ncontent-length: 0\r\n\r\n",
        "hanging": b"",
        "failing": b"HTTP/1.1 500 Bad\r\ncontent-length: 0\r\n\r\n",
        "throttling": b"HTTP/1.1 429 Slow\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n",
        "dead": None,
    }

    async def test() -> None:
        async with scripted_sink(lambda _: replies[fate]) as server:
            url = server.url
            if fate == "dead":
                url = url.replace(str(server.port), "9")
            middleware = CaptureMiddleware(PLAIN, sink=url, name="m", queue_bytes=50_000)
            delivery = middleware.delivery
            assert delivery is not None
            plain = await call(PLAIN)
            for _ in range(200):
                assert await call(middleware) == plain
                await asyncio.sleep(0)
            while delivery.account().captured < 400:  # noqa: ASYNC110 - it is nobody's to announce
                await asyncio.sleep(0.001)
            assert delivery.account().queued <= 25
            await middleware.aclose(timeout_s=0.05)
            account = delivery.account()
            assert account.captured == sum(account.dropped.values()) == 400
            assert middleware.errors == 0

    asyncio.run(asyncio.wait_for(test(), 20))


def test_every_fault_of_the_settings_is_named() -> None:
    with pytest.raises(ConfigError) as raised:
        CaptureMiddleware(PLAIN, sink="http://a", name="", mode="some", max_body_bytes=-1, queue_bytes=0)  # type: ignore[arg-type]
    assert [fault.path for fault in raised.value.faults] == ["name", "mode", "max_body_bytes", "queue_bytes"]


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


def test_what_is_redacted_never_reaches_the_queue_file(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("k")
    rules: list[Any] = [
        {"path": "$.instances[*].ssn", "action": "hash", "key_file": str(key)},
        {"header": "x-user", "action": "mask"},
        "$.instances[*].name",
        "headers.traceparent",
    ]
    body = b'{"instances":[{"ssn":"123-45-6789","name":"Jane Roe","age":1.50}]}'
    spool = tmp_path / "spool"

    async def app(_scope: Any, receive: Any, send: Any) -> None:
        assert (await receive())["body"] == body
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": body})

    async def test() -> None:
        middleware = CaptureMiddleware(
            app,
            sink="http://127.0.0.1:9",
            name="m",
            spool=spool,
            queue_bytes=65_536,
            redact=rules,
            metadata_headers=["x-user"],
        )
        headers = [("x-user", "jane@example.org"), ("traceparent", "00-abc")]
        assert (await call(middleware, headers=headers, parts=[body]))[1]["body"] == body
        await middleware.aclose(0.01)
        assert middleware.errors == 0

    asyncio.run(test())
    written = b"".join(path.read_bytes() for path in spool.glob("*.queue"))
    digest = hmac.new(b"k", b"123-45-6789", "sha256").hexdigest().encode()
    assert written.count(b'{"instances":[{"ssn":"' + digest + b'","name":null,"age":1.50}]}') == 2
    assert b"****.org" in written
    for secret in (b"123-45-6789", b"Jane Roe", b"jane@example", b"00-abc"):
        assert secret not in written


def test_a_cut_body_is_withheld_where_it_cannot_be_searched() -> None:
    options = {"redact": ["$.instances[*]"], "max_body_bytes": 12}
    request, response = one_call(options=options)
    assert (request.data, request.truncated, request.content_type) == (b"null", True, "application/json")
    assert (response.data, response.truncated) == (b"null", True)


def test_a_sink_over_https_is_verified_as_asked(tmp_path: Path) -> None:
    authority(tmp_path, "ca")
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(*signed(tmp_path, "server", by="ca"))
    serving.load_verify_locations(tmp_path / "ca.pem")
    serving.verify_mode = ssl.CERT_REQUIRED
    certificate, key = signed(tmp_path, "client", by="ca")
    files: dict[str, str | Path | None] = {
        "ca_file": str(tmp_path / "ca.pem"),
        "certificate_file": certificate,
        "key_file": key,
    }

    async def test(metrics: CollectorRegistry | bool) -> None:
        async with scripted_sink(tls=serving) as sink:
            middleware = CaptureMiddleware(PLAIN, sink=sink.url, name="m", tls=files, metrics=metrics)
            await call(middleware)
            await middleware.aclose()
            assert len(sink.events) == 2

    for metrics in (False, CollectorRegistry()):
        asyncio.run(asyncio.wait_for(test(metrics), 20))


def test_files_of_tls_that_mean_nothing_are_named(tmp_path: Path) -> None:
    cases: list[tuple[str, dict[str, str | Path | None], str]] = [
        ("https://s", {"ca": "x"}, "tls.ca: unknown key; allowed here: ca_file, certificate_file, key_file"),
        ("https://s", {"ca_file": tmp_path / "x"}, f"tls.ca_file: {tmp_path}/x cannot be used: "),
        ("http://s", {"ca_file": tmp_path / "x"}, "tls: is for sinks with a URL https://..., and there is none"),
    ]
    for sink, tls, told in cases:
        with pytest.raises(ConfigError) as raised:
            CaptureMiddleware(PLAIN, sink=sink, tls=tls)
        assert str(raised.value.faults[0]).startswith(told)


def test_capture_is_off_by_one_switch() -> None:
    assert one_call(options={"enabled": False}) == []
    assert one_call(options={"models": {"income": {"enabled": False}}}) == []
    assert one_call(options={"models": {"other": {"enabled": False}}})


def test_without_a_name_the_path_names_the_model() -> None:
    assert {event.stream.name for event in one_call(options={"name": None})} == {"income"}


def test_importing_capture_loads_nothing_heavy() -> None:
    program = (
        "import sys; before = set(sys.modules)\n"
        "from inferwatch_logger import CaptureMiddleware as C\n"
        "C(None, sink='http://s', name='m', redact=['$.a'], sample={'rate': 0.5, 'by': {'field': '$.a'}})\n"
        "loaded = {name.partition('.')[0] for name in set(sys.modules) - before}\n"
        "print(*sorted(loaded - sys.stdlib_module_names)); print(len(set(sys.modules) - before))"
    )
    told = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    packages, count = told.splitlines()
    assert packages.split() == ["inferwatch", "inferwatch_logger", "orjson"]
    assert int(count) < 240
