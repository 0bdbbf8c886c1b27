"""The connections to the upstream that wait for the next request."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from time import monotonic
from typing import Final, Literal, TypeVar

from inferwatch.delivery.tls import Tls, Trust
from inferwatch_logger.proxy.exchange import Exchange
from inferwatch_logger.proxy.upstream import Upstream

_IDLE_S: Final = 4.0
"""How long a connection waits: less than model servers do (uvicorn 5 s), so that none closes it under a request."""

Spoken = Literal["http/1.1", "h2"]
"""What is to be spoken on a connection, by its name in TLS (ALPN)."""

_ProtocolT = TypeVar("_ProtocolT", bound=asyncio.BaseProtocol)


class Pool:
    """Opens as many connections as there are exchanges at once, and uses the last one that was used again.

    `tls`: how an upstream over https is verified; None speaks plainly. Raises `ConfigError` where it cannot be used.
    """

    def __init__(self, host: str, port: int, *, tls: Tls | None = None, connect_timeout_s: float = 10.0) -> None:
        self.host = host
        self.port = port
        self.failures = 0
        """Connections to the upstream that could not be made."""
        self.address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        self._connect_timeout_s = connect_timeout_s
        self._trust: dict[Spoken, Trust] = {} if tls is None else {"http/1.1": Trust(tls), "h2": Trust(tls)}
        self._idle: list[Upstream] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._sweep: asyncio.TimerHandle | None = None

    def serve(self, exchange: Exchange) -> None:
        """Give the exchange a connection, at once or as soon as there is one."""
        while self._idle:
            upstream = self._idle.pop()
            if upstream.is_quiet():
                upstream.serve(exchange)
                return
            upstream.drop()
        task = asyncio.get_running_loop().create_task(self._connect(exchange))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def release(self, upstream: Upstream) -> None:
        """Keep the connection for the next exchange."""
        upstream.idle_since_s = monotonic()
        self._idle.append(upstream)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(_IDLE_S / 4, self._close_stale)

    def lost(self, upstream: Upstream) -> None:
        """Forget a connection that has ended."""
        if upstream in self._idle:
            self._idle.remove(upstream)

    def close(self) -> None:
        """Close what waits."""
        idle, self._idle = self._idle, []
        for upstream in idle:
            upstream.drop()
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None

    def _close_stale(self) -> None:
        loop, now_s = asyncio.get_running_loop(), monotonic()
        stale = [upstream for upstream in self._idle if now_s - upstream.idle_since_s >= _IDLE_S * 3 / 4]
        self._idle = [upstream for upstream in self._idle if upstream not in stale]
        for upstream in stale:
            upstream.drop()
        self._sweep = loop.call_later(_IDLE_S / 4, self._close_stale) if self._idle else None

    async def open(self, factory: Callable[[], _ProtocolT], spoken: Spoken = "http/1.1") -> _ProtocolT:
        """Return a new connection's protocol. Raises `OSError` where the upstream cannot be reached, or in time."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(self._connect_timeout_s):
                _, protocol = await loop.create_connection(factory, self.host, self.port, ssl=self._context(spoken))
        except OSError as error:
            self.failures += 1
            why = str(error) or f"no connection within {self._connect_timeout_s:g} s"
            raise ConnectionError(f"the upstream {self.address} cannot be reached: {why}") from error
        return protocol

    def _context(self, spoken: Spoken) -> ssl.SSLContext | None:
        trust = self._trust.get(spoken)
        if trust is None:
            return None
        context = trust.context()
        context.set_alpn_protocols([spoken])
        return context

    async def _connect(self, exchange: Exchange) -> None:
        try:
            upstream = await self.open(lambda: Upstream(self.release, self.lost))
        except ConnectionError as error:
            exchange.fail(str(error))
            return
        if exchange.answered:  # the client has left meanwhile
            self.release(upstream)
        else:
            upstream.serve(exchange)
            exchange.client.attached(exchange)
