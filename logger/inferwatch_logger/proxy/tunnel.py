"""Bytes from a client to the upstream and back, whatever they mean: websockets, HTTP/2, what no parser takes.

HTTP/2 is followed beside, where what follows it is installed: see `inferwatch_logger.proxy.conversation`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, cast

from inferwatch_logger.proxy.frames import goaway
from inferwatch_logger.proxy.head import own_error

if TYPE_CHECKING:
    from inferwatch_logger.proxy.client import Client
    from inferwatch_logger.proxy.conversation import Conversation
    from inferwatch_logger.proxy.pool import Spoken
    from inferwatch_logger.proxy.relay import Relay

_MOST_WAITING_BYTES: Final = 65_536
_FAREWELL_S: Final = 0.1
"""How often a connection that is to end is looked at."""


class Tunnel(asyncio.Protocol):
    """The upstream's end of such a connection. An end of either side is passed on to the other."""

    def __init__(self, client: Client, relay: Relay, data: bytes, conversation: Conversation | None = None) -> None:
        self._client = client
        self._loop = relay.loop
        self._pool = relay.pool
        self._conversation = conversation
        self._dismissed = False
        self._transport: asyncio.Transport | None = None
        self._waiting = bytearray(data)
        self._finished = False
        self._gone = False
        self._upstream_finished = False
        relay.spawn(self._connect())
        if conversation is not None:
            conversation.asked(data)

    def send(self, data: bytes) -> None:
        """Pass on what the client sent."""
        self._pass_on(data)
        if self._conversation is not None:
            self._conversation.asked(data)

    def _pass_on(self, data: bytes) -> None:
        if self._transport is None:
            self._waiting += data
            if len(self._waiting) > _MOST_WAITING_BYTES:
                self._client.hold(True)
        else:
            self._transport.write(data)

    def finish(self) -> None:
        """Pass on that the client sends no more."""
        self._finished = True
        if self._upstream_finished:
            self._client.transport.close()
        elif self._transport is not None and not self._transport.is_closing():
            self._end_writing(self._transport)

    def _end_writing(self, transport: asyncio.Transport) -> None:
        if transport.can_write_eof():
            transport.write_eof()
        else:  # TLS, where an end is that of both directions
            transport.close()

    def abandon(self) -> None:
        """Take note that the client has left."""
        self._gone = True
        if self._transport is not None:
            self._transport.close()
        if self._conversation is not None:
            self._conversation.close()

    def drain(self) -> None:
        """Ask a client of HTTP/2 to begin no more calls, and let it go once those that it began are done."""
        conversation = self._conversation
        if conversation is None or self._gone or self._client.transport.is_closing():
            return
        if self._dismissed and not conversation.busy:
            self._client.transport.close()
            return
        if not self._dismissed and conversation.interruptible:
            self._client.transport.write(goaway())
            self._dismissed = True
        self._loop.call_later(_FAREWELL_S, self.drain)

    def hold(self, held: bool) -> None:
        """Read no more of the upstream while the client does not, or read on."""
        if self._transport is not None and not self._transport.is_closing():
            (self._transport.pause_reading if held else self._transport.resume_reading)()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send what has waited."""
        self._transport = cast("asyncio.Transport", transport)
        if self._gone:
            transport.close()
            return
        self._transport.write(bytes(self._waiting))
        self._waiting.clear()
        self._client.hold(False)
        if self._client.full:
            self.hold(True)
        if self._finished:
            self._end_writing(self._transport)

    def data_received(self, data: bytes) -> None:
        """Pass on what the upstream sent."""
        self._client.transport.write(data)
        if self._conversation is not None:
            self._conversation.answered(data)

    def eof_received(self) -> bool:
        """Pass on that the upstream sends no more; return whether the client still may."""
        self._upstream_finished = True
        if not self._finished and self._client.transport.can_write_eof():
            self._client.transport.write_eof()
        return not self._finished

    def connection_lost(self, exc: Exception | None) -> None:
        """Close the client's side too."""
        if exc is None:
            self._client.transport.close()
        else:
            self._client.break_off(reset=True)

    def pause_writing(self) -> None:
        """Read no more of the client while the upstream does not."""
        self._client.hold(True)

    def resume_writing(self) -> None:
        """Read on."""
        self._client.hold(False)

    async def _connect(self) -> None:
        spoken: Spoken = "h2" if self._waiting.startswith(b"PRI ") else "http/1.1"
        try:
            await self._pool.open(lambda: self, spoken)
        except ConnectionError as error:
            if spoken != "h2":  # whose clients would not understand
                self._client.send(own_error(502, str(error), close=True))
            self._client.break_off()
