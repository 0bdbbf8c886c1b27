"""The queue between capture and delivery: first in, first out, bounded in bytes, the oldest dropped first."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from inferwatch.events import CloudEvent

EVENT_OVERHEAD_BYTES: Final = 2048
"""What an event costs in memory beside its body: the object, its attributes, its place in the queue."""


@dataclass(frozen=True, slots=True, eq=False)
class Queued:
    """An event that waits: what it counts in the bound, and since when (seconds of a monotonic clock)."""

    event: CloudEvent
    size_bytes: int
    since_s: float


class Queue(Protocol):
    """Holds events until they are settled. What is taken still counts in the bound."""

    def put(self, event: CloudEvent, now_s: float, /) -> int:
        """Append an event; return how many were dropped for it, itself included when it alone is too large."""
        ...

    def take(self, limit: int, limit_bytes: int, /) -> list[Queued]:
        """Remove and return the oldest events, up to `limit` and `limit_bytes`, but one at least if there is any."""
        ...

    def restore(self, items: Sequence[Queued], /) -> int:
        """Put taken events back in front; return how many events were dropped because others came meanwhile."""
        ...

    def settle(self, items: Sequence[Queued], /) -> None:
        """Forget taken events."""
        ...

    def __len__(self) -> int:
        """Return how many events wait; taken ones are not among them."""
        ...


class MemoryQueue:
    """A `Queue` in memory, lost with the process."""

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._items: deque[Queued] = deque()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._items)

    def put(self, event: CloudEvent, now_s: float, /) -> int:
        """Append an event; return how many were dropped for it, itself included when it alone is too large."""
        item = Queued(event, len(event.data) + EVENT_OVERHEAD_BYTES, now_s)
        if item.size_bytes > self.max_bytes:
            return 1
        self._items.append(item)
        self._bytes += item.size_bytes
        return self._shrink()

    def take(self, limit: int, limit_bytes: int, /) -> list[Queued]:
        """Remove and return the oldest events, up to `limit` and `limit_bytes`, but one at least if there is any."""
        items: list[Queued] = []
        room = limit_bytes
        while self._items and len(items) < limit and (not items or self._items[0].size_bytes <= room):
            items.append(self._items.popleft())
            room -= items[-1].size_bytes
        return items

    def restore(self, items: Sequence[Queued], /) -> int:
        """Put taken events back in front; return how many events were dropped because others came meanwhile."""
        self._items.extendleft(reversed(items))
        return self._shrink()

    def settle(self, items: Sequence[Queued], /) -> None:
        """Forget taken events."""
        self._bytes -= sum(item.size_bytes for item in items)

    def _shrink(self) -> int:
        dropped = 0
        while self._bytes > self.max_bytes and self._items:
            self._bytes -= self._items.popleft().size_bytes
            dropped += 1
        return dropped
