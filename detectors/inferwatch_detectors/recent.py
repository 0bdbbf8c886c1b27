"""The newest rows of an endpoint, which another endpoint's windows are compared with."""

from __future__ import annotations

from collections import deque

import numpy as np
from numpy.typing import NDArray

from inferwatch.reference import Reference
from inferwatch.rows import Batch, Matrix, Schema

MOST_ROWS = 5_000
_CHUNK = 500


class Recent:
    """Keeps the newest 5,000 rows, encoded, with their times; those of a restart come back in the same order."""

    def __init__(self) -> None:
        self._values: deque[Matrix] = deque()
        self._times: deque[NDArray[np.int64]] = deque()
        self._first = 0
        self._oldest_saved = 0
        self._saved = 0

    def add(self, batch: Batch) -> None:
        """Take rows, in chunks, so that a dump writes only the newest one."""
        start = 0
        while start < len(batch):
            if not self._values or len(self._values[-1]) == _CHUNK:
                self._values.append(np.empty((0, batch.values.shape[1])))
                self._times.append(np.empty(0, np.int64))
            stop = start + _CHUNK - len(self._values[-1])
            self._values[-1] = np.concatenate([self._values[-1], batch.values[start:stop]])
            self._times[-1] = np.concatenate([self._times[-1], batch.times_ns[start:stop]])
            start = stop
        while len(self._values) > MOST_ROWS // _CHUNK + 1:
            self._values.popleft()
            self._times.popleft()
            self._first += 1

    def clear(self) -> None:
        """Forget the rows, as they are encoded by a reference that is no more."""
        self._first += len(self._values)
        self._values.clear()
        self._times.clear()

    def between(self, from_ns: int, to_ns: int, schema: Schema) -> Reference | str:
        """Return the rows of that time, both ends included, as a reference; or that there are too few."""
        if not self._values:
            return "it has no rows yet"
        times = np.concatenate(self._times)[-MOST_ROWS:]
        chosen = (times >= from_ns) & (times <= to_ns)
        count = int(chosen.sum())
        if count < 2:
            return f"it has {count} rows in the window's time"
        values = np.concatenate(self._values)[-MOST_ROWS:][chosen]
        return Reference.encoded(schema, values, sample_rows=MOST_ROWS, ordered=True, created_ns=to_ns)

    def dump(self) -> dict[str, bytes | None]:
        """Return the chunks that changed since the last dump; None for those that are gone."""
        last = self._first + len(self._values)
        gone: dict[str, bytes | None] = {f"recent {number}": None for number in range(self._oldest_saved, self._first)}
        changed = range(max(self._first, self._saved), last)
        self._oldest_saved, self._saved = self._first, max(self._first, last - 1)
        return gone | {
            f"recent {number}": _packed(self._values[number - self._first], self._times[number - self._first])
            for number in changed
        }

    def load(self, parts: dict[str, bytes]) -> None:
        """Continue with the chunks of dumps."""
        numbers = sorted(int(name.rpartition(" ")[2]) for name in parts)
        chunks = [_unpacked(parts[f"recent {number}"]) for number in numbers]
        self._values, self._times = deque(values for values, _ in chunks), deque(times for _, times in chunks)
        self._first = self._oldest_saved = numbers[0] if numbers else 0
        self._saved = max(self._first, self._first + len(chunks) - 1)


def _packed(values: Matrix, times: NDArray[np.int64]) -> bytes:
    return len(times).to_bytes(8, "little") + values.tobytes() + times.tobytes()


def _unpacked(data: bytes) -> tuple[Matrix, NDArray[np.int64]]:
    count = int.from_bytes(data[:8], "little")
    times = np.frombuffer(data, np.int64, count, len(data) - 8 * count)
    return np.frombuffer(data, np.float64, offset=8, count=(len(data) - 8 - 8 * count) // 8).reshape(count, -1), times
