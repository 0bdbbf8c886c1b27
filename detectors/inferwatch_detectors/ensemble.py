"""Several scores as one: each by how rare it is among the fitted rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from inferwatch.rows import Matrix

_TAIL = 0.05


class MeanSurprise:
    """The mean over several scores of -log of the share of fitted rows that score as high.

    Beyond the upper 5 % of the fitted rows it goes on as a line with their mean excess, so that farther is always more.
    """

    def __init__(self, rows: Matrix, scores: Sequence[Callable[[Matrix], Matrix]]) -> None:
        self._members = [(score, _Tail(score(rows))) for score in scores]

    def score(self, rows: Matrix) -> Matrix:
        """Return the mean surprise (n,) of each row, at least 0."""
        return np.asarray(np.mean([tail.surprise(score(rows)) for score, tail in self._members], axis=0))


class _Tail:
    def __init__(self, scores: Matrix) -> None:
        self._sorted = np.sort(scores)
        self._start = float(self._sorted[int((1 - _TAIL) * (len(scores) - 1))])
        beyond = self._sorted[self._sorted > self._start] - self._start
        self._excess = float(beyond.mean()) if len(beyond) else max(abs(self._start), 1.0) * 1e-3
        self._log_share = math.log((len(beyond) + 1) / (len(scores) + 1))

    def surprise(self, scores: Matrix) -> Matrix:
        count = len(self._sorted)
        share = (count - np.searchsorted(self._sorted, scores, side="left") + 1) / (count + 1)
        farther = (scores - self._start) / self._excess - self._log_share
        return np.asarray(np.where(scores > self._start, farther, -np.log(share)))
