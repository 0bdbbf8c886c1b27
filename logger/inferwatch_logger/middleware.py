"""Capture inside a model server: an ASGI middleware that sends every request and response as CloudEvents.

Works in FastAPI, Starlette, KServe's server and any other ASGI application. It relays messages as they come and
looks at them beside: nothing of it changes or delays a response, and a fault of its own is logged and counted, never
raised into the application.

What is captured: every HTTP request but OPTIONS and HEAD, probes (user agent `kube-probe/...`, header
`K-Network-Probe`) and scrapes of `/metrics`; with `paths`, of those only the ones whose path matches one of the globs
(`*` also matches `/`). A request that the application answered with an exception gives a response event with
`statuscode` 500 and no body; one whose client left before any answer gives none.
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from dataclasses import dataclass
from fnmatch import translate
from time import monotonic, perf_counter_ns, time_ns
from typing import TYPE_CHECKING, Any, Final, Literal
from uuid import uuid4

import orjson

from inferwatch.clock import format_time
from inferwatch.delivery.emitter import Emitter
from inferwatch.delivery.http import HttpSink
from inferwatch.delivery.queue import MemoryQueue
from inferwatch.errors import ConfigError, Fault
from inferwatch.events import ORIGIN_HEADER, REQUEST_TYPE, RESPONSE_TYPE, CloudEvent
from inferwatch.wire.privacy import is_secret

if TYPE_CHECKING:  # protocols imports NumPy, which a model server need not pay for
    from inferwatch.protocols import Sink

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Mode = Literal["all", "request", "response"]

logger = logging.getLogger(__name__)

_FLUSH_S: Final = 5.0
_COMPLAINT_INTERVAL_S: Final = 60.0
_UNCAPTURED_METHODS: Final = frozenset({"OPTIONS", "HEAD"})
_VERSION: Final = re.compile(r"/versions/([^/:]+)")
_SHUTDOWN_REPLIES: Final = frozenset({"lifespan.shutdown.complete", "lifespan.shutdown.failed"})


class CaptureMiddleware:
    """Wraps an ASGI application and sends what it is asked and answers to a sink.

    `sink` is a URL (`http://host:port/path`) or a `Sink` object. `mode`: which events to send. `metadata_headers`:
    request headers to carry in `metadata`, in any case; credentials never are. `max_body_bytes`: longer bodies are cut
    and marked. `queue_bytes`: the memory that undelivered events may take, oldest dropped first. Raises `ConfigError`
    with every fault.
    """

    def __init__(
        self,
        app: App,
        *,
        sink: str | Sink,
        name: str,
        namespace: str = "default",
        component: str = "predictor",
        endpoint: str = "default",
        mode: Mode = "all",
        metadata_headers: Iterable[str] = (),
        paths: Iterable[str] | None = None,
        max_body_bytes: int = 1_048_576,
        queue_bytes: int = 67_108_864,
    ) -> None:
        _check(name, mode, max_body_bytes, queue_bytes)
        self.app = app
        self.emitter = Emitter(HttpSink(sink) if isinstance(sink, str) else sink, MemoryQueue(queue_bytes))
        self.errors = 0
        self.settings = _Settings(
            requests=mode != "response",
            responses=mode != "request",
            max_body_bytes=max_body_bytes,
            source=f"/namespaces/{namespace}/services/{name}/{component}",
            attributes={
                "inferenceservicename": name,
                "namespace": namespace,
                "component": component,
                "endpoint": endpoint,
            },
            metadata=_wanted(metadata_headers),
            paths=None if paths is None else re.compile("|".join(map(translate, paths)) or r"(?!)"),
        )
        self._complained_s = -_COMPLAINT_INTERVAL_S

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection."""
        if scope["type"] == "http":
            capture = self._begin(scope)
            if capture is not None:
                await self._relay(capture, scope, receive, send)
                return
        elif scope["type"] == "lifespan":
            await self.app(scope, receive, self._flushing(send))
            return
        await self.app(scope, receive, send)

    def _begin(self, scope: Scope) -> _Capture | None:
        try:
            return _Capture(scope, self.settings, self.emitter) if _is_captured(scope, self.settings) else None
        except Exception:  # noqa: BLE001 - fail open
            self._complain()
            return None

    async def _relay(self, capture: _Capture, scope: Scope, receive: Receive, send: Send) -> None:
        async def received() -> Message:
            message = await receive()
            self._note(capture.received, message)
            return message

        async def sent(message: Message) -> None:
            await send(message)
            self._note(capture.sent, message)

        try:
            await self.app(scope, received, sent)
        except Exception:
            self._note(capture.failed)
            raise
        finally:
            self._note(capture.ended)

    def _note(self, step: Callable[..., None], *arguments: Message) -> None:
        try:
            step(*arguments)
        except Exception:  # noqa: BLE001 - fail open
            self._complain()

    def _complain(self) -> None:
        self.errors += 1
        if monotonic() - self._complained_s >= _COMPLAINT_INTERVAL_S:
            self._complained_s = monotonic()
            logger.exception("capture failed; the request is served all the same (%d times so far)", self.errors)

    def _flushing(self, send: Send) -> Send:
        async def flushed(message: Message) -> None:
            if message["type"] in _SHUTDOWN_REPLIES:
                try:
                    await self.emitter.aclose(_FLUSH_S)
                except Exception:  # noqa: BLE001 - fail open
                    self._complain()
                account = self.emitter.account()
                logger.log(logging.WARNING if account.dropped else logging.INFO, "capture ends: %s", account)
            await send(message)

        return flushed


