"""Capture inside a model server: an ASGI middleware that sends every request and response as CloudEvents.

Works in FastAPI, Starlette, KServe's server and any other ASGI application. It relays messages as they come and
looks at them beside: nothing of it changes or delays a response, and a fault of its own is logged and counted, never
raised into the application.

What is captured: see `inferwatch_logger.capture`. A request that the application answered with an exception gives a
response event with `statuscode` 500 and no body; one whose client left before any answer gives none.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, MutableMapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from inferwatch.delivery.delivery import MEMORY_BYTES, Delivery
from inferwatch_logger.capture import Capture, FailOpen, Inference, Mode

if TYPE_CHECKING:  # protocols imports NumPy, which a model server need not pay for
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

    `sink` is a URL (`http://host:port/path`), a `Sink` object, or several of them, each served at its own pace. `mode`:
    which events to send. `metadata_headers`: request headers to carry in `metadata`, in any case; credentials never
    are. `max_body_bytes`: longer bodies are cut and marked. `spool`: a directory in which undelivered events survive
    the process. `queue_bytes`: the space that they may take, oldest dropped first; unless given, 256 MiB in the
    directory, 64 MiB in memory. Raises `ConfigError` with every fault.
    """

    def __init__(
        self,
        app: App,
        *,
        sink: str | Sink | Sequence[str | Sink],
        name: str,
        namespace: str = "default",
        component: str = "predictor",
        endpoint: str = "default",
        mode: Mode = "all",
        metadata_headers: Iterable[str] = (),
        paths: Iterable[str] | None = None,
        max_body_bytes: int = 1_048_576,
        spool: str | Path | None = None,
        queue_bytes: int | None = None,
    ) -> None:
        self.capture = Capture.of(
            name=name,
            namespace=namespace,
            component=component,
            endpoint=endpoint,
            mode=mode,
            metadata_headers=metadata_headers,
            paths=paths,
            max_body_bytes=max_body_bytes,
            queue_bytes=MEMORY_BYTES if queue_bytes is None else queue_bytes,
        )
        self.app = app
        sinks = sink if isinstance(sink, Sequence) and not isinstance(sink, str) else [sink]
        self.delivery = Delivery(sinks, spool=None if spool is None else Path(spool), queue_bytes=queue_bytes)
        self._guarded = FailOpen()

    @property
    def errors(self) -> int:
        """How many steps of capture failed; the requests were served all the same."""
        return self._guarded.errors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            inference = self._guarded(self._begin, scope)
            if inference is not None:
                await self._relay(inference, scope, receive, send)
                return
        elif scope["type"] == "lifespan":
            self._guarded(self.delivery.start)
            await self.app(scope, receive, self._flushing(send))
            return
        await self.app(scope, receive, send)

    def _begin(self, scope: Scope) -> Inference | None:
        return self.capture.begin(scope["method"], scope["path"], list(scope["headers"]), self.delivery.emit)

    async def _relay(self, inference: Inference, scope: Scope, receive: Receive, send: Send) -> None:
        async def received() -> Message:
            message = await receive()
            self._guarded(_note_received, inference, message)
            return message

        async def sent(message: Message) -> None:
            await send(message)
            self._guarded(_note_sent, inference, message)

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
                    await self.delivery.aclose(_FLUSH_S)
                except Exception:  # noqa: BLE001 - fail open
                    self._guarded.complain()
                account = self.delivery.account()
                logger.log(logging.WARNING if account.dropped else logging.INFO, "capture ends: %s", account)
            await send(message)

        return flushed


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
