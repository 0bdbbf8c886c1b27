"""A real HTTP/1.1 server on asyncio streams that answers what a test tells it to."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from inferwatch.events import CloudEvent
from inferwatch.wire.cloudevents import BATCH_TYPE, from_http
from tests.loopback import Loopback, loopback_server

TAKES_BATCHES = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nAccept-Post: application/cloudevents-batch+json\r\n\r\n"
OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 {status} Status\r\ncontent-length: {len(body)}\r\n{lines}\r\n".encode() + body


@dataclass
class ScriptedSink:
    """`reply` gives the bytes for each event, and `batch_reply` for each batch: None closes the connection unanswered,
    b"" never answers. `sizes`: how many events each request carried."""

    reply: Callable[[CloudEvent], bytes | None]
    batch_reply: Callable[[list[CloudEvent]], bytes | None] = lambda _: TAKES_BATCHES
    tls: ssl.SSLContext | None = None
    at: Loopback = field(default_factory=Loopback)
    sizes: list[int] = field(default_factory=list)
    targets: list[str] = field(default_factory=list)
    events: list[CloudEvent] = field(default_factory=list)
    connections: int = 0

    @property
    def port(self) -> int:
        return self.at.port

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}/logs?x=1"

    @property
    def ids(self) -> list[str]:
        return [event.id for event in self.events]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while await self._exchange(reader, writer):
            pass

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.rstrip(b"\r\n").split(b"\r\n")
        headers = [(name.lower(), value.strip()) for name, value in (line.split(b":", 1) for line in lines)]
        body = await reader.readexactly(int(dict(headers)[b"content-length"]))
        events = [event for event in from_http(headers, body) if isinstance(event, CloudEvent)]
        self.targets.append(first.decode())
        self.sizes.append(len(events))
        self.events += events
        batch = (b"content-type", BATCH_TYPE.encode()) in headers
        reply = self.batch_reply(events) if batch else self.reply(*events)
        if reply is None:
            return False
        writer.write(reply)
        lower = reply.lower()
        return b"connection: close" not in lower and b"http/1.0" not in lower


@asynccontextmanager
async def scripted_sink(
    reply: Callable[[CloudEvent], bytes | None] = lambda _: OK,
    batch_reply: Callable[[list[CloudEvent]], bytes | None] = lambda _: TAKES_BATCHES,
    tls: ssl.SSLContext | None = None,
    port: int = 0,
) -> AsyncIterator[ScriptedSink]:
    """Serve at a port of the loopback, by default at one that is free."""
    sink = ScriptedSink(reply, batch_reply, tls)
    async with loopback_server(sink.serve, port, tls=tls) as sink.at:
        yield sink
