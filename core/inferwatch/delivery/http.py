"""A sink over HTTP/1.1: CloudEvents in binary mode, one POST each, on connections that stay open.

Written on asyncio streams alone, since it runs inside model servers: a general HTTP client costs several times the
CPU. Requests are pipelined once the server has shown that it keeps connections open. 2xx is delivered; 408, 425, 429,
5xx, time-outs and broken connections may be retried; any other status is a refusal.
"""

from __future__ import annotations

import asyncio
import math
import ssl
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

from inferwatch._version import __version__
from inferwatch.delivery.outcomes import PartialDelivery
from inferwatch.errors import ConfigError, DeliveryError, Fault
from inferwatch.events import CloudEvent
from inferwatch.wire.cloudevents import to_http

_RETRYABLE: Final = frozenset({408, 425, 429})
_NO_BODY: Final = frozenset({204, 304})
_BROKEN: Final = (OSError, EOFError, asyncio.LimitOverrunError, ValueError)
_MAX_REPLY_BYTES: Final = 1024 * 1024
_JOINED_BYTES: Final = 65_536
"""Up to here one copy costs less than the list of parts does in the transport."""


@dataclass(frozen=True, slots=True)
class _Reply:
    status: int
    keep_alive: bool
    retry_after: str | None
    length: int | None
    """Of the body; None where it comes in chunks."""


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    answered: int = 0


