"""Connections to the upstream: kept open, each serving one exchange at a time."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import Final, cast

import httptools

from inferwatch_logger.proxy.exchange import CRLF, LAST_CHUNK, Exchange
from inferwatch_logger.proxy.head import Fields, read_fields

_NO_BODY: Final = frozenset({204, 304})


class Upstream(asyncio.Protocol):
    """Sends requests to the upstream and passes its responses back to the clients as they come.

    `released` is told when the connection may serve another exchange, `lost` when it is closed.
    """

    transport: asyncio.Transport

    def __init__(self, released: Callable[[Upstream], None], lost: Callable[[Upstream], None]) -> None:
        self.idle_since_s = 0.0
        self._released = released
        self._lost = lost
        self._poll = select.poll()
        self._parser = self._new_parser()
        self._exchange: Exchange | None = None
        self._down: list[bytes] = []
        self._reason = b""
        self._given: list[tuple[bytes, bytes]] = []
        self._interim = False
        self._chunked = False
        self._open_ended = False
        self._complete = False
        self._reusable = True
        self._held = False

    def serve(self, exchange: Exchange) -> None:
        """Take on an exchange."""
        self._exchange = exchange
        self._complete = False
        exchange.upstream = self
        if exchange.client.full:
            self.hold(True)

    def is_quiet(self) -> bool:
        """Return whether the connection is open and nothing has come unasked, the upstream's farewell included."""
        return not self.transport.is_closing() and not self._poll.poll(0)

    def hold(self, held: bool) -> None:
        """Read no more of the response while the client does not, or read on."""
        if held is not self._held and not self.transport.is_closing():
            self._held = held
            (self.transport.pause_reading if held else self.transport.resume_reading)()

    def finish_writing(self) -> None:
        """Tell the upstream that nothing follows."""
        self._reusable = False
        if self.transport.can_write_eof():
            self.transport.write_eof()

    def drop(self) -> None:
        """Close: nobody waits for the response."""
        self._exchange = None
        self._reusable = False
        self.transport.abort()

    # the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def connection_lost(self, exc: Exception | None) -> None:
        """End the response that ends so; any other is broken."""
        self._lost(self)
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        if exchange.begun and self._open_ended and exc is None:
            exchange.finish()
        else:
            exchange.fail(
                f"the upstream closed the connection without {'the rest of' if exchange.begun else 'an'} answer"
            )

    def pause_writing(self) -> None:
        """Read no more of the client while the upstream does not."""
        if self._exchange is not None:
            self._exchange.client.hold(True)

    def resume_writing(self) -> None:
        """Read on."""
        if self._exchange is not None:
            self._exchange.client.hold(False)

    # what the upstream sends

    def data_received(self, data: bytes) -> None:
        """Parse, and pass on."""
        exchange = self._exchange
        if exchange is None:
            self.drop()
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as fault:
            self._reusable = False
            if isinstance(fault, httptools.HttpParserCallbackError):  # a fault of ours
                exchange.client.guarded.complain()
            if not self._complete:
                self._broken(exchange, fault)
                return
        self._flush(exchange)
        if self._complete:
            self._end(exchange)

    def on_message_begin(self) -> None:
        """Begin a response."""
        self._reason = b""
        self._given = []
        if self._complete:
            self._reusable = False  # nobody asked for this one

    def on_status(self, part: bytes) -> None:
        """Take the reason phrase, or a part of it."""
        self._reason += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field, or one of the trailer."""
        self._given.append((name, value))

    def on_headers_complete(self) -> None:
        """Pass on the head."""
        exchange = self._exchange
        if exchange is None or self._complete:
            return
        status = self._parser.get_status_code()
        fields = read_fields(self._given)
        self._given = []
        self._interim = status < 200
        if self._interim:
            self._pass_interim(exchange, status, fields)
            return
        bodiless = exchange.head_only or status in _NO_BODY
        self._chunked = fields.chunked and not bodiless and exchange.minor == 1
        self._open_ended = not (bodiless or fields.length or fields.chunked)
        self._reusable &= not self._open_ended and _persists(self._parser.get_http_version(), fields)
        self._down.append(exchange.begin(status, self._reason, fields, open_ended=self._open_ended))
        if exchange.head_only:
            self._complete = True
            self._parser = self._new_parser()  # the old one waits for a body

    def on_body(self, part: bytes) -> None:
        """Pass on a part of the body."""
        exchange = self._exchange
        if exchange is None or self._complete:
            self._reusable = False  # more than was announced
            return
        if exchange.inference is not None:
            exchange.client.guarded(exchange.inference.response_part, part)
        self._down += (b"%x\r\n" % len(part), part, CRLF) if self._chunked else (part,)

    def on_message_complete(self) -> None:
        """Pass on the end of the response."""
        if self._interim or self._complete:
            self._interim = False
            return
        if self._chunked:
            self._down += (LAST_CHUNK, *(b"%b: %b\r\n" % field for field in self._given), CRLF)
        self._complete = True

    def _pass_interim(self, exchange: Exchange, status: int, fields: Fields) -> None:
        if status == 100:
            exchange.unconfirmed = False
        if exchange.minor == 1 and status != 101:  # nobody asked to switch; the parser raises next
            self._down.append(b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, self._reason, b"".join(fields.lines)))

    def _flush(self, exchange: Exchange) -> None:
        if self._down:
            exchange.client.transport.writelines(self._down)
            self._down = []

    def _end(self, exchange: Exchange) -> None:
        """Let go of the exchange."""
        self._exchange = None
        reusable = self._reusable and exchange.received
        self.hold(False)
        if reusable:
            self._released(self)
        else:
            self.transport.close()
        exchange.client.hold(False)
        exchange.finish()

    def _broken(self, exchange: Exchange, fault: Exception) -> None:
        self._flush(exchange)
        self._exchange = None
        self.transport.abort()
        exchange.fail(f"the upstream's response cannot be read: {fault}")

    def _new_parser(self) -> httptools.HttpResponseParser:
        parser = httptools.HttpResponseParser(self)
        # The upstream is the model server itself: what a client would take of it is not refused here.
        parser.set_dangerous_leniencies(
            lenient_headers=True, lenient_optional_cr_before_lf=True, lenient_optional_lf_after_cr=True
        )
        return parser


def _persists(version: str, fields: Fields) -> bool:
    if b"close" in fields.connection:
        return False
    return version != "1.0" or b"keep-alive" in fields.connection
