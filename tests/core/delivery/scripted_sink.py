"""A real HTTP/1.1 server on asyncio streams that answers what a test tells it to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from inferwatch.events import CloudEvent
from inferwatch.wire.cloudevents import from_http

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"


def answer(status: int, *headers: str, body: bytes = b"") -> bytes:
    lines = "".join(f"{header}\r\n" for header in headers)
    return f"HTTP/1.1 {status} Status\r\ncontent-length: {len(body)}\r\n{lines}\r\n".encode() + body


@dataclass
class ScriptedSink:
    """`reply` gives the bytes for each request: None closes the connection unanswered, b"" never answers."""

    reply: Callable[[CloudEvent], bytes | None]
    port: int = 0
    targets: list[str] = field(default_factory=list)
    events: list[CloudEvent] = field(default_factory=list)
    connections: int = 0
    _writers: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/logs?x=1"

    @property
    def ids(self) -> list[str]:
        return [event.id for event in self.events]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._writers.add(writer)
        try:
            while await self._exchange(reader, writer):
                pass
        except (EOFError, OSError):
            pass
        finally:
            self._writers.discard(writer)
            writer.close()

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        first, *lines = head.rstrip(b"\r\n").split(b"\r\n")
        headers = [(name.lower(), value.strip()) for name, value in (line.split(b":", 1) for line in lines)]
        body = await reader.readexactly(int(dict(headers)[b"content-length"]))
        (event,) = from_http(headers, body)
        assert isinstance(event, CloudEvent)
        self.targets.append(first.decode())
        self.events.append(event)
        reply = self.reply(event)
        if reply is None:
            return False
        writer.write(reply)
        lower = reply.lower()
        return b"connection: close" not in lower and b"http/1.0" not in lower

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def scripted_sink(reply: Callable[[CloudEvent], bytes | None] = lambda _: OK) -> AsyncIterator[ScriptedSink]:
    """Serve on a free port of the loopback."""
    sink = ScriptedSink(reply)
    server = await asyncio.start_server(sink.serve, "127.0.0.1", 0)
    sink.port = server.sockets[0].getsockname()[1]
    try:
        yield sink
    finally:
        server.close()
        sink.hang_up()
        await server.wait_closed()
