"""Counts of what capture takes, kept at the least cost; metrics are made of them when somebody asks."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from typing import Final

from inferwatch.events import RESPONSE_TYPE, CloudEvent

TYPES: Final = ("request", "response")
_SIZES: Final = (128, 1024, 8192, 65_536, 524_288, 1_048_576, 16_777_216)


class Histogram:
    """Counts values by buckets, at a fraction of the cost of prometheus_client's, which locks."""

    def __init__(self, bounds: Sequence[float]) -> None:
        self.sum = 0.0
        self._bounds = bounds
        self._counts = [0] * (len(bounds) + 1)

    def observe(self, value: float) -> None:
        """Count a value."""
        self.sum += value
        self._counts[bisect_left(self._bounds, value)] += 1

    def cumulative(self) -> list[tuple[str, float]]:
        """Return each bound with the number of values up to it."""
        total = 0
        found: list[tuple[str, float]] = []
        for bound, count in zip((*self._bounds, float("inf")), self._counts, strict=True):
            total += count
            found.append(("+Inf" if bound == float("inf") else str(float(bound)), total))
        return found


class Tallies:
    """What was captured. Lists have an entry for requests and one for responses, as `TYPES` has."""

    def __init__(self) -> None:
        self.sizes = tuple(Histogram(_SIZES) for _ in TYPES)
        self.truncated = [0, 0]
        self.withheld = [0, 0]
        self.sampled_out = 0
        """Requests."""
        self.sampled_by_chance = 0
        """Requests that had no value that sampling goes by."""

    def count(self, event: CloudEvent) -> None:
        """Count an event."""
        role = event.type == RESPONSE_TYPE
        self.sizes[role].observe(len(event.data))
        if event.truncated:
            self.truncated[role] += 1
