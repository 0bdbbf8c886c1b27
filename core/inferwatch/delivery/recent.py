"""The events that a queue file was given last, as they came: who takes them soon need not read and parse them again."""

from __future__ import annotations

from collections import OrderedDict
from typing import Final

from inferwatch.delivery.queue import EVENT_OVERHEAD_BYTES, Queued

_MOST_BYTES: Final = 2 * 1024 * 1024


class Recent:
    """Keeps the newest events by their positions, 2 MiB of them at most."""

    def __init__(self) -> None:
        self._items: OrderedDict[int, Queued] = OrderedDict()
        self._bytes = 0

    def add(self, item: Queued) -> None:
        """Keep an event, and no longer the oldest ones where there is no room for all."""
        self._items[item.place] = item
        self._bytes += item.size_bytes + EVENT_OVERHEAD_BYTES
        while self._bytes > _MOST_BYTES:
            self.drop(next(iter(self._items)))

    def get(self, position: int) -> Queued | None:
        """Return the event at a position, if it is kept."""
        return self._items.get(position)

    def drop(self, position: int) -> None:
        """Keep the event at a position no longer."""
        item = self._items.pop(position, None)
        if item is not None:
            self._bytes -= item.size_bytes + EVENT_OVERHEAD_BYTES
