"""Servers in the test's own event loop that leave no connection behind, however the test ends."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_TURNS = 5
"""Of the loop: an accepted connection takes three to arrive, an aborted one takes two to be closed."""


@dataclass
class Loopback:
    """Where it serves, and what it does for each that has connected."""

    port: int = 0
    _talks: dict[asyncio.StreamWriter, asyncio.Task[None]] = field(default_factory=dict)

    def hang_up(self) -> None:
        """Close every connection, as a server does that is idle for too long."""
        for writer in self._talks:
            writer.close()


@asynccontextmanager
async def loopback_server(
    handler: Handler, port: int = 0, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Loopback]:
    """Call the handler for each connection; at the end, hang up on everybody, as a process that dies does.

    The handler need not close its connection, nor mind that the client has gone. What else it raises is raised at the
    end. A server of asyncio that is merely closed loses a connection that is just being accepted, and a coroutine as
    its callback one that has been: the garbage collector then tells of the open socket during some later test.
    """
    it, loop = Loopback(), asyncio.get_running_loop()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        it._talks[writer] = asyncio.create_task(_talk(handler, reader, writer))

    server = await asyncio.start_server(accept, "127.0.0.1", port, limit=2**24, backlog=2048, ssl=tls)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        for listener in server.sockets:
            loop.remove_reader(listener)
        await _turns()
        server.close()
        for writer, talk in it._talks.items():
            talk.cancel()
            writer.transport.abort()
        outcomes = await asyncio.gather(*it._talks.values(), return_exceptions=True)
        await _turns()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome


async def _talk(handler: Handler, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        await handler(reader, writer)
    except (EOFError, OSError):
        pass
    finally:
        writer.close()


async def _turns() -> None:
    for _ in range(_TURNS):
        await asyncio.sleep(0)
