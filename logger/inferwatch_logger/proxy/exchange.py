"""One request on its way up and its response on its way down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from inferwatch_logger.proxy.head import JSON, error_body, own_reply

if TYPE_CHECKING:
    from inferwatch_logger.inference import Inference
    from inferwatch_logger.proxy.client import Client
    from inferwatch_logger.proxy.head import Fields
    from inferwatch_logger.proxy.upstream import Upstream

LAST_CHUNK: Final = b"0\r\n"
CRLF: Final = b"\r\n"
UNREADABLE: Final = "the request cannot be read"


class Exchange:
    """Passes a request on as it comes, and its response back.

    Until a connection to the upstream is there, what the client sent waits here. Once the response is complete, what
    still comes of the request is read and dropped, as the upstream wanted no more of it.
    """

    __slots__ = (
        "_chunked",
        "_waiting",
        "abandoned",
        "answered",
        "begun",
        "client",
        "closes",
        "head_only",
        "inference",
        "minor",
        "open_ended",
        "received",
        "unconfirmed",
        "upstream",
        "waiting_bytes",
    )

    def __init__(
        self, client: Client, head: bytes, fields: Fields, *, method: bytes, minor: int, inference: Inference | None
    ) -> None:
        self.client = client
        self.inference = inference
        self.minor = minor
        """Of the client's HTTP version: 0 or 1."""
        self.head_only = method == b"HEAD"
        self.received = False
        """The request is complete."""
        self.begun = False
        """The head of the final response is on its way."""
        self.answered = False
        """The response is complete."""
        self.abandoned = False
        """The client has left."""
        self.closes = False
        """The client's connection ends after this response."""
        self.open_ended = False
        """The response ends with the connection."""
        self.unconfirmed = fields.expects
        """The client may hold back the body until it is told to continue."""
        self.upstream: Upstream | None = None
        self.waiting_bytes = len(head)
        self._waiting = [head]
        self._chunked = fields.chunked

    def part(self, data: bytes) -> None:
        """Take a part of the request's body."""
        self.unconfirmed = False
        if self.inference is not None:
            self.client.guarded(self.inference.request_part, data)
        if self.answered:
            return
        self.waiting_bytes += len(data)
        if self._chunked:
            self._waiting += (b"%x\r\n" % len(data), data, CRLF)
        else:
            self._waiting.append(data)

    def end(self, trailers: list[bytes]) -> None:
        """Take the end of the request."""
        self.received = True
        if self.inference is not None:
            self.client.guarded(self.inference.request_end)
        if self._chunked and not self.answered:
            self._waiting += (LAST_CHUNK, *trailers, CRLF)

    def push(self) -> None:
        """Write what waits to the upstream, if it is there."""
        if self.upstream is not None and self._waiting:
            self.upstream.transport.writelines(self._waiting)
            self._waiting = []
            self.waiting_bytes = 0

    def begin(self, status: int, reason: bytes, fields: Fields, *, open_ended: bool) -> bytes:
        """Return the head of the final response for the client."""
        self.begun = True
        if fields.chunked and self.minor == 0:  # the client could not read chunks
            open_ended = True
            fields.lines = [line for line in fields.lines if not line.lower().startswith(b"transfer-encoding:")]
        self.open_ended = open_ended
        self.closes = open_ended or self.unconfirmed or self.client.ends_with(self)
        if self.inference is not None:
            self.client.guarded(self.inference.response_start, status, fields.lowered)
        persistence = b""
        if self.closes:
            persistence = b"Connection: close\r\n"
        elif self.minor == 0:
            persistence = b"Connection: keep-alive\r\n"
        return b"HTTP/1.1 %d %b\r\n%b%b\r\n" % (status, reason, b"".join(fields.lines), persistence)

    def finish(self) -> None:
        """Take note that the response is complete."""
        self._answered()
        self.upstream = None
        if self.inference is not None:
            self.client.guarded(self.inference.response_end)
        self.client.advance()

    def reply(self, status: int, body: bytes, content_type: bytes) -> None:
        """Answer without the upstream."""
        self.begun = True
        self.closes = self.unconfirmed or self.client.ends_with(self)
        self.client.send(own_reply(status, body, content_type, close=self.closes, bodiless=self.head_only))
        if self.inference is not None:
            self.client.guarded(self.inference.response_start, status, ((b"content-type", content_type),))
            self.client.guarded(self.inference.response_part, body)
        self.finish()

    def fail(self, why: str, status: int = 502) -> None:
        """Tell the client that there is no response, or break off the one that had begun."""
        self.upstream = None
        if self.abandoned or self.answered:
            return
        if self.begun or self.client.has_left:
            self.client.break_off(reset=self.open_ended)
        else:
            self.reply(status, error_body(why), JSON)

    def refuse(self, status: int) -> None:
        """End a request whose body cannot be read."""
        self.received = True
        self._let_go()
        self.fail(UNREADABLE, status)

    def abandon(self) -> None:
        """Take note that the client has left."""
        self.abandoned = True
        self._answered()
        self._let_go()
        if self.inference is not None:
            self.client.guarded(self.inference.ended)

    def _answered(self) -> None:
        self.answered = True
        self._waiting = []
        self.waiting_bytes = 0

    def _let_go(self) -> None:
        upstream, self.upstream = self.upstream, None
        if upstream is not None:
            upstream.drop()
