"""The pace of an explanation: how much may be asked at once, so that an answer is there when its deadline is."""

from __future__ import annotations

import math
from collections.abc import Callable

ROUND_ROWS = 131_072
"""At most so many rows are put together at once, which bounds memory to about 100 bytes a row and feature."""

_GROWTH = 8
"""A round asks at most so many times the rows of the one before, so that no guess of the speed is far off."""


class Pace:
    """How many rows the time left allows, judged by the rounds so far; a round takes `ROUND_ROWS` at most."""

    def __init__(self, clock: Callable[[], float], started: float, deadline_s: float | None) -> None:
        self._clock = clock
        self._end = None if deadline_s is None else started + deadline_s
        self._round_started = clock()
        self._fastest_s = math.inf
        self._allowed = ROUND_ROWS
        self._in_time = math.inf

    @property
    def hurried(self) -> bool:
        """Whether there is a deadline at all."""
        return self._end is not None

    def took(self, rows: int) -> None:
        """Note that a round of so many rows is over."""
        now = self._clock()
        spent, self._round_started = now - self._round_started, now
        self._fastest_s = min(self._fastest_s, spent)
        self._allowed = min(_GROWTH * rows, ROUND_ROWS)
        if self._end is not None:
            left = self._end - now
            in_time = 0.7 * left / spent * rows if spent > 0 else math.inf
            self._in_time = 0.0 if left < self._fastest_s else in_time

    def units(self, rows_each: int) -> int:
        """Return how many units of so many rows the next round may ask: at least one where there is time for it."""
        return 0 if rows_each > self._in_time else max(1, int(min(self._allowed, self._in_time)) // rows_each)
