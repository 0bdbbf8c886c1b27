"""The queue between capture and delivery: first in, first out, bounded in bytes, something dropped when it is full."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Sequence
from typing import Final, Literal, NamedTuple, Protocol

from inferwatch.delivery.account import Account
from inferwatch.events import CloudEvent

WhenFull = Literal["drop_oldest", "drop_newest"]
"""What a full queue lets go of: what has waited longest, or what comes."""

EVENT_OVERHEAD_BYTES: Final = 2048
"""What an event costs in memory beside its body: the object, its attributes, its place in the queue."""


class Queued(NamedTuple):
    """An event in a queue: what it counts in the bound, since when it waits (Unix seconds), where it lies."""

    event: CloudEvent
    size_bytes: int
    since_s: float
    place: int = 0


class Queue(Protocol):
    """Holds one sink's events until they are settled, and accounts for every one that it was given."""

    @property
    def waiting_bytes(self) -> int:
        """About how many bytes the events take that wait."""
        ...

    def put(self, event: CloudEvent, now_s: float, /) -> None:
        """Append an event. Where it does not fit, older ones are dropped, or it is itself, as it is when too large."""
        ...

    def take(self, limit: int, limit_bytes: int, /) -> list[Queued]:
        """Return the oldest events that wait, up to `limit` and `limit_bytes`, but one at least if there is any."""
        ...

    def restore(self, items: Sequence[Queued], /) -> None:
        """Put taken events back in front; those that later events left no room for are dropped."""
        ...

    def settle(self, items: Sequence[Queued], reason: str | None = None, /) -> None:
        """Forget taken events: they were delivered, or dropped for a reason."""
        ...

    def account(self) -> Account:
        """Return where every event is."""
        ...

    def close(self) -> None:
        """Take no more. What waits stays for the next process where the queue outlives this one, else is dropped."""
        ...

    def __len__(self) -> int:
        """Return how many events wait; taken ones are not among them."""
        ...


class MemoryQueue:
    """A `Queue` in memory, lost with the process. What is taken still counts in the bound."""

    def __init__(self, max_bytes: int, when_full: WhenFull = "drop_oldest") -> None:
        self.max_bytes = max_bytes
        self._keeps_oldest = when_full == "drop_newest"
        self.used_bytes = 0
        self._items: deque[Queued] = deque()
        self._taken = 0
        self._taken_bytes = 0
        self._delivered = 0
        self._dropped: Counter[str] = Counter()
        self._closed = False

    def __len__(self) -> int:
        return len(self._items)

    @property
    def waiting_bytes(self) -> int:
        """How many bytes the events take that wait."""
        return self.used_bytes - self._taken_bytes

    def put(self, event: CloudEvent, now_s: float, /) -> None:
        """Append an event. Where it does not fit, older ones are dropped, or it is itself, as it is when too large."""
        item = Queued(event, len(event.data) + EVENT_OVERHEAD_BYTES, now_s)
        if self._closed:
            self._dropped["shutdown"] += 1
        elif item.size_bytes > self.max_bytes - (self.used_bytes if self._keeps_oldest else 0):
            self._dropped["queue_full"] += 1
        else:
            self._items.append(item)
            self.used_bytes += item.size_bytes
            self._shrink()

    def take(self, limit: int, limit_bytes: int, /) -> list[Queued]:
        """Return the oldest events that wait, up to `limit` and `limit_bytes`, but one at least if there is any."""
        items: list[Queued] = []
        room = limit_bytes
        while self._items and len(items) < limit and (not items or self._items[0].size_bytes <= room):
            items.append(self._items.popleft())
            room -= items[-1].size_bytes
        self._taken += len(items)
        self._taken_bytes += limit_bytes - room
        return items

    def restore(self, items: Sequence[Queued], /) -> None:
        """Put taken events back in front; those that later events left no room for are dropped."""
        self._give_up(items)
        self._items.extendleft(reversed(items))
        self._shrink()

    def settle(self, items: Sequence[Queued], reason: str | None = None, /) -> None:
        """Forget taken events: they were delivered, or dropped for a reason."""
        self.used_bytes -= self._give_up(items)
        if reason is None:
            self._delivered += len(items)
        else:
            self._dropped[reason] += len(items)

    def account(self) -> Account:
        """Return where every event is."""
        return Account.of(self._delivered, len(self._items), self._taken, self._dropped)

    def close(self) -> None:
        """Take no more, and drop what waits."""
        self._closed = True
        self._dropped["shutdown"] += len(self._items)
        self.used_bytes -= sum(item.size_bytes for item in self._items)
        self._items.clear()

    def _give_up(self, items: Sequence[Queued]) -> int:
        """Count taken events as taken no more; return their bytes."""
        size_bytes = sum(item.size_bytes for item in items)
        self._taken -= len(items)
        self._taken_bytes -= size_bytes
        return size_bytes

    def _shrink(self) -> None:
        while self.used_bytes > self.max_bytes and self._items:
            self.used_bytes -= self._items.popleft().size_bytes
            self._dropped["queue_full"] += 1
