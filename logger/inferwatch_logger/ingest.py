"""The ingest: takes CloudEvents over HTTP and answers once they are kept: in the journal, or by the brokers.

A raw ASGI application, because this is the hot path. KServe's agent never repeats an event and keeps its connection
only where the reply is empty: so nothing that is an event is turned away while there is room for it, and success has
no body.

Serve it with `BoundedHttp`, which takes heads of up to `MAX_HEAD_BYTES` (events carry whole JSON documents in
`ce-metadata`) and closes connections on which a request does not come to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, MutableMapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from functools import partial
from typing import Any, Final

import orjson

from inferwatch.aliases import Aliases
from inferwatch.errors import DeliveryError, InvalidEvent, PayloadLogError
from inferwatch.payload_log.dead_letter import DeadLetter
from inferwatch.protocols import Intake
from inferwatch.redaction import Redaction
from inferwatch.wire.attributes import header_text
from inferwatch.wire.cloudevents import BATCH_TYPE, from_http
from inferwatch_logger.bounded_http import TOO_LATE
from inferwatch_logger.modelmesh import ModelMesh
from inferwatch_logger.received import bury, sorted_out

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

MAX_BODY_BYTES: Final = 32 * 1024 * 1024

_RETRY_AFTER: Final = (b"retry-after", b"1")
_MAX_ERROR: Final = 1000
_TAKEN: Final = [(b"content-length", b"0"), (b"accept-post", BATCH_TYPE.encode())]
"""Success has no body; senders of ours learn that several events may come at once."""
_STRUCTURED: Final = b"application/cloudevents"


class Ingest:
    """Answers `POST /`, `POST /events` and every path under `/events/`, with an empty 200 after the commit.

    With `modelmesh` the payloads of ModelMesh at its paths as well. `aliases` says which other types are payloads.

    A body above `max_body_bytes` is stored cut. 4xx only for a broken envelope (413 where it is too large to parse),
    which goes to the dead letter; of a batch the good members are taken, and it fails only where there is none. 503
    with `Retry-After` while the intake cannot take more: its `fault` says why. What `BoundedHttp` gave up is counted as
    refused. What `redaction` names is taken out before anything is written.
    """

    def __init__(
        self,
        intake: Intake,
        dead_letter: DeadLetter,
        *,
        max_body_bytes: int = MAX_BODY_BYTES,
        redaction: Redaction | None = None,
        modelmesh: ModelMesh | None = None,
        aliases: Aliases | None = None,
    ) -> None:
        self._intake = intake
        self._dead_letter = dead_letter
        self._max_body_bytes = max_body_bytes
        self._redaction = redaction or Redaction()
        self._modelmesh = modelmesh
        self._aliases = aliases or Aliases()
        self._receiving_bytes = 0
        self._group: Future[Any] | None = None
        self._waiters: list[asyncio.Future[BaseException | None]] = []

    def handles(self, scope: Scope) -> bool:
        """Say whether a request is for the ingest; `/` is so for POST alone."""
        if scope["type"] != "http":
            return False
        path: str = scope["path"]
        if path == "/events" or path.startswith("/events/") or (path == "/" and scope["method"] == "POST"):
            return True
        return self._is_modelmesh(path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["method"] != "POST":
            await _answer(send, 405, f"{scope['method']} is not supported here; POST is", (b"allow", b"POST"))
            return
        try:
            body, truncated = await self._receive(receive)
            fault = await self._take(scope, body, truncated)
        except ConnectionResetError:
            if TOO_LATE in scope:
                self._intake.refuse("timeout")
            return
        except (PayloadLogError, DeliveryError) as error:
            if isinstance(error, DeliveryError) and not error.retryable:
                await _answer(send, 413, str(error))
            else:
                await _answer(send, 503, str(error), _RETRY_AFTER)
            return
        if fault is None:
            await send({"type": "http.response.start", "status": 200, "headers": _TAKEN})
            await send({"type": "http.response.body"})
        else:
            await _answer(send, 413 if fault.reason == "too_large" else 400, str(fault))

    async def _take(self, scope: Scope, body: bytes, truncated: bool) -> InvalidEvent | None:
        """Keep a message; the fault to answer with, where nothing of it was good."""
        if self._modelmesh is not None and self._is_modelmesh(scope["path"]):
            members = [self._modelmesh.member(body, scope.get("client"), scope["path"], truncated=truncated)]
        else:
            members = from_http(scope["headers"], body, truncated=truncated)
        sort = partial(sorted_out, members, self._redaction, self._aliases)
        received = await asyncio.to_thread(sort) if self._redaction.takes_long(body) else sort()
        if received.faults:
            self._bury(received.faults, scope, body)
        await self._commit(self._intake.append(received.events, ignored=received.ignored, malformed=received.malformed))
        return received.faults[0][1] if received.faults and not received.events and not received.ignored else None

    def _is_modelmesh(self, path: str) -> bool:
        return self._modelmesh is not None and path in self._modelmesh.paths

    async def _commit(self, done: Future[Any]) -> None:
        """Wait for a commit. One wake-up of the loop serves all that wait for the same one."""
        loop = asyncio.get_running_loop()
        if done is not self._group:
            waiters: list[asyncio.Future[BaseException | None]] = []
            self._group, self._waiters = done, waiters

            def wake(group: Future[Any]) -> None:
                with suppress(RuntimeError):  # the loop was closed, and nobody waits any more
                    loop.call_soon_threadsafe(_release, waiters, group.exception())

            done.add_done_callback(wake)
        waiter: asyncio.Future[BaseException | None] = loop.create_future()
        self._waiters.append(waiter)
        error = await waiter
        if error is not None:
            raise error

    async def _receive(self, receive: Receive) -> tuple[bytes, bool]:
        """Return the body, or its beginning and that it is cut. What is not kept is read off the wire all the same.

        Raises `PayloadLogError` where bodies under way and events that wait to be kept fill the intake's bound.
        """
        message = await receive()
        if message["type"] == "http.request" and not message.get("more_body"):
            body: bytes = message.get("body", b"")
            return body[: self._max_body_bytes], len(body) > self._max_body_bytes
        kept = bytearray()
        size_bytes, full = 0, False
        try:
            async for chunk in _chunks(message, receive):
                size_bytes += len(chunk)
                part = chunk[: self._max_body_bytes - len(kept)]
                full = full or self._is_full(len(part))
                if full:
                    self._receiving_bytes -= len(kept)
                    kept.clear()
                else:
                    self._receiving_bytes += len(part)
                    kept += part
        finally:
            self._receiving_bytes -= len(kept)
        if full:
            self._intake.refuse("overloaded")
            raise PayloadLogError("too many bytes are under way, try again later")
        return bytes(kept), size_bytes > self._max_body_bytes

    def _is_full(self, more_bytes: int) -> bool:
        under_way = self._receiving_bytes + self._intake.waiting_bytes
        return under_way > 0 and under_way + more_bytes > self._intake.max_inflight_bytes

    def _bury(self, faults: Iterable[tuple[int, InvalidEvent]], scope: Scope, body: bytes) -> None:
        headers: Sequence[tuple[bytes, bytes]] = scope["headers"]
        attributes = {name[3:].decode("latin-1"): header_text(value) for name, value in headers if name[:3] == b"ce-"}
        content_type = next((value.lower() for name, value in headers if name == b"content-type"), b"")
        is_envelope = content_type.startswith(_STRUCTURED) or self._is_modelmesh(scope["path"])
        bury(
            self._dead_letter,
            faults,
            attributes if is_envelope else attributes | {"datacontenttype": header_text(content_type)},
            body,
            envelope=is_envelope,
            batch=b"batch" in content_type,
        )


async def _chunks(message: MutableMapping[str, Any], receive: Receive) -> AsyncIterator[bytes]:
    """The rest of a body that begins with a message. Raises `ConnectionResetError` where the client leaves."""
    while message["type"] == "http.request":
        yield message.get("body", b"")
        if not message.get("more_body"):
            return
        message = await receive()
    raise ConnectionResetError("the client left before its message was complete")


def _release(waiters: Iterable[asyncio.Future[BaseException | None]], error: BaseException | None) -> None:
    for waiter in waiters:
        if not waiter.done():
            waiter.set_result(error)


async def _answer(send: Send, status: int, sentence: str, *headers: tuple[bytes, bytes]) -> None:
    body = orjson.dumps({"error": sentence[:_MAX_ERROR]})
    length = (b"content-length", str(len(body)).encode())
    fields = [(b"content-type", b"application/json"), length, *headers]
    await send({"type": "http.response.start", "status": status, "headers": fields})
    await send({"type": "http.response.body", "body": body})
