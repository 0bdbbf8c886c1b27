"""The first rows of a service: they enter no window, and tell how much live rows depend on each other."""

from __future__ import annotations

import numpy as np

from inferwatch.reference import Reference
from inferwatch.rows import Batch
from inferwatch_detectors.dependence import Dependence, estimate_dependence

MILESTONES = (500, 750, 1_000, 1_500, 2_000, 3_000)
"""Rows after which the estimate is tried; the last one is taken as it is. Fixed, so that the end of the burn-in
depends on the rows alone and not on how they were delivered."""

Span = tuple[int, int]
"""The earliest and the latest event time among rows, in ns."""


class BurnIn:
    """Collects rows until their dependence is known: after `rows` rows, or as many as the estimate needs."""

    def __init__(self, reference: Reference, rows: int | None) -> None:
        self._reference = reference
        self._milestones = MILESTONES if rows is None else (rows,)
        self._held = np.empty((0, len(reference.schema.features)))
        self.span: Span | None = None
        self.dependence: Dependence | None = None
        if rows == 0:
            self.dependence = Dependence.independent(len(reference.schema.features))

    @property
    def needs_rows(self) -> int:
        """Rows that are missing until the next try."""
        if self.dependence is not None:
            return 0
        return next(milestone for milestone in self._milestones if milestone > len(self._held)) - len(self._held)

    def add(self, batch: Batch) -> Batch:
        """Return the rows that are left over once the burn-in is done; none before."""
        start = 0
        while self.dependence is None and start < len(batch):
            taken = min(self.needs_rows, len(batch) - start)
            self._hold(batch.slice(start, start + taken))
            start += taken
            if len(self._held) in self._milestones:
                self._conclude()
        return batch.slice(start, len(batch))

    def _hold(self, batch: Batch) -> None:
        self._held = np.concatenate([self._held, batch.values])
        times = (int(batch.times_ns.min()), int(batch.times_ns.max()), *(self.span or ()))
        self.span = min(times), max(times)

    def follow(self, reference: Reference) -> None:
        """Take another reference of the same columns for the estimate."""
        self._reference = reference

    def conclude(self, dependence: Dependence) -> None:
        """End the burn-in with what is known from elsewhere."""
        self.dependence = dependence
        self._held = self._held[:0]

    def _conclude(self) -> None:
        estimate = estimate_dependence(self._held, self._reference)
        if estimate.settled or len(self._held) == self._milestones[-1]:
            self.conclude(estimate)

    def dump(self) -> bytes:
        """Return the rows held so far."""
        return self._held.tobytes()

    def load(self, data: bytes, dependence: Dependence | None, span: Span | None = None) -> None:
        """Continue with the rows of a dump, or with the dependence they gave, and the span of those that came."""
        self._held = np.frombuffer(data, np.float64).reshape(-1, len(self._reference.schema.features))
        self.dependence, self.span = dependence, span
