"""Promises: the false-alarm rate that a user tolerates, in a unit that a person understands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from inferwatch.rows import Batch

NS_PER_DAY = 86_400_000_000_000


@dataclass(frozen=True, slots=True)
class Promise:
    """Where nothing changes, `length` units pass between two alarms of one stream on average.

    Alarms of a window detector that fires with probability `alpha` a window are 1/alpha windows apart. A promise in
    rows or days spends its budget in proportion to what a window spans: its rows, or the time from the end of the
    window before to its own end. So the rate holds whatever the traffic does, and is a function of the log alone.
    """

    length: float
    unit: Literal["windows", "rows", "days"] = "windows"

    def __post_init__(self) -> None:
        if not (self.length > 1 and math.isfinite(self.length)) and self.unit != "days":
            raise ValueError(f"an expected run length is a finite number above 1 {self.unit}, not {self.length}")
        if not (self.length > 0 and math.isfinite(self.length)):
            raise ValueError(f"an expected run length is a finite positive number of days, not {self.length}")

    def alarm_probability(self, rows: int, span_ns: int) -> float:
        """Return the probability in (0, 0.5] with which a window of so many rows and such a span may alarm falsely.

        >>> Promise(1000).alarm_probability(500, 0)
        0.001
        >>> Promise(1e6, "rows").alarm_probability(500, 0)
        0.0005
        """
        units = {"windows": 1.0, "rows": float(rows), "days": span_ns / NS_PER_DAY}[self.unit]
        return min(0.5, max(units, 1e-12) / self.length)

    def threshold(self, window: Batch) -> float:
        """Return what the score of a window has to exceed: -log10 of the probability with which it may alarm falsely.

        A window spends what it adds: the rows that no earlier window held, the time since the end of the one before.
        So windows that overlap alarm falsely no more often than promised: the expected number of false alarms is at
        most the sum of what all of them spend, however much they depend on each other.
        """
        span_ns = max(0, int(window.times_ns.max()) - window.since_ns)
        return -math.log10(self.alarm_probability(len(window) - window.again, span_ns) * window.share)

    def __str__(self) -> str:
        return f"one false alarm in {self.length:g} {self.unit}"
