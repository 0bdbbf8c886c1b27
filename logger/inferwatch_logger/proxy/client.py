"""A client's connection: its requests, one after the other, each relayed as it comes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Any, Final, cast

import httptools

from inferwatch_logger.proxy.exchange import UNREADABLE, Exchange
from inferwatch_logger.proxy.head import Fields, own_error, path_of, read_fields
from inferwatch_logger.proxy.tunnel import Tunnel

if TYPE_CHECKING:
    from inferwatch_logger.proxy.relay import Relay

_MOST_WAITING_BYTES: Final = 65_536
"""What may wait for a connection to the upstream before the client is read no further."""

_MOST_HEAD_BYTES: Final = 524_288
"""Of a request, what was read together with its beginning included: at most as much again as one read gives."""

_PROBE: Final = (b"k-network-probe", b"queue")
"""How KServe asks its agent whether the model is ready."""


class Client(asyncio.Protocol):
    """Reads requests and starts an exchange for each; the responses go back in order.

    What is no HTTP/1.1 request (h2c, a message that the parser refuses) or asks for another protocol (websockets) is
    relayed as bytes from there on, and counted as unlogged; HTTP/2 only where it cannot be followed.
    """

    transport: asyncio.Transport

    def __init__(self, relay: Relay) -> None:
        self.guarded = relay.guarded
        self.has_left = False
        """The client sends no more, though it may still read."""
        self.full = False
        """The client reads too slowly."""
        self._relay = relay
        self._loop = relay.loop
        self._parser = httptools.HttpRequestParser(self)
        self._exchanges: deque[Exchange] = deque()
        self._receiving: Exchange | None = None
        self._tunnel: Tunnel | None = None
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._in_message = False
        self._in_head = False
        self._head = b""
        self._head_bytes = 0
        self._upgrade: tuple[Fields, list[tuple[bytes, bytes]]] | None = None
        self._last = False
        self._refused = False
        self._reading = True
        self._upstream_full = False

    def ends_with(self, exchange: Exchange) -> bool:
        """Return whether no request can follow this one."""
        return self._relay.draining or (self._last and self._exchanges[-1] is exchange)

    # the connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self.transport = cast("asyncio.Transport", transport)
        self._relay.clients.add(self)

    def connection_lost(self, _: Exception | None) -> None:
        """Give up what is under way."""
        self._relay.left(self)
        if self._tunnel is not None:
            self._tunnel.abandon()
        exchanges, self._exchanges = self._exchanges, deque()
        self._receiving = None
        for exchange in exchanges:
            exchange.abandon()

    def eof_received(self) -> bool:
        """Tell the upstream that the client sends no more, as it would have seen; return whether to stay open."""
        self.has_left = self._last = True
        if self._tunnel is not None:
            self._tunnel.finish()
            return True
        if len(self._exchanges) == 1:
            self._pass_on_eof(self._exchanges[0])
        return bool(self._exchanges) and not self._exchanges[0].answered

    def pause_writing(self) -> None:
        """Read no more of the response while the client does not."""
        self.full = True
        if self._tunnel is not None:
            self._tunnel.hold(True)
        elif self._exchanges and self._exchanges[0].upstream is not None:
            self._exchanges[0].upstream.hold(True)

    def resume_writing(self) -> None:
        """Read on."""
        self.full = False
        if self._tunnel is not None:
            self._tunnel.hold(False)
        elif self._exchanges and self._exchanges[0].upstream is not None:
            self._exchanges[0].upstream.hold(False)

    def hold(self, held: bool) -> None:
        """Read no more of the client while the upstream does not, or read on."""
        self._upstream_full = held
        self.pace()

    def pace(self) -> None:
        """Read the client, or do not, as the room for what it sends allows."""
        exchanges = self._exchanges
        wanted = not (
            self._upstream_full
            or len(exchanges) > 1
            or (len(exchanges) == 1 and exchanges[0].waiting_bytes > _MOST_WAITING_BYTES)
        )
        if wanted is not self._reading and not self.transport.is_closing():
            self._reading = wanted
            (self.transport.resume_reading if wanted else self.transport.pause_reading)()

    def send(self, data: bytes) -> None:
        """Write to the client."""
        self.transport.write(data)

    def break_off(self, *, reset: bool = False) -> None:
        """Close after what was written; with `reset` so that the client cannot take it for an orderly end."""
        if reset:
            linger = self.transport.get_extra_info("socket")
            linger.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        else:
            self.transport.close()

    def drain(self) -> None:
        """Close if nothing is under way; else the present exchange is the last."""
        if self._tunnel is not None:
            self._tunnel.drain()
        elif not self._exchanges and not self._in_message:
            self.transport.close()

    def advance(self) -> None:
        """Go on with the next request once the first one and its response are complete."""
        exchanges = self._exchanges
        while exchanges and exchanges[0].answered and exchanges[0].received:
            if exchanges.popleft().closes:
                self._last = True
                exchanges.clear()
                self._leave()
                return
            if exchanges:
                self._start(exchanges[0])
                exchanges[0].push()
        over = (self._last or self._relay.draining) and not exchanges and not self._in_message
        cut_short = self.has_left and exchanges and exchanges[0].answered  # the rest of its request will not come
        if over or cut_short:
            self._leave()
        else:
            self.pace()

    def _leave(self) -> None:
        """Close; after a refusal once the client has had it, which unread data would keep from it."""
        if self._refused and not self.has_left:
            self.transport.write_eof()
        else:
            self.transport.close()

    # what the client sends

    def data_received(self, data: bytes) -> None:
        """Parse, and pass on."""
        if self._tunnel is not None:
            self._tunnel.send(data)
            return
        if self._last and not self._in_message:
            return
        if not self._in_message:
            self._head = data
        elif self._in_head and self._head:
            self._head += data
        self._feed(data)
        if self._in_head:
            self._head_bytes += len(data)
            if self._head_bytes > _MOST_HEAD_BYTES:
                self._refuse(431)
        if self._exchanges:
            self._exchanges[0].push()
            self.pace()

    def _feed(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._switch(data[upgrade.args[0] :])
        except httptools.HttpParserError as fault:
            if isinstance(fault, httptools.HttpParserCallbackError):  # a fault of ours
                self.guarded.complain()
            self._unparsed()

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._in_message = self._in_head = True
        self._target = b""
        self._fields = []
        self._head_bytes = 0

    def on_url(self, part: bytes) -> None:
        """Take the request target, or a part of it."""
        self._target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header field, or one of the trailer."""
        self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        """Begin an exchange."""
        self._in_head = False
        self._head = b""
        given, self._fields = self._fields, []
        fields = read_fields(given)
        if self._parser.should_upgrade():
            self._upgrade = fields, given
            return
        method = self._parser.get_method()
        minor = 0 if self._parser.get_http_version() == "1.0" else 1
        head = b"%b %b HTTP/1.%d\r\n%b\r\n" % (method, self._target, minor, b"".join(fields.lines))
        probed = _PROBE in fields.lowered
        inference = None if probed else self.guarded(self._captured, method, fields)
        exchange = Exchange(self, head, fields, method=method, minor=minor, inference=inference)
        if b"close" in fields.connection or (minor == 0 and b"keep-alive" not in fields.connection):
            self._last = True
        self._receiving = exchange
        self._exchanges.append(exchange)
        self._relay.requests += 1
        if probed:
            self._relay.answer_probe(exchange)
        elif len(self._exchanges) == 1:
            self._start(exchange)

    def on_body(self, part: bytes) -> None:
        """Pass on a part of the body."""
        if self._receiving is not None:
            self._receiving.part(part)

    def on_message_complete(self) -> None:
        """End the request."""
        self._in_message = False
        exchange, self._receiving = self._receiving, None
        if exchange is not None:
            exchange.end([b"%b: %b\r\n" % field for field in self._fields])
            if exchange.answered:
                self.advance()

    def _captured(self, method: bytes, fields: Fields) -> Any:  # noqa: ANN401 - an Inference, or None
        return self._relay.recorder.begin(method.decode("ascii"), path_of(self._target), fields.lowered)

    def _start(self, exchange: Exchange) -> None:
        self._relay.pool.serve(exchange)
        if self.has_left and len(self._exchanges) == 1:
            self._pass_on_eof(exchange)

    def attached(self, exchange: Exchange) -> None:
        """Go on with an exchange that waited for its connection."""
        exchange.push()
        if self.has_left and len(self._exchanges) == 1:
            self._pass_on_eof(exchange)
        self.pace()

    def _pass_on_eof(self, exchange: Exchange) -> None:
        if exchange.upstream is not None:
            exchange.push()
            exchange.upstream.finish_writing()

    # what is no request

    def _switch(self, rest: bytes) -> None:
        """Go over to another protocol, or decline to."""
        upgrade, self._upgrade = self._upgrade, None
        if upgrade is None or self._exchanges:
            self._last = True
            return
        fields, given = upgrade
        line = b"%b %b HTTP/1.1\r\n" % (self._parser.get_method(), self._target)
        if fields.upgrade == b"h2c":  # as a server may, so that the request is captured
            close = b"Connection: close\r\n" if b"close" in fields.connection else b""
            self._parser = httptools.HttpRequestParser(self)
            self._feed(b"%b%b%b\r\n%b" % (line, b"".join(fields.lines), close, rest))
        else:
            lines = b"".join([b"%b: %b\r\n" % field for field in given])
            self._dig("upgrade", b"%b%b\r\n%b" % (line, lines, rest))

    def _unparsed(self) -> None:
        """Relay as bytes what is no HTTP/1.1, where it begins the connection's next message; else refuse it."""
        if self._last and not self._in_message:
            return
        if self._head and not self._exchanges:
            self._dig("h2c" if self._head.startswith(b"PRI ") else "unparsed", self._head)
        else:
            self._refuse(400)

    def _dig(self, reason: str, data: bytes) -> None:
        conversation = self._relay.followed() if reason == "h2c" else None
        if conversation is None:
            self._relay.unlogged[reason] += 1
        self._tunnel = Tunnel(self, self._relay, data, conversation)

    def _refuse(self, status: int) -> None:
        """Read no more; answer the request that cannot be read, unless others wait for their answers."""
        self._last = self._refused = True
        self._in_message = self._in_head = False
        exchange, self._receiving = self._receiving, None
        if exchange is None:
            if not self._exchanges:
                self.send(own_error(status, UNREADABLE, close=True))
                self._leave()
        elif exchange is self._exchanges[0]:
            exchange.refuse(status)
        else:
            self._exchanges.remove(exchange)
            exchange.abandon()