class HttpSink:
    """Posts events to a URL, path and query kept. As many connections as there are concurrent sends.

    `timeout_s` bounds connecting and the wait for each reply. `context`: how https is verified, by the system's roots
    unless given. Raises `ConfigError` for a URL that cannot be used.
    """

    def __init__(self, url: str, *, timeout_s: float = 5.0, context: ssl.SSLContext | None = None) -> None:
        parts = _checked(url)
        self.url = url
        self._timeout_s = timeout_s
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._head = _head(parts)
        self._idle: list[_Connection] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._context = (context or ssl.create_default_context()) if parts.scheme == "https" else None
        self._pipelining = False

    async def send(self, events: Sequence[CloudEvent], /) -> None:
        """Post the events. Raises `DeliveryError`, `PartialDelivery` where they fared differently."""
        outcomes: list[DeliveryError | None] = []
        while len(outcomes) < len(events):
            batch = events[len(outcomes) :] if self._pipelining else events[len(outcomes) : len(outcomes) + 1]
            try:
                outcomes += await self._exchange(batch)
            except DeliveryError as error:
                outcomes += [error] * (len(events) - len(outcomes))
        if any(outcomes):
            raise PartialDelivery(outcomes)

    async def aclose(self) -> None:
        """Close every idle connection."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.writer.close()

    async def _exchange(self, events: Sequence[CloudEvent]) -> list[DeliveryError | None]:
        """Return the outcomes of the first one or more events. Raises `DeliveryError` when there was no reply."""
        connection = self._reused()
        if connection is not None:
            outcomes = await self._post(connection, events)
            if isinstance(outcomes, list):
                return outcomes
            if isinstance(outcomes, TimeoutError):
                raise self._silence(outcomes)
        # Else the server had closed the idle connection, which is no failure.
        outcomes = await self._post(await self._connected(), events)
        if isinstance(outcomes, list):
            return outcomes
        raise self._silence(outcomes)

    def _silence(self, cause: Exception) -> DeliveryError:
        return DeliveryError(f"no reply from {self.url}: {cause!r}", retryable=True)

    def _reused(self) -> _Connection | None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # connections of another loop cannot be used
            self._loop, self._idle = loop, []
        while self._idle:
            connection = self._idle.pop()
            if not connection.reader.at_eof() and not connection.writer.is_closing():
                return connection
            connection.writer.close()
        return None

    async def _connected(self) -> _Connection:
        try:
            async with asyncio.timeout(self._timeout_s):
                streams = await asyncio.open_connection(self._host, self._port, ssl=self._context)
        except OSError as error:
            raise DeliveryError(f"cannot connect to {self.url}: {error!r}", retryable=True) from error
        return _Connection(*streams)

    async def _post(
        self, connection: _Connection, events: Sequence[CloudEvent]
    ) -> list[DeliveryError | None] | Exception:
        """Return the outcomes of the events that were answered, or what kept the first from being answered."""
        outcomes: list[DeliveryError | None] = []
        keep_alive = False
        loop = asyncio.get_running_loop()
        last = loop.time()
        try:
            async with asyncio.timeout(self._timeout_s) as patience:
                parts = [part for event in events for part in self._request(event)]
                if sum(map(len, parts)) > _JOINED_BYTES:
                    connection.writer.writelines(parts)
                else:
                    connection.writer.write(b"".join(parts))
                for _ in events:
                    reply = await _read_reply(connection.reader)
                    outcomes.append(_outcome(reply, self.url))
                    keep_alive = self._pipelining = reply.keep_alive
                    if not keep_alive:
                        break
                    if loop.time() > last + 0.1 * self._timeout_s:
                        last = loop.time()
                        patience.reschedule(last + self._timeout_s)
        except _BROKEN as error:
            keep_alive = False
            if not outcomes:
                return error
        finally:
            if keep_alive and len(outcomes) == len(events):
                self._idle.append(connection)
            else:
                connection.writer.close()
        return outcomes

    def _request(self, event: CloudEvent) -> tuple[bytes, bytes]:
        headers, body = to_http(event)
        lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
        return f"{self._head}content-length: {len(body)}\r\n{lines}\r\n".encode("ascii"), body


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError([Fault("sink", f"{url!r} is no URL of a sink; allowed is http://host[:port][/path]")])
    if "@" in parts.netloc:
        raise ConfigError([Fault("sink", "credentials in the URL are not supported")])
    return parts


def _head(parts: SplitResult) -> str:
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if parts.query:
        target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    host = parts.netloc.encode("idna").decode() if not parts.netloc.isascii() else parts.netloc
    return f"POST {target} HTTP/1.1\r\nhost: {host}\r\nuser-agent: inferwatch/{__version__}\r\n"


async def _read_reply(reader: asyncio.StreamReader) -> _Reply:
    while True:
        reply = _parsed(await reader.readuntil(b"\r\n\r\n"))
        if reply.status >= 200:
            break
    if reply.length is None:
        whole = await _skip_chunks(reader)
        return reply if whole else replace(reply, keep_alive=False)
    if reply.length:
        await reader.readexactly(reply.length)
    return reply


@lru_cache(maxsize=128)  # a server repeats itself until its date changes
def _parsed(head: bytes) -> _Reply:
    first, *lines = head.decode("latin-1").split("\r\n")
    version, code = first.split(" ", 2)[:2]
    if not version.startswith("HTTP/1."):
        raise ValueError(f"not an HTTP/1 reply: {first[:64]!r}")
    status = int(code)
    parted = (line.partition(":") for line in lines)
    fields = {name.strip().lower(): value.strip() for name, colon, value in parted if colon}
    wish = fields.get("connection", "").lower()
    keep_alive = "close" not in wish if version == "HTTP/1.1" else "keep-alive" in wish
    length: int | None = None
    if status in _NO_BODY:
        length = 0
    elif fields.get("transfer-encoding", "").lower() != "chunked":
        length = int(fields.get("content-length", -1))
        if not 0 <= length <= _MAX_REPLY_BYTES:  # its end is not known, or not worth reading up to
            length, keep_alive = 0, False
    return _Reply(status, keep_alive, fields.get("retry-after"), length)


async def _skip_chunks(reader: asyncio.StreamReader) -> bool:
    total = 0
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        total += size
        if total > _MAX_REPLY_BYTES:
            return False
        await reader.readexactly(size + 2)
    while await reader.readuntil(b"\r\n") != b"\r\n":
        pass
    return True


def _outcome(reply: _Reply, url: str) -> DeliveryError | None:
    if 200 <= reply.status < 300:
        return None
    retryable = reply.status in _RETRYABLE or reply.status >= 500
    return DeliveryError(
        f"{url} answered {reply.status}",
        retryable=retryable,
        retry_after_s=_seconds(reply.retry_after) if retryable else None,
    )


def _seconds(retry_after: str | None) -> float | None:
    if retry_after is None:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = (parsedate_to_datetime(retry_after) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None
