"""A sink over HTTP/1.1: CloudEvents in binary mode, one POST each, on connections that stay open.

Written on asyncio streams alone, since it runs inside model servers: a general HTTP client costs several times the
CPU. Requests are pipelined once the server has shown that it keeps connections open. Where a server says that it takes
batches (`Accept-Post: application/cloudevents-batch+json`, as our ingest does), small events travel together, which
costs both sides a fraction. 2xx is delivered; 408, 425, 429, 5xx, time-outs and broken connections may be retried; any
other status is a refusal.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final
from urllib.parse import SplitResult, quote, urlsplit

from inferwatch._version import __version__
from inferwatch.delivery.http_reply import BROKEN, outcome_of, read_reply
from inferwatch.delivery.outcomes import PartialDelivery
from inferwatch.delivery.tls import Tls, Trust
from inferwatch.errors import ConfigError, DeliveryError, Fault
from inferwatch.events import CloudEvent
from inferwatch.wire.cloudevents import BATCH_TYPE, to_batch, to_http

_JOINED_BYTES: Final = 65_536
"""Up to here one copy costs less than the list of parts does in the transport."""
_BATCH_BYTES: Final = 1024 * 1024
_BATCHED_BYTES: Final = 16_384
"""Larger events go alone: base64 would cost more than a request of their own."""
_ATTRIBUTES_BYTES: Final = 1024
_TOO_LARGE: Final = 413


@dataclass(slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    context: ssl.SSLContext | None


_Post = Sequence[CloudEvent]
"""What one request carries: an event, or several as a batch."""


class HttpSink:
    """Posts events to a URL, path and query kept. As many connections as there are concurrent sends.

    `timeout_s` bounds connecting and the wait for each reply. `tls`: how https is verified, by the system's roots
    unless given; when one of its files changes, new connections are made. Raises `ConfigError` for a URL or files that
    cannot be used.
    """

    def __init__(self, url: str, *, timeout_s: float = 5.0, tls: Tls | None = None) -> None:
        parts = _checked(url)
        self.url = url
        self._timeout_s = timeout_s
        self._host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._head = _head(parts)
        self._idle: list[_Connection] = []
        self._loop: asyncio.AbstractEventLoop | None = None
        self._trust = Trust(tls or Tls()) if parts.scheme == "https" else None
        self._pipelining = False
        self._batching = False
        self._batch_bytes = _BATCH_BYTES

    async def send(self, events: Sequence[CloudEvent], /) -> None:
        """Post the events. Raises `DeliveryError`, `PartialDelivery` where they fared differently."""
        outcomes = await self._outcomes(events, batched=True)
        if any(outcomes):
            raise PartialDelivery(outcomes)

    async def aclose(self) -> None:
        """Close every idle connection."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.writer.close()

    async def _outcomes(self, events: Sequence[CloudEvent], *, batched: bool) -> list[DeliveryError | None]:
        outcomes: list[DeliveryError | None] = []
        while len(outcomes) < len(events):
            posts = self._posts(events[len(outcomes) :], batched=batched)
            try:
                answered = await self._exchange(posts)
            except DeliveryError as error:
                return outcomes + [error] * (len(events) - len(outcomes))
            for post, outcome in zip(posts, answered, strict=False):  # the rest is posted again
                if len(post) > 1 and outcome is not None and not outcome.retryable:  # which of them is it?
                    outcomes += await self._outcomes(post, batched=False)
                else:
                    outcomes += [outcome] * len(post)
        return outcomes

    def _posts(self, events: Sequence[CloudEvent], *, batched: bool) -> list[_Post]:
        if not self._pipelining:
            return [events[:1]]
        if not batched or not self._batching:
            return [(event,) for event in events]
        posts: list[list[CloudEvent]] = []
        room = 0
        for event in events:
            size = _size(event)
            if size > room or len(event.data) > _BATCHED_BYTES:
                posts.append([])
                room = self._batch_bytes
            posts[-1].append(event)
            room = 0 if len(event.data) > _BATCHED_BYTES else room - size
        return list(posts)

    async def _exchange(self, posts: Sequence[_Post]) -> list[DeliveryError | None]:
        """Return the outcomes of the first one or more posts. Raises `DeliveryError` when there was no reply."""
        context = self._trust.context() if self._trust is not None else None
        connection = self._reused(context)
        if connection is not None:
            outcomes = await self._post(connection, posts)
            if isinstance(outcomes, list):
                return outcomes
            if isinstance(outcomes, TimeoutError):
                raise self._silence(outcomes)
        # Else the server had closed the idle connection, which is no failure.
        outcomes = await self._post(await self._connected(context), posts)
        if isinstance(outcomes, list):
            return outcomes
        raise self._silence(outcomes)

    def _silence(self, cause: Exception) -> DeliveryError:
        return DeliveryError(f"no reply from {self.url}: {cause!r}", retryable=True)

    def _reused(self, context: ssl.SSLContext | None) -> _Connection | None:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:  # connections of another loop cannot be used
            self._loop, self._idle = loop, []
        while self._idle:
            connection = self._idle.pop()
            closed = connection.reader.at_eof() or connection.writer.is_closing()
            if not closed and connection.context is context:
                return connection
            connection.writer.close()
        return None

    async def _connected(self, context: ssl.SSLContext | None) -> _Connection:
        try:
            async with asyncio.timeout(self._timeout_s):
                streams = await asyncio.open_connection(self._host, self._port, ssl=context)
        except OSError as error:
            raise DeliveryError(f"cannot connect to {self.url}: {error!r}", retryable=True) from error
        return _Connection(*streams, context)

    async def _post(self, connection: _Connection, posts: Sequence[_Post]) -> list[DeliveryError | None] | Exception:
        """Return the outcomes of the posts that were answered, or what kept the first from being answered."""
        outcomes: list[DeliveryError | None] = []
        keep_alive = False
        loop = asyncio.get_running_loop()
        last = loop.time()
        try:
            async with asyncio.timeout(self._timeout_s) as patience:
                parts = [part for post in posts for part in self._request(post)]
                if sum(map(len, parts)) > _JOINED_BYTES:
                    connection.writer.writelines(parts)
                else:
                    connection.writer.write(b"".join(parts))
                for post in posts:
                    reply = await read_reply(connection.reader)
                    if reply.status == _TOO_LARGE and len(post) > 1:
                        self._batch_bytes = sum(map(_size, post)) // 2
                    outcomes.append(outcome_of(reply, self.url))
                    keep_alive = self._pipelining = reply.keep_alive
                    self._batching = reply.takes_batches
                    if not keep_alive:
                        break
                    if loop.time() > last + 0.1 * self._timeout_s:
                        last = loop.time()
                        patience.reschedule(last + self._timeout_s)
        except BROKEN as error:
            keep_alive = False
            if not outcomes:
                return error
        finally:
            if keep_alive and len(outcomes) == len(posts):
                self._idle.append(connection)
            else:  # to close would wait until a peer that reads nothing has taken what is written
                connection.writer.transport.abort()
        return outcomes

    def _request(self, post: _Post) -> tuple[bytes, bytes]:
        if len(post) > 1:
            body, lines = to_batch(post), f"content-type: {BATCH_TYPE}\r\n"
        else:
            lines, body = to_http(post[0])
        return f"{self._head}content-length: {len(body)}\r\n{lines}\r\n".encode("ascii"), body


def _size(event: CloudEvent) -> int:
    return len(event.data) + _ATTRIBUTES_BYTES


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable:
        allowed = "http(s)://host[:port][/path] and kafka://host:port[,...]/topic"
        raise ConfigError([Fault("sink", f"{url!r} is no URL of a sink; allowed are {allowed}")])
    if "@" in parts.netloc:
        raise ConfigError([Fault("sink", "credentials in the URL are not supported")])
    return parts


def _head(parts: SplitResult) -> str:
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if parts.query:
        target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?")
    host = parts.netloc.encode("idna").decode() if not parts.netloc.isascii() else parts.netloc
    return f"POST {target} HTTP/1.1\r\nhost: {host}\r\nuser-agent: inferwatch/{__version__}\r\n"
