"""Replies of HTTP/1.1 servers, and what they say of the requests that they answer.

2xx is delivered; 408, 425, 429 and 5xx may be retried; any other status is a refusal.
"""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import lru_cache
from typing import Final

from inferwatch.errors import DeliveryError
from inferwatch.wire.cloudevents import BATCH_TYPE

BROKEN: Final = (OSError, EOFError, asyncio.LimitOverrunError, ValueError)
"""What comes instead of a reply."""

_RETRYABLE: Final = frozenset({408, 425, 429})
_NO_BODY: Final = frozenset({204, 304})
_MAX_REPLY_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """The head of a reply."""

    status: int
    keep_alive: bool
    retry_after: str | None
    length: int | None
    """Of the body; None where it comes in chunks."""
    takes_batches: bool
    """Whether the server says so, by `Accept-Post`."""


async def read_reply(reader: asyncio.StreamReader) -> Reply:
    """Read a reply to its end. Raises one of `BROKEN` where what comes is none."""
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
def _parsed(head: bytes) -> Reply:
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
    batches = BATCH_TYPE in fields.get("accept-post", "").lower()
    return Reply(status, keep_alive, fields.get("retry-after"), length, batches)


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


def outcome_of(reply: Reply, url: str) -> DeliveryError | None:
    """Return None for success, else why the request failed and whether it may be repeated."""
    if 200 <= reply.status < 300:
        return None
    retryable = reply.status in _RETRYABLE or reply.status >= 500
    return DeliveryError(
        f"{url} answered {reply.status}",
        retryable=retryable,
        retry_after_s=seconds_of(reply.retry_after) if retryable else None,
    )


def seconds_of(retry_after: str | None) -> float | None:
    """Return how long a `Retry-After` asks to wait, in seconds or until a date; None where there is none to read."""
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
