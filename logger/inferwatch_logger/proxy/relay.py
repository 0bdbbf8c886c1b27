"""The relay: listens for clients, and keeps what they have in common."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Final

from inferwatch_logger.proxy.client import Client
from inferwatch_logger.proxy.exchange import Exchange
from inferwatch_logger.proxy.pool import Pool
from inferwatch_logger.recorder import Recorder

if TYPE_CHECKING:
    from inferwatch_logger.proxy.conversation import Conversation

logger = logging.getLogger(__name__)

_TEXT: Final = b"text/plain; charset=utf-8"
_READY: Final = b"queue"
_NOT_READY: Final = b"queue not ready"


class Relay:
    """Relays HTTP/1.1 to one upstream. To be made and used on one event loop.

    `recorder` is told what passes. `ready` answers KServe's readiness probe (`K-Network-Probe: queue`), which the
    upstream never sees. `unlogged` counts connections that are relayed as bytes, by reason: `upgrade` (websockets),
    `h2c` (HTTP/2 that cannot be followed), `unparsed`.
    """

    def __init__(self, pool: Pool, recorder: Recorder, ready: Callable[[], Awaitable[bool]]) -> None:
        self.loop = asyncio.get_running_loop()
        self.pool = pool
        self.recorder = recorder
        self.guarded = recorder.guarded
        self.clients: set[Client] = set()
        self.unlogged: Counter[str] = Counter()
        self.requests = 0
        self.draining = False
        self._ready = ready
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._empty = asyncio.Event()

    async def listen(self, listener: socket.socket) -> None:
        """Take clients from now on."""
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._server = await self.loop.create_server(lambda: Client(self), sock=listener, backlog=2048)

    async def drain(self, timeout_s: float) -> None:
        """Take no more clients, finish the requests under way, for `timeout_s` at most, and close."""
        self.draining = True
        if self._server is not None:
            self._server.close()
        for client in list(self.clients):
            client.drain()
        try:
            async with asyncio.timeout(timeout_s):
                await self.all_left()
        except TimeoutError:
            for client in list(self.clients):
                client.transport.abort()
            await self.all_left()
        self.pool.close()
        self.recorder.flush()

    async def all_left(self) -> None:
        """Return once no client is connected."""
        while self.clients:
            self._empty.clear()
            await self._empty.wait()

    def left(self, client: Client) -> None:
        """Forget a client."""
        self.clients.discard(client)
        if not self.clients:
            self._empty.set()

    def followed(self) -> Conversation | None:
        """Return what tells capture of a connection of HTTP/2; None where the library that it needs is missing."""
        try:
            from inferwatch_logger.proxy.conversation import Conversation
        except ImportError:
            if not self.unlogged["h2c"]:
                logger.warning("HTTP/2, and so gRPC, is relayed uncaptured; get what is missing: inferwatch[grpc]")
            return None
        return Conversation(self)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run something beside."""
        task = self.loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def answer_probe(self, exchange: Exchange) -> None:
        """Answer KServe's readiness probe."""
        self.spawn(self._answer_probe(exchange))

    async def _answer_probe(self, exchange: Exchange) -> None:
        ready = not self.draining and await self._ready()
        if not exchange.answered:  # by a refusal of its body, or because the client has left
            exchange.reply(200 if ready else 503, _READY if ready else _NOT_READY, _TEXT)
