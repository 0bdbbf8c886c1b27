"""The capture middleware in small ASGI applications: what it sends, and that it changes nothing."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from prometheus_client import CollectorRegistry
from starlette.requests import Request
from starlette.responses import StreamingResponse

from inferwatch.delivery.memory import MemorySink
from inferwatch.errors import ConfigError
from inferwatch.events import REQUEST_TYPE
from inferwatch_logger import CaptureMiddleware
from tests.certificates import authority, signed
from tests.core.delivery.scripted_sink import scripted_sink
from tests.logger.asgi import BODY, PLAIN, Message, call, echo, lifespan
from tests.logger.captured import captured, one_call


def test_the_application_and_the_client_see_what_they_would_without() -> None:
    async def test(wrap: Callable[..., CaptureMiddleware]) -> None:
        assert await call(wrap()) == await call(PLAIN)

    captured(test)


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

    asyncio.run(asyncio.wait_for(test(), 120))


def test_every_fault_of_the_settings_is_named() -> None:
    with pytest.raises(ConfigError) as raised:
        CaptureMiddleware(PLAIN, sink="http://a", name="", mode="some", max_body_bytes=-1, queue_bytes=0)  # type: ignore[arg-type]
    assert [fault.path for fault in raised.value.faults] == ["name", "mode", "max_body_bytes", "queue_bytes"]


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
        asyncio.run(asyncio.wait_for(test(metrics), 120))


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
