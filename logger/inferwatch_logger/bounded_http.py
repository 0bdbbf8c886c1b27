"""uvicorn's HTTP protocol with bounds that it lacks: on the time in which a request must have come, and on its head.

Without them every client that begins a request and does not go on holds a connection for ever, and a head that does not
end fills the memory. A request that has come whole is not delayed here, whatever its answer takes; connections that
wait for the next one are closed by uvicorn's own `timeout_keep_alive`.
"""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from typing import Any, ClassVar, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES: Final = 1024 * 1024
"""A longer request line with its headers is answered 431; events carry whole JSON documents in their headers."""

REQUEST_TIMEOUT_S: Final = 60.0
"""Seconds that a request may take to come, unless one says otherwise."""

TOO_LATE: Final = "inferwatch.too_late"
"""In the scope of a request that was given up, whose application is told that the client has left."""


def bounded_http(request_timeout_s: float) -> type[BoundedHttp]:
    """Return the protocol with another bound on the time of a request, seconds: uvicorn makes one for a connection."""
    return type("BoundedHttp", (BoundedHttp,), {"receive_timeout_s": request_timeout_s})


class BoundedHttp(HttpToolsProtocol):
    """Answers 408 to a request that is not complete in time, and closes the connection."""

    receive_timeout_s: ClassVar[float] = REQUEST_TIMEOUT_S
    """Seconds from the connection, or from the first byte of a later request, to the last byte of the request."""

    def __init__(self, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*arguments, **named)
        self._awaited = True
        self._head_bytes: int | None = 0
        self._deadline: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Begin to wait for the first request."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(self.receive_timeout_s, self._too_late)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop waiting."""
        self._stop_waiting()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take a part of a request."""
        super().data_received(data)
        if not self._awaited:
            self._stop_waiting()
            return
        if self._deadline is None:
            self._deadline = self.loop.call_later(self.receive_timeout_s, self._too_late)
        if self._head_bytes is not None:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._refuse(b"431 Request Header Fields Too Large", f"the head is longer than {MAX_HEAD_BYTES} bytes")

    def on_message_begin(self) -> None:
        """Note that a request has begun."""
        self._awaited, self._head_bytes = True, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Note that its head is there."""
        self._head_bytes = None
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """Note that it has come whole."""
        self._awaited = False
        super().on_message_complete()

    def _too_late(self) -> None:
        self._deadline = None
        if self._head_bytes is None:
            self.scope[TOO_LATE] = True  # type: ignore[typeddict-unknown-key]
        self._refuse(b"408 Request Timeout", f"the request has not come within {self.receive_timeout_s:g} s")

    def _refuse(self, status: bytes, sentence: str) -> None:
        self._stop_waiting()
        if self._may_answer():
            body = b'{"error":"%s"}' % sentence.encode()
            head = b"content-type: application/json\r\nconnection: close\r\ncontent-length: %d" % len(body)
            self.transport.write(b"HTTP/1.1 %s\r\n%s\r\n\r\n%s" % (status, head, body))
        self.transport.close()

    def _may_answer(self) -> bool:
        """Return whether something of the request has come, and no answer to it or to one before it is under way."""
        if self._head_bytes is None:
            return not self.pipeline and not self.cycle.response_started
        idle = self.cycle is None or self.cycle.response_complete  # type: ignore[redundant-expr] # None before the first
        return idle and self._head_bytes > 0

    def _stop_waiting(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
