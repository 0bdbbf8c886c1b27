"""Cuts a stream of rows into windows: of so many rows, of so much event time, or of whichever comes first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import orjson
from numpy.typing import NDArray

from inferwatch.errors import InvalidRows
from inferwatch.rows import Batch, Matrix

Marks = NDArray[np.int64]
"""The watermark (n,) at each of n rows: ascending, and never behind what it was at the rows before."""

_NEVER = -(2**63)
_ALWAYS = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Extent:
    """How much a window holds: `rows` rows, `span_ns` of event time, or with both whichever comes first.

    Windows overlap where a slide is given: the next one begins `slide_rows`, or `slide_ns`, behind the beginning of the
    last, and at most behind its end. With both limits windows slide by rows, and one that time closed is followed by a
    new one.
    """

    rows: int | None = None
    span_ns: int | None = None
    slide_rows: int | None = None
    slide_ns: int | None = None


class LiveWindow:
    """Holds the rows of the window that is open. Rows enter in the order in which they are given, that of the log.

    A window of rows is full with its last row. A window of time begins with the earliest of its rows and is over when
    the watermark has come `span_ns` past that; it holds the rows before its end, however many they are. A row before
    the end of a window that time closed, or `span_ns` behind the watermark, is late: it is counted in `late` and enters
    no window. A window without any row that is new is not judged.

    A window's `since_ns` is the latest time of the windows before; of the first window, that of the row it begins with.
    """

    def __init__(self, extent: Extent) -> None:
        self.extent = extent
        self._parts: list[Batch] = []
        self._held = 0
        self._again = 0
        self._end_ns: int | None = None
        self._closed_ns = _NEVER
        self._since_ns: int | None = None
        self.late = 0

    @property
    def needs_rows(self) -> int | None:
        """Rows that are missing until the window is full; None where only time closes it."""
        return None if self.extent.rows is None else self.extent.rows - self._held

    def add(self, batch: Batch, marks: Marks) -> list[Batch]:
        """Return every window that rows and watermark complete. An event's rows may be split between two windows."""
        windows: list[Batch] = []
        place = 0
        while place < len(batch):
            windows += self.until(int(marks[place]))
            place = self._take(batch, marks, place)
            if self._held == self.extent.rows:
                windows += self._full()
        return windows

    def until(self, mark_ns: int) -> list[Batch]:
        """Return the windows that are over now that the watermark stands there."""
        windows: list[Batch] = []
        while self._end_ns is not None and mark_ns >= self._end_ns:
            windows += self._over(self._end_ns)
        return windows

    def _take(self, batch: Batch, marks: Marks, place: int) -> int:
        """Take rows from `place` on, until the window is full or over, and return where the next one stands."""
        needs = len(batch) if self.needs_rows is None else self.needs_rows
        span_ns = self.extent.span_ns
        if span_ns is None:
            stop = min(len(batch), place + needs)
            self._hold(batch.slice(place, stop))
            return stop
        in_time = (batch.times_ns[place:] >= self._closed_ns) & (batch.times_ns[place:] > marks[place:] - span_ns)
        ends = self._ends(batch.times_ns[place:], in_time, span_ns)
        over = marks[place + 1 :] >= ends[:-1]
        stop = place + 1 + int(np.argmax(over)) if over.any() else len(batch)
        places = place + np.flatnonzero(in_time[: stop - place])
        if len(places) >= needs:
            places = places[:needs]
            stop = int(places[-1]) + 1
        if len(places):
            self._end_ns = int(ends[stop - 1 - place])
        self.late += stop - place - len(places)
        self._hold(batch.pick(places))
        return stop

    def _ends(self, times_ns: NDArray[np.int64], in_time: NDArray[np.bool_], span_ns: int) -> NDArray[np.int64]:
        """Return when the open window ends, as is known with each row: so long after its earliest row."""
        known = _ALWAYS if self._end_ns is None else self._end_ns
        return np.minimum.accumulate(np.minimum(known, np.where(in_time, times_ns + span_ns, _ALWAYS)))

    def _hold(self, rows: Batch) -> None:
        if len(rows):
            self._parts.append(rows)
            self._held += len(rows)

    def _full(self) -> list[Batch]:
        rows = Batch.concat(self._parts)
        closed = self._closed(rows, self._again)
        kept = len(rows) - (self.extent.slide_rows or len(rows))
        self._keep(rows.slice(len(rows) - kept, len(rows)), kept)
        if self.extent.span_ns is not None:
            self._end_ns = int(self._parts[0].times_ns.min()) + self.extent.span_ns if kept else None
        return closed

    def _over(self, end_ns: int) -> list[Batch]:
        """Close the window that ends there, and open the next one where rows of it are held."""
        span_ns = self.extent.span_ns or 0
        next_ns = end_ns - span_ns + (self.extent.slide_ns or span_ns)
        rows = Batch.concat(self._parts)
        inside = rows.times_ns < end_ns
        closed = self._closed(rows.pick(np.flatnonzero(inside)), self._again) if inside.any() else []
        kept = rows.times_ns >= next_ns
        self._keep(rows.pick(np.flatnonzero(kept)), int((kept & inside).sum()))
        self._closed_ns = next_ns
        self._end_ns = None
        if self._held:
            overlaps = self.extent.slide_ns is not None and self._again
            self._end_ns = (next_ns if overlaps else int(self._parts[0].times_ns.min())) + span_ns
        return closed

    def _keep(self, rows: Batch, again: int) -> None:
        self._parts, self._held, self._again = ([rows] if len(rows) else []), len(rows), again

    def _closed(self, rows: Batch, again: int) -> list[Batch]:
        if again == len(rows):
            return []
        since_ns = self._since_ns if self._since_ns is not None else int(rows.times_ns[0])
        self._since_ns = max(since_ns, int(rows.times_ns.max()))
        return [replace(rows, since_ns=since_ns, again=again)]

    def dump(self) -> bytes:
        """Return the rows held and what is known of the windows before."""
        held = Batch.concat(self._parts) if self._parts else None
        about: dict[str, Any] = {
            "again": self._again,
            "end_ns": self._end_ns,
            "closed_ns": self._closed_ns,
            "since_ns": self._since_ns,
            "late": self.late,
            "shape": (0, 0) if held is None else held.values.shape,
            "payload_ids": [] if held is None else held.payload_ids.tolist(),
            "keys": [] if held is None else held.keys.tolist(),
        }
        head = orjson.dumps(about)
        arrays: Sequence[NDArray[Any]] = () if held is None else (held.values, held.times_ns, held.index)
        return b"".join([len(head).to_bytes(8, "little"), head, *(array.tobytes() for array in arrays)])

    def load(self, data: bytes, width: int) -> None:
        """Continue with the rows of a dump. Raises `InvalidRows` where they have another width than the reference."""
        start = 8 + int.from_bytes(data[:8], "little")
        about = orjson.loads(data[8:start])
        count, columns = about["shape"]
        if count and (columns != width or count >= (self.extent.rows or count + 1)):
            wanted = f"below {self.extent.rows}" if self.extent.rows else "any number"
            raise InvalidRows(f"the kept window holds {count} rows of {columns} columns, wanted: {wanted} of {width}")
        self._again, self._end_ns, self._closed_ns = about["again"], about["end_ns"], about["closed_ns"]
        self._since_ns, self.late = about["since_ns"], about["late"]
        self._parts, self._held = [], count
        if count:
            values: Matrix = np.frombuffer(data, np.float64, count * columns, start).reshape(count, columns)
            times = np.frombuffer(data, np.int64, count, start + values.nbytes)
            index = np.frombuffer(data, np.int32, count, start + values.nbytes + times.nbytes)
            ids, keys = (_texts(about[name]) for name in ("payload_ids", "keys"))
            self._parts = [Batch(values, times, ids, keys, index, since_ns=int(times[0]))]


def _texts(values: Sequence[str]) -> NDArray[np.object_]:
    return np.array(values, dtype=object)
