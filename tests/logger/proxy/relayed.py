"""A relay between a raw client and a raw upstream, all on sockets of the loopback, in one event loop."""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from inferwatch.delivery.tls import Tls
from inferwatch.events import CloudEvent
from inferwatch_logger.capture import Capture
from inferwatch_logger.proxy import Relay
from inferwatch_logger.proxy.pool import Pool
from inferwatch_logger.recorder import Recorder
from tests.loopback import loopback_server

Reader = asyncio.StreamReader
Writer = asyncio.StreamWriter
DEAD_PORT = 9
"""Where nobody listens, nor another test may."""
Handler = Callable[["Upstream", Reader, Writer], Awaitable[None]]


@dataclass
class Message:
    """A request as the upstream, or a response as the client, got it: the first line, header lines, and body."""

    line: bytes
    fields: list[bytes]
    body: bytes = b""
    trailers: list[bytes] = field(default_factory=list)

    @property
    def headers(self) -> dict[bytes, bytes]:
        parted = (line.partition(b":") for line in self.fields)
        return {name.lower(): value.strip() for name, _, value in parted}


async def read_head(reader: Reader) -> Message:
    line, *fields = (await reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
    return Message(line, fields)


async def read_message(reader: Reader, *, bodiless: bool = False, to_end: bool = False) -> Message:
    """Read one message by the rules of HTTP/1.1, strictly."""
    message = await read_head(reader)
    if bodiless:
        return message
    if message.headers.get(b"transfer-encoding", b"").lower().endswith(b"chunked"):
        while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
            message.body += await reader.readexactly(size)
            assert await reader.readexactly(2) == b"\r\n"
        while (line := (await reader.readuntil(b"\r\n"))[:-2]) != b"":
            message.trailers.append(line)
    elif b"content-length" in message.headers:
        message.body = await reader.readexactly(int(message.headers[b"content-length"]))
    elif to_end:
        message.body = await reader.read()
    return message


@dataclass
class Upstream:
    """A server that does what the test's handler says, once a connection."""

    handler: Handler
    port: int = 0
    requests: list[Message] = field(default_factory=list)
    connections: int = 0
    asked: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: Reader, writer: Writer) -> None:
        self.connections += 1
        await self.handler(self, reader, writer)

    async def take(self, reader: Reader) -> Message:
        message = await read_message(reader)
        self.requests.append(message)
        self.asked.set()
        return message


def answering(*parts: bytes) -> Handler:
    """Answer every request with these bytes, each part written on its own."""

    async def handler(upstream: Upstream, reader: Reader, writer: Writer) -> None:
        while True:
            await upstream.take(reader)
            for part in parts:
                writer.write(part)
                await writer.drain()

    return handler


@dataclass
class Relayed:
    upstream: Upstream
    relay: Relay
    port: int
    events: list[CloudEvent]
    writers: list[Writer] = field(default_factory=list)

    async def connect(self) -> tuple[Reader, Writer]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2**24)
        self.writers.append(writer)
        return reader, writer

    async def ask(self, *parts: bytes, bodiless: bool = False, to_end: bool = False) -> Message:
        """Send the parts over a connection of their own and return the response."""
        reader, writer = await self.connect()
        try:
            for part in parts:
                writer.write(part)
                await writer.drain()
            return await read_message(reader, bodiless=bodiless, to_end=to_end)
        finally:
            writer.close()

    async def settled(self) -> list[CloudEvent]:
        """Close every client's connection; return the events of all that was asked, once the relay has seen it."""
        for writer in self.writers:
            writer.close()
        await self.relay.all_left()
        await self.relay.recorder.aclose(5)
        return self.events


async def always_ready() -> bool:
    return True


@asynccontextmanager
async def relayed(
    handler: Handler,
    *,
    emit: Callable[[CloudEvent], None] | None = None,
    port: int | None = None,
    certificate: ssl.SSLContext | None = None,
    tls: Tls | None = None,
    **options: Any,
) -> AsyncIterator[Relayed]:
    """Run an upstream and a relay in front of it. `port` names another upstream: `DEAD_PORT` is one that is not there.

    With a `certificate` the upstream speaks TLS, which the relay verifies by `tls`.
    """
    upstream = Upstream(handler)
    events: list[CloudEvent] = []
    capture = Capture.of(**({"name": "income", "namespace": "prod"} | options))
    async with loopback_server(upstream.serve, tls=certificate) as at:
        upstream.port = at.port
        relay = Relay(
            Pool("127.0.0.1", port or upstream.port, tls=tls),
            Recorder(capture, emit or events.append),
            always_ready,
        )
        listener = socket.create_server(("127.0.0.1", 0))
        await relay.listen(listener)
        it = Relayed(upstream, relay, listener.getsockname()[1], events)
        try:
            yield it
        finally:
            for writer in it.writers:
                writer.transport.abort()
            await relay.drain(0.0)


def run(test: Callable[[], Awaitable[None]], *, loop: str = "uvloop") -> None:
    """Run a test's coroutine with the loop that serves, bounded in time."""
    import uvloop

    async def bounded() -> None:
        await asyncio.wait_for(test(), 120)

    factory = uvloop.new_event_loop if loop == "uvloop" else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(bounded())
