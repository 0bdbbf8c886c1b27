"""References that follow the traffic: a uniform sample of the rows of the last days, in bounded memory.

Event time is cut into slices, of which a span of so many days has 28. Every row draws a number, and a slice keeps the
rows with the smallest ones, so that the smallest of several slices are a uniform sample of all their rows, however
unevenly the traffic came (bottom-k sampling: E. Cohen and H. Kaplan, "Summarizing data using bottom-k sketches", 2007).
The numbers follow from a row's slice and its place there, so the sample is a function of the log.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import orjson
from numpy.typing import NDArray

from inferwatch.clock import NS_PER_S, format_time
from inferwatch.reference import Reference
from inferwatch.rows import Matrix, Schema

SLICES = 28
"""Slices of a span; the reference is renewed as often while the span passes."""

BUSIEST = 7
"""A slice keeps a seventh of the reference's rows: a span of which a slice has more traffic gives a smaller sample."""

LEAST_ROWS = 1_000
"""Rows that a span needs to be a reference; with fewer the one before stays."""

_NS_PER_DAY = 86_400 * NS_PER_S


@dataclass(frozen=True, slots=True)
class Rolling:
    """The rule: the rows of so many days that are so old, and how many of them are the reference."""

    days: float
    lag_days: float
    rows: int

    @property
    def slice_ns(self) -> int:
        """The length of a slice; slices end, and references are renewed, at its multiples since 1970, UTC."""
        return round(self.days * _NS_PER_DAY / SLICES)

    def span(self, at_ns: int) -> range:
        """Return the slices that are the reference from a moment on: the newest that are whole and old enough."""
        end = (at_ns - round(self.lag_days * _NS_PER_DAY)) // self.slice_ns
        return range(end - SLICES, end)


@dataclass(slots=True)
class _Slice:
    """What is kept of `seen` rows: those, in their order, whose numbers are below `bound`."""

    values: Matrix
    numbers: Matrix
    seen: int = 0
    bound: float = 1.0
    saved: bool = False

    def add(self, place: int, values: Matrix, most: int) -> None:
        numbers = np.random.Generator(np.random.PCG64(place).advance(self.seen)).random(len(values))
        self.seen += len(values)
        chosen = numbers < self.bound
        if not chosen.any():
            return
        self.saved = False
        self.values = np.concatenate([self.values, values[chosen]])
        self.numbers = np.concatenate([self.numbers, numbers[chosen]])
        if len(self.numbers) > most:
            self.bound = float(np.partition(self.numbers, most)[most])
            kept = self.numbers < self.bound
            self.values, self.numbers = self.values[kept], self.numbers[kept]

    def dump(self) -> bytes:
        self.saved = True
        return len(self.numbers).to_bytes(8, "little") + self.numbers.tobytes() + self.values.tobytes()

    @classmethod
    def load(cls, data: bytes, seen: int, bound: float) -> _Slice:
        count = int.from_bytes(data[:8], "little")
        numbers: Matrix = np.frombuffer(data, np.float64, count, 8)
        values: Matrix = np.frombuffer(data, np.float64, offset=8 + numbers.nbytes).reshape(count, -1)
        return cls(values, numbers, seen, bound, saved=True)


@dataclass(slots=True)
class RollingRows:
    """The rows that one stream, or a segment of it, keeps for its next references."""

    rule: Rolling
    said: str = ""
    """What the newest reference is made of, in words."""
    _slices: dict[int, _Slice] = field(default_factory=dict)
    _oldest: int = 0
    _gone: set[int] = field(default_factory=set)

    @property
    def seen(self) -> int:
        """How many rows came within the slices that are held."""
        return sum(each.seen for each in self._slices.values())

    def clear(self) -> None:
        """Forget the rows."""
        self._drop(list(self._slices))

    def add(self, values: Matrix, times_ns: NDArray[np.int64]) -> None:
        """Take rows (n, d), each for the slice of its time; those that are too old for any reference are left."""
        places = times_ns // self.rule.slice_ns
        most = -(-self.rule.rows // BUSIEST)
        for place in np.unique(places).tolist():
            if place >= self._oldest:
                if place not in self._slices:
                    self._slices[place] = _Slice(np.empty((0, values.shape[1])), np.empty(0))
                self._slices[place].add(place, values[places == place], most)

    def reference(self, at_ns: int, schema: Schema) -> Reference | None:
        """Return what rows are compared with from a moment on, and forget what is too old; None for too few rows."""
        span = self.rule.span(at_ns)
        self._oldest = max(0, span.start)
        self._drop([place for place in self._slices if place < span.start])
        chosen = {place: self._slices[place] for place in sorted(self._slices) if place in span}
        seen = sum(each.seen for each in chosen.values())
        if seen < LEAST_ROWS:
            return None
        numbers = np.concatenate([each.numbers for each in chosen.values()])
        bound = min(each.bound for each in chosen.values())
        if int((numbers < bound).sum()) > self.rule.rows:
            bound = float(np.partition(numbers, self.rule.rows)[self.rule.rows])
        values = np.concatenate([each.values for each in chosen.values()])[numbers < bound]
        start, end = (format_time(place * self.rule.slice_ns) for place in (min(chosen), span.stop))
        self.said = f"compared with {len(values):,} of the {seen:,} rows from {start} to {end}"
        found = Reference.encoded(schema, values, sample_rows=len(values), ordered=True, created_ns=at_ns)
        return found if len(values) == seen else replace(found, autocorrelation=None)  # neighbours are none in the log

    def _drop(self, places: list[int]) -> None:
        for place in places:
            del self._slices[place]
            self._gone.add(place)

    def dump(self) -> dict[str, bytes | None]:
        """Return the slices that changed since the last dump; None for those that are gone."""
        about = {
            "said": self.said,
            "oldest": self._oldest,
            "slices": [[place, each.seen, each.bound] for place, each in self._slices.items()],
        }
        parts: dict[str, bytes | None] = {f"slice {place}": None for place in self._gone}
        self._gone.clear()
        parts |= {f"slice {place}": each.dump() for place, each in self._slices.items() if not each.saved}
        return parts | {"rolling": orjson.dumps(about)}

    def load(self, parts: Mapping[str, bytes]) -> None:
        """Continue with the slices of dumps."""
        about = orjson.loads(parts["rolling"])
        self.said, self._oldest = about["said"], about["oldest"]
        self._slices = {
            place: _Slice.load(parts[f"slice {place}"], seen, bound) for place, seen, bound in about["slices"]
        }
