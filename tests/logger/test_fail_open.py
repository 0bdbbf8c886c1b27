"""Whatever of capture breaks, the answers are the same; it is counted, and said once a cause and interval."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import JSONResponse

from inferwatch.delivery.delivery import Delivery
from inferwatch.delivery.emitter import Emitter
from inferwatch.delivery.memory import MemorySink
from inferwatch.delivery.queue import MemoryQueue
from inferwatch.errors import ConfigError, DeliveryError
from inferwatch.events import CloudEvent
from inferwatch.redaction import Redaction
from inferwatch.sampling import Sampling
from inferwatch_logger import CaptureMiddleware, fail_open, inference, recorder
from inferwatch_logger.capture import Capture
from inferwatch_logger.fail_open import FailOpen
from tests.logger.asgi import BODY, PLAIN, call, lifespan

STARTED_AND_ENDED = ["lifespan.startup.complete", "lifespan.shutdown.complete"]
CALLS = 3


def broken(*_: object) -> Any:
    raise RuntimeError("capture is broken")


@pytest.mark.parametrize(
    ("owner", "step", "options"),
    [
        (Capture, "takes", {}),
        (recorder, "Inference", {}),
        (inference.Inference, "request_part", {}),
        (inference.Inference, "request_end", {}),
        (inference.Inference, "response_start", {}),
        (inference.Inference, "response_part", {}),
        (inference.Inference, "response_end", {}),
        (inference.Inference, "ended", {}),
        (inference, "CloudEvent", {}),
        (inference, "format_time", {}),
        (inference, "_metadata", {}),
        (Sampling, "takes", {"sample": {"rate": 0.5, "by": {"header": "x-user"}}}),
        (Sampling, "value_in", {"sample": {"rate": 0.5, "by": {"field": "$.user"}}}),
        (Redaction, "event", {"redact": ["$.instances[*]"]}),
        (Emitter, "emit", {}),
        (MemoryQueue, "put", {}),
        (Delivery, "aclose", {}),
        (recorder.Recorder, "flush", {}),
    ],
)
def test_a_step_that_breaks(
    owner: Any,
    step: str,
    options: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def test() -> None:
        plain = await call(PLAIN)
        middleware = CaptureMiddleware(PLAIN, sink=MemorySink(), name="m", **options)
        monkeypatch.setattr(owner, step, broken)
        for _ in range(CALLS):
            assert await call(middleware) == plain
            await asyncio.sleep(0.015)
        assert await lifespan(middleware) == STARTED_AND_ENDED
        assert middleware.errors >= 1

    asyncio.run(test())
    said = [record for record in caplog.records if record.exc_info]
    assert len(said) == 1
    assert "capture is broken" in caplog.text


class Trap:
    """A sink that refuses everything and cannot even be closed."""

    async def send(self, events: Sequence[CloudEvent], /) -> None:
        raise DeliveryError(f"no to {len(events)}", retryable=False)

    async def aclose(self) -> None:
        raise RuntimeError("cannot close")


def test_a_sink_that_cannot_be_closed(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        middleware = CaptureMiddleware(PLAIN, sink=Trap(), name="m")
        assert await call(middleware) == await call(PLAIN)
        assert await lifespan(middleware) == STARTED_AND_ENDED
        assert middleware.errors == 1

    asyncio.run(test())
    assert "cannot close" in caplog.text


def test_a_scope_that_capture_does_not_understand() -> None:
    async def test() -> None:
        odd = {"type": "http", "method": "POST", "headers": []}  # no path
        seen: list[Any] = []

        async def app(*arguments: Any) -> None:
            seen.append(arguments)

        middleware = CaptureMiddleware(app, sink=MemorySink(), name="m")
        await middleware(odd, None, None)  # type: ignore[arg-type]
        assert seen == [(odd, None, None)]
        assert middleware.errors == 1

    asyncio.run(test())


@pytest.mark.parametrize("place", ["file", "under a file", "no permission"])
def test_a_spool_that_cannot_be_written(place: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    spool = tmp_path / "spool"
    if place != "no permission":
        spool.write_text("")
        spool = spool if place == "file" else spool / "inner"
    else:
        spool = Path("/proc/inferwatch")
    sink = MemorySink()

    async def test() -> None:
        middleware = CaptureMiddleware(PLAIN, sink=sink, name="m", spool=spool)
        assert await call(middleware) == await call(PLAIN)
        assert await lifespan(middleware) == STARTED_AND_ENDED

    asyncio.run(test())
    assert len(sink.events) == 2
    assert sum("events wait in memory" in record.message for record in caplog.records) == 1


@pytest.mark.parametrize("url", ["http://no-such-host.invalid/", "https://127.0.0.1:9/", "http://127.0.0.1:9/"])
def test_a_sink_that_is_not_there(url: str) -> None:
    async def test() -> None:
        plain = await call(PLAIN)
        middleware = CaptureMiddleware(PLAIN, sink=url, name="m")
        for _ in range(CALLS):
            assert await call(middleware) == plain
        await middleware.aclose(0.05)
        assert middleware.delivery is not None
        assert middleware.delivery.account().captured == 2 * CALLS
        assert middleware.errors == 0

    asyncio.run(test())


def test_faults_of_the_settings_stop_no_server_that_runs(caplog: pytest.LogCaptureFixture) -> None:
    app = FastAPI()

    @app.post("/predict")
    async def predict(request: Request) -> JSONResponse:
        return JSONResponse(await request.json())

    app.add_middleware(CaptureMiddleware, sink="htp://typo", name="m", mode="some")  # type: ignore[arg-type]

    async def test() -> None:  # Starlette makes its middleware at the first request
        for _ in range(CALLS):
            sent = await call(app, "/predict")
            assert sent[0]["status"] == 200
        assert await lifespan(app) == STARTED_AND_ENDED

    asyncio.run(test())
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "nothing is captured: mode: 'some' is none of all, request, response; sink: 'htp://typo'" in record.message


def test_faults_of_the_settings_are_raised_before_a_server_runs() -> None:
    with pytest.raises(ConfigError) as raised:
        CaptureMiddleware(PLAIN, sink="htp://typo", name="", mode="some", max_body_bytes=-1, queue_bytes=0)  # type: ignore[arg-type]
    assert [fault.path for fault in raised.value.faults] == ["name", "mode", "max_body_bytes", "queue_bytes", "sink"]


def failing(kind: type[Exception]) -> Callable[[], None]:
    def step() -> None:
        raise kind("no")

    return step


def test_each_cause_is_logged_once_an_interval(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now_s = [0.0]
    monkeypatch.setattr(fail_open, "monotonic", lambda: now_s[0])
    guarded = FailOpen()
    for _ in range(5):
        guarded(failing(ValueError))
        guarded(failing(KeyError))
    assert len(caplog.records) == 2
    now_s[0] = 61.0
    guarded(failing(ValueError))
    assert len(caplog.records) == 3
    assert guarded.errors == 11
    assert "11 times" in caplog.records[-1].message


def test_causes_are_bounded() -> None:
    guarded = FailOpen()
    for number in range(1000):
        guarded.warn(str(number))
    assert len(guarded._said_s) <= 256


def test_a_body_that_is_no_bytes() -> None:
    async def app(_scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "http.response.start", "status": 200, "headers": [("content-type", "text")]})
        await send({"type": "http.response.body", "body": memoryview(BODY)})

    sink = MemorySink()

    async def test() -> None:
        middleware = CaptureMiddleware(app, sink=sink, name="m")
        assert (await call(middleware))[1]["body"] == BODY
        await middleware.aclose()

    asyncio.run(test())
    assert sink.events[0].data == BODY
