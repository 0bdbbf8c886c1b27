"""The sidecar as a service: the relay, delivery and the admin port, from start to SIGTERM."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Final

import uvicorn

from inferwatch.delivery.delivery import Delivery
from inferwatch_logger.capture import Capture
from inferwatch_logger.proxy.admin import Admin
from inferwatch_logger.proxy.pool import Pool
from inferwatch_logger.proxy.relay import Relay
from inferwatch_logger.recorder import Recorder

DRAIN_S: Final = 6.0
"""Seconds that requests under way have after SIGTERM."""

FLUSH_S: Final = 2.5
"""Seconds that undelivered events then have; what is left stays in the queue file, if there is one."""

_REDACTION_S: Final = 0.5
"""Seconds that bodies have that are being redacted."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What is relayed to whom, and what is captured."""

    pool: Pool
    capture: Capture
    delivery: Delivery
    ready: Callable[[], Awaitable[bool]]

    async def serve(self, listener: socket.socket, admin_listener: socket.socket | None) -> None:
        """Serve until SIGTERM or SIGINT; finish the requests under way and deliver what is there, within 10 s."""
        ended = _end_signal()
        self.delivery.start()
        relay = Relay(self.pool, Recorder(self.capture, self.delivery.emit), self.ready)
        await relay.listen(listener)
        async with self._administered(relay, admin_listener):
            await ended.wait()
            await relay.drain(DRAIN_S)
            await relay.recorder.aclose(_REDACTION_S)
            await self.delivery.aclose(FLUSH_S)
            account = self.delivery.account()
            logger.log(logging.WARNING if account.dropped else logging.INFO, "the sidecar ends: %s", account)

    @asynccontextmanager
    async def _administered(self, relay: Relay, listener: socket.socket | None) -> AsyncIterator[None]:
        if listener is None:
            yield
            return
        server = self._admin(relay)
        task = asyncio.create_task(server.serve(sockets=[listener]))
        try:
            yield
        finally:
            server.should_exit = True
            await task

    def _admin(self, relay: Relay) -> uvicorn.Server:
        config = uvicorn.Config(
            Admin(relay, self.delivery, self.ready),
            http="httptools",
            lifespan="off",
            log_config=None,
            log_level=logging.WARNING,
            access_log=False,
            timeout_graceful_shutdown=1,
        )
        return _AdminServer(config)


class _AdminServer(uvicorn.Server):
    """Leaves the signals to the sidecar."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def _end_signal() -> asyncio.Event:
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ended.set)
    return ended
