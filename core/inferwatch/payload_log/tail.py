"""The newest entries of a journal in memory, so that who follows it need not read again what was just written."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence

from inferwatch.payload_log.entry import Entry

MAX_BYTES = 8 * 1024 * 1024

_ENTRY_BYTES = 1024


class Tail:
    """Entries of consecutive offsets, up to `max_bytes` of them. One reader, who lets go of what is behind it."""

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self._max_bytes = max_bytes
        self._entries: deque[Entry] = deque()
        self._size_bytes = 0
        self._lock = threading.Lock()

    def extend(self, entries: Sequence[Entry]) -> None:
        """Add entries that follow those before. The oldest go where there is no room."""
        with self._lock:
            for entry in entries:
                self._entries.append(entry)
                self._size_bytes += _size_bytes(entry)
            while self._size_bytes > self._max_bytes:
                self._drop_first()

    def clear(self) -> None:
        """Forget everything, as where what comes next does not follow."""
        with self._lock:
            self._entries.clear()
            self._size_bytes = 0

    def read(self, after: int, limit: int, max_bytes: int) -> list[Entry]:
        """Return what a `Journal` reads behind an offset; nothing where its first entry is not here."""
        entries: list[Entry] = []
        size_bytes = 0
        with self._lock:
            while self._entries and self._entries[0].offset <= after:
                self._drop_first()
            if not self._entries or self._entries[0].offset != after + 1:
                return entries
            for entry in self._entries:
                entries.append(entry)
                size_bytes += len(entry.event.data)
                if len(entries) >= limit or size_bytes >= max_bytes:
                    break
        return entries

    def _drop_first(self) -> None:
        self._size_bytes -= _size_bytes(self._entries.popleft())


def _size_bytes(entry: Entry) -> int:
    return _ENTRY_BYTES + len(entry.event.data)