@dataclass(frozen=True, slots=True)
class _Settings:
    requests: bool
    responses: bool
    max_body_bytes: int
    source: str
    attributes: dict[str, str]
    metadata: dict[bytes, str]
    paths: re.Pattern[str] | None


class _Body:
    """The beginning of a body, as its parts come by. `seen` counts all bytes, `cut` says that some were not kept."""

    __slots__ = ("_parts", "_room", "cut", "seen")

    def __init__(self, room: int) -> None:
        self._parts: list[bytes] = []
        self._room = room
        self.seen = 0
        self.cut = False

    def add(self, part: bytes) -> None:
        self.seen += len(part)
        if len(part) > self._room:
            self.cut = True
            part = part[: self._room]
        if part:
            self._room -= len(part)
            self._parts.append(bytes(part))

    def content(self) -> bytes:
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)


class _Capture:
    """One request and its response, under one id."""

    def __init__(self, scope: Scope, settings: _Settings, emitter: Emitter) -> None:
        self._settings = settings
        self._emitter = emitter
        self._time_ns = time_ns()
        self._start_ns = perf_counter_ns()
        self._raw_headers: list[tuple[bytes, bytes]] = list(scope["headers"])
        self._headers = dict(reversed(self._raw_headers))  # of several of one name, the first
        self._method: str = scope["method"]
        self._path: str = scope["path"]
        self._id = _id(self._header(b"ce-id"))
        self._request: _Body | None = _Body(settings.max_body_bytes)
        self._response: _Body | None = None
        self._status = 0
        self._content_type: str | None = None
        self._shared: dict[str, str] | None = None

    def received(self, message: Message) -> None:
        """Note a message of the client."""
        if message["type"] == "http.request" and self._request is not None:
            self._request.add(message.get("body", b""))
            if not message.get("more_body", False):
                self._end_request()

    def sent(self, message: Message) -> None:
        """Note a message that the client has been sent."""
        kind = message["type"]
        if kind == "http.response.start":
            self._status = message["status"]
            self._content_type = _content_type(message.get("headers", ()))
            self._response = _Body(self._settings.max_body_bytes)
        elif kind == "http.response.body" and self._response is not None:
            self._response.add(message.get("body", b""))
            if not message.get("more_body", False):
                self._end_response()
        elif kind in ("http.response.pathsend", "http.response.zerocopysend") and self._response is not None:
            self._response.cut = True  # the server reads the file itself

    def failed(self) -> None:
        """Note that the application raised: a server then answers 500, unless it had begun to answer."""
        if self._status == 0:
            self._status = 500
            self._response = _Body(0)
            self._end_response()

    def ended(self) -> None:
        """Send what is still open: a body that was not read to its end, an answer that broke off."""
        self._leave_request()
        if self._response is not None:
            self._response.cut = True
            self._end_response()

    def _header(self, name: bytes) -> str | None:
        value = self._headers.get(name)
        return None if value is None else _text(value)

    def _leave_request(self) -> None:
        if self._request is not None:
            self._request.cut |= self._request.seen < self._announced()
            self._end_request()

    def _announced(self) -> float:
        """How long the request body is to be."""
        if self._header(b"transfer-encoding") is not None:
            return math.inf
        length = self._header(b"content-length") or "0"
        return int(length) if length.isdecimal() else math.inf

    def _end_request(self) -> None:
        body, self._request = self._request, None
        if body is not None and self._settings.requests:
            self._emit(REQUEST_TYPE, self._time_ns, self._header(b"content-type"), body, {})

    def _end_response(self) -> None:
        self._leave_request()
        body, self._response = self._response, None
        if body is not None and self._settings.responses:
            elapsed_ns = perf_counter_ns() - self._start_ns
            own = {"statuscode": str(self._status), "latencyms": f"{elapsed_ns / 1e6:.3f}"}
            self._emit(RESPONSE_TYPE, self._time_ns + elapsed_ns, self._content_type, body, own)

    def _emit(self, kind: str, moment_ns: int, content_type: str | None, body: _Body, own: dict[str, str]) -> None:
        if self._shared is None:
            self._shared = self._attributes()
        extensions = {**self._shared, "recordedtime": format_time(time_ns()), **own}
        if body.cut:
            extensions["truncated"] = "true"
        self._emitter.emit(
            CloudEvent(
                self._id, self._settings.source, kind, moment_ns, content_type, extensions, body.content(), body.cut
            )
        )

    def _attributes(self) -> dict[str, str]:
        """What the request's and the response's event have in common."""
        attributes = {**self._settings.attributes, "metadata": _metadata(self._raw_headers, self._settings.metadata)}
        attributes |= {"path": self._path, "method": self._method}
        traceparent = self._header(b"traceparent")
        if traceparent:
            attributes["traceparent"] = traceparent
        version = _VERSION.search(self._path)
        if version is not None:
            attributes["modelversion"] = version[1]
        return attributes


