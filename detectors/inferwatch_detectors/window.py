"""Cuts a stream of rows into windows of exactly so many rows."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import numpy as np

from inferwatch.errors import InvalidRows
from inferwatch.rows import Batch, Matrix

_HEADER = struct.Struct("<IIq?7x")


class RowWindow:
    """Holds the rows of the window that is not yet full.

    A window's `since_ns` is the time of the last row of the window before; of the first window, of the row it begins
    with. Rows enter in the order they are given.
    """

    def __init__(self, rows: int) -> None:
        self.rows = rows
        self._parts: list[Batch] = []
        self._held = 0
        self._since_ns: int | None = None

    @property
    def needs_rows(self) -> int:
        """Rows that are missing until the window is full."""
        return self.rows - self._held

    def add(self, batch: Batch) -> Iterator[Batch]:
        """Yield every window that the rows complete. An event's rows may be split between two windows."""
        start = 0
        while start < len(batch):
            taken = min(self.needs_rows, len(batch) - start)
            self._parts.append(batch.slice(start, start + taken))
            self._held += taken
            start += taken
            if self._held == self.rows:
                yield self._close()

    def dump(self) -> bytes:
        """Return the rows held and the end of the window before."""
        since = (self._since_ns or 0, self._since_ns is not None)
        if not self._parts:
            return _HEADER.pack(0, 0, *since)
        held = Batch.concat(self._parts)
        width = held.values.shape[1]
        return _HEADER.pack(len(held), width, *since) + held.values.tobytes() + held.times_ns.tobytes()

    def load(self, data: bytes, width: int) -> None:
        """Continue with the rows of a dump. Raises `InvalidRows` where they have another width than the reference."""
        count, columns, since_ns, is_known = _HEADER.unpack_from(data)
        self._parts, self._held = [], 0
        self._since_ns = since_ns if is_known else None
        if count == 0:
            return
        if columns != width or count >= self.rows:
            raise InvalidRows(
                f"the kept window holds {count} rows of {columns} columns, wanted: below {self.rows} of {width}"
            )
        values: Matrix = np.frombuffer(data, np.float64, count * columns, _HEADER.size).reshape(count, columns)
        times = np.frombuffer(data, np.int64, count, _HEADER.size + values.nbytes)
        self._parts, self._held = [Batch.of(values, times_ns=times)], count

    def _close(self) -> Batch:
        rows = Batch.concat(self._parts)
        self._parts, self._held = [], 0
        since_ns = self._since_ns if self._since_ns is not None else int(rows.times_ns[0])
        self._since_ns = int(rows.times_ns[-1])
        return Batch(rows.values, rows.times_ns, rows.payload_ids, rows.keys, rows.index, since_ns)
