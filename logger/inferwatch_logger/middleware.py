"""Capture inside a model server: an ASGI middleware that sends every request and response as CloudEvents.

Works in FastAPI, Starlette, KServe's server and any other ASGI application. It relays messages as they come and
looks at them beside: nothing of it changes or delays a response, and a fault of its own is logged and counted, never
raised into the application.

What is captured: see `inferwatch_logger.capture`. A request that the application answered with an exception gives a
response event with `statuscode` 500 and no body; one whose client left before any answer gives none.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from inferwatch.delivery.delivery import Delivery, sinks_of
from inferwatch.delivery.queue import WhenFull
from inferwatch.delivery.tls import Tls
from inferwatch.errors import ConfigError, Fault, InferwatchError
from inferwatch_logger.capture import Capture, Mode
from inferwatch_logger.fail_open import FailOpen
from inferwatch_logger.inference import Inference
from inferwatch_logger.recorder import Recorder
from inferwatch_logger.timed_sink import TimedSink

if TYPE_CHECKING:  # protocols imports NumPy, prometheus_client much else: a model server need not pay for them
    from prometheus_client import CollectorRegistry

    from inferwatch.protocols import Sink

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

logger = logging.getLogger(__name__)

_FLUSH_S: Final = 5.0
_SHUTDOWN_REPLIES: Final = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})


class CaptureMiddleware:
    """Wraps an ASGI application and sends what it is asked and answers to a sink.

    `sink` is a URL (`http://host:port/path`), a `Sink` object, or several of them, each served at its own pace. `name`:
    the served model; where it is not given, V1 and V2 paths name it. `enabled`, `mode`, `metadata_headers`, `paths`,
    `sample`, `redact`, `max_body_bytes`, `models`: see `Capture.of`. `spool`: a directory in which undelivered events
    survive the process. `queue_bytes`: the space that they may take; unless given, 256 MiB in the directory, 64 MiB in
    memory; `when_full`: what is then dropped, `drop_oldest` or `drop_newest`. `tls`: how sinks over
    https are verified, a mapping of `ca_file` (in place of the system's certificates), `certificate_file`, `key_file`.
    `metrics`: a registry of prometheus_client that is to have capture's metrics, or True for its default one.

    Raises `ConfigError` with every fault. Where the application is built when its server runs already, as Starlette
    does, an exception would fail the requests; then the faults are logged, and nothing is captured.
    """

    def __init__(
        self,
        app: App,
        *,
        sink: str | Sink | Sequence[str | Sink],
        name: str | None = None,
        namespace: str = "default",
        component: str = "predictor",
        endpoint: str = "default",
        enabled: bool = True,
        mode: Mode = "all",
        metadata_headers: Iterable[str] = (),
        paths: Iterable[str] | None = None,
        sample: Mapping[str, Any] | None = None,
        redact: Sequence[str | Mapping[str, Any]] = (),
        max_body_bytes: int = 1_048_576,
        models: Mapping[str, Mapping[str, Any]] | None = None,
        spool: str | Path | None = None,
        queue_bytes: int | None = None,
        when_full: WhenFull = "drop_oldest",
        tls: Tls | Mapping[str, str | Path | None] | None = None,
        metrics: CollectorRegistry | bool = False,
    ) -> None:
        self.app = app
        self.delivery: Delivery | None = None
        self._recorder: Recorder | None = None
        self._guarded = FailOpen()
        options = {
            "name": name, "namespace": namespace, "component": component, "endpoint": endpoint, "enabled": enabled,
            "mode": mode, "metadata_headers": metadata_headers, "paths": paths, "sample": sample, "redact": redact,
            "max_body_bytes": max_body_bytes, "models": models,
        }  # fmt: skip
        try:
            self._set_up(options, sink, spool, queue_bytes, when_full, tls, metrics)
        except InferwatchError as fault:
            if not _is_serving():
                raise
            self._guarded.errors += 1
            logger.error("nothing is captured: %s", fault)

    def _set_up(
        self,
        options: dict[str, Any],
        sink: str | Sink | Sequence[str | Sink],
        spool: str | Path | None,
        queue_bytes: int | None,
        when_full: WhenFull,
        tls: Tls | Mapping[str, str | Path | None] | None,
        metrics: CollectorRegistry | bool,
    ) -> None:
        faults: list[Fault] = []
        capture = delivery = None
        if queue_bytes is not None and queue_bytes <= 0:
            faults.append(Fault("queue_bytes", f"{queue_bytes} is not positive"))
        try:
            capture = Capture.of(**options)
        except ConfigError as fault:
            faults = [*fault.faults, *faults]
        given = sink if isinstance(sink, Sequence) and not isinstance(sink, str) else [sink]
        try:
            sinks: Sequence[Sink] = sinks_of(given, Tls.of(tls) if isinstance(tls, Mapping) else tls)
            if metrics:
                sinks = [TimedSink(one) for one in sinks]
            directory = None if spool is None else Path(spool)
            delivery = Delivery(sinks, spool=directory, queue_bytes=queue_bytes, when_full=when_full)
        except ConfigError as fault:
            faults += fault.faults
        if faults or capture is None or delivery is None:
            raise ConfigError(faults)
        self._recorder = Recorder(capture, delivery.emit, guarded=self._guarded)
        self.delivery = delivery
        if metrics:
            from inferwatch_logger.capture_metrics import register

            register(metrics, self._recorder, delivery)

    @property
    def errors(self) -> int:
        """How many steps of capture failed; the requests were served all the same."""
        return self._guarded.errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            inference = self._begun(scope)
            if inference is not None:
                await self._relay(inference, scope, receive, send)
                return
        elif scope["type"] == "lifespan" and self.delivery is not None:
            self._guarded(self.delivery.start)
            await self.app(scope, receive, self._flushing(send))
            return
        await self.app(scope, receive, send)

    async def aclose(self, timeout_s: float = _FLUSH_S) -> None:
        """Deliver what was captured, for `timeout_s` at most; the rest stays in the queue file, or is dropped."""
        if self._recorder is None or self.delivery is None:
            return
        await self._recorder.aclose(timeout_s)
        await self.delivery.aclose(timeout_s)

    def _begun(self, scope: Scope) -> Inference | None:
        if self._recorder is None:
            return None
        try:
            headers = scope["headers"]
            given = headers if isinstance(headers, (list, tuple)) else list(headers)
            return self._recorder.begin(scope["method"], scope["path"], given)
        except Exception:  # noqa: BLE001 - fail open
            self._guarded.complain()
            return None

    async def _relay(self, inference: Inference, scope: Scope, receive: Receive, send: Send) -> None:
        async def received() -> Message:
            message = await receive()
            try:
                _note_received(inference, message)
            except Exception:  # noqa: BLE001 - fail open
                self._guarded.complain()
            return message

        async def sent(message: Message) -> None:
            await send(message)
            try:
                _note_sent(inference, message)
            except Exception:  # noqa: BLE001 - fail open
                self._guarded.complain()

        try:
            await self.app(scope, received, sent)
        except Exception:
            self._guarded(inference.failed)
            raise
        finally:
            self._guarded(inference.ended)

    def _flushing(self, send: Send) -> Send:
        async def flushed(message: Message) -> None:
            if message["type"] in _SHUTDOWN_REPLIES:
                try:
                    await self.aclose()
                    self._tell_the_end()
                except Exception:  # noqa: BLE001 - fail open
                    self._guarded.complain()
            await send(message)

        return flushed

    def _tell_the_end(self) -> None:
        if self.delivery is not None:
            account = self.delivery.account()
            logger.log(logging.WARNING if account.dropped else logging.INFO, "capture ends: %s", account)


def _is_serving() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _note_received(inference: Inference, message: Message) -> None:
    if message["type"] == "http.request":
        inference.request_part(message.get("body", b""))
        if not message.get("more_body", False):
            inference.request_end()


def _note_sent(inference: Inference, message: Message) -> None:
    kind = message["type"]
    if kind == "http.response.start":
        inference.response_start(message["status"], message.get("headers", ()))
    elif kind == "http.response.body":
        inference.response_part(message.get("body", b""))
        if not message.get("more_body", False):
            inference.response_end()
    elif kind in ("http.response.pathsend", "http.response.zerocopysend"):
        inference.response_cut()  # the server reads the file itself