def _check(name: str, mode: str, max_body_bytes: int, queue_bytes: int) -> None:
    faults = []
    if not name:
        faults.append(Fault("name", "is empty; allowed is the name of the served model"))
    if mode not in ("all", "request", "response"):
        faults.append(Fault("mode", f"{mode!r} is none of all, request, response"))
    if max_body_bytes < 0:
        faults.append(Fault("max_body_bytes", f"{max_body_bytes} is negative"))
    if queue_bytes <= 0:
        faults.append(Fault("queue_bytes", f"{queue_bytes} is not positive"))
    if faults:
        raise ConfigError(faults)


def _wanted(names: Iterable[str]) -> dict[bytes, str]:
    """Header names in lower case -> as Go, and so KServe, writes them."""
    return {
        name.lower().encode("latin-1"): "-".join(part.capitalize() for part in name.split("-"))
        for name in (*names, ORIGIN_HEADER)
        if not is_secret(name)
    }


def _is_captured(scope: Scope, settings: _Settings) -> bool:
    path = scope["path"]
    if scope["method"] in _UNCAPTURED_METHODS or path.rstrip("/").endswith("/metrics"):
        return False
    if settings.paths is not None and settings.paths.match(path) is None:
        return False
    return not any(
        (name == b"user-agent" and value.startswith(b"kube-probe/")) or name == b"k-network-probe"
        for name, value in scope["headers"]
    )


def _content_type(headers: Iterable[tuple[bytes, bytes]]) -> str | None:
    """ASGI asks for names in lower case, which not every application heeds in its answers."""
    return next((_text(value) for name, value in headers if name.lower() == b"content-type"), None)


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


def _id(given: str | None) -> str:
    """The caller's id; a new one where there is none, or one that no CloudEvent may have."""
    return given if given and given.isprintable() else str(uuid4())


def _metadata(headers: Iterable[tuple[bytes, bytes]], wanted: dict[bytes, str]) -> str:
    found: dict[str, list[str]] = {}
    for name, value in headers:
        canonical = wanted.get(name)
        if canonical is not None:
            found.setdefault(canonical, []).append(_text(value))
    return orjson.dumps(found, option=orjson.OPT_SORT_KEYS).decode() if found else "{}"
