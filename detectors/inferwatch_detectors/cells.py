"""Two statistics of how far a window's cells are from a reference's, and how both behave where nothing changed.

Both are T = n sum_j w_j (G_j - F_j)^2 over a window of n rows:

- ordered cells (numbers): F are the cumulated shares up to each edge, and w_j = t_j / (F_j (1 - F_j)) with t_j the mean
  share of the cells on both sides. That is Anderson-Darling for grouped data: R. Lockhart, J. Spinelli and M. Stephens,
  "Cramer-von Mises statistics for discrete distributions with unknown parameters", Canadian Journal of Statistics 35
  (2007), 125-133. Missing values are the cell behind the last edge.
- unordered cells (categories): F are the shares and w_j = 1 / F_j, Pearson's chi-square.

A cell that the reference has hardly seen would decide alone by a single row, so no row weighs more than 1/4 in the
first statistic, and an expected count counts as at least 2 in the second.

Where nothing changed and rows are independent, the window's counts given the reference's are Dirichlet-multinomial: the
shares of cells between order statistics of a continuous variable are exactly Dirichlet with the counts as parameters,
and for fixed cells that is the posterior of their shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from inferwatch.reference.profile import Counts, FeatureProfile, NumericProfile
from inferwatch.rows import Matrix

_Number = TypeVar("_Number", np.float64, np.int64)

_SIZES = 2
"""The sizes of a window and of the calibration that serves it."""


@dataclass(frozen=True, eq=False)
class CellTest:
    """The statistic for one feature's cells, given the reference.

    `alpha` (k,) are the parameters of the Dirichlet; `least_share` in [0, 1) is the share that a category counts as at
    least, beside the limit above.
    """

    alpha: Matrix
    ordered: bool
    least_share: float = 0.0

    @classmethod
    def of(cls, profile: FeatureProfile, least_share: float = 0.0) -> CellTest:
        """Return the test against the profile of a feature.

        Categories count half a row more than they have (Jeffreys' prior). Empty cells get what the reference says about
        them: one row beyond each end of a continuous feature; for unlisted categories as many as the reference has
        singletons (I. Good, Biometrika 40 (1953), 237-264), if any; else one half.
        """
        counts = profile.counts.astype(np.float64)
        prior = np.full(len(counts), 0.5)
        ordered = isinstance(profile, NumericProfile)
        if ordered:
            prior[[0, -2]] = 1.0
            return cls(np.where(counts > 0, counts, prior), ordered)
        prior[-2] = max(0.5, float((counts[:-2] == 1).sum()) - counts[-2])
        return cls(counts + prior, ordered, least_share)

    @property
    def key(self) -> tuple[bytes, bool, float]:
        """What is equal for tests that have one null distribution."""
        return self.alpha.tobytes(), self.ordered, self.least_share

    @cached_property
    def total(self) -> float:
        """How many rows the reference counts as, empty cells' shares included."""
        return float(self.alpha.sum())

    @cached_property
    def shares(self) -> Matrix:
        """The expected share (k,) of each cell."""
        return self.alpha / self.total

    @cached_property
    def centre(self) -> Matrix:
        """The expected share (j,) that each squared deviation is taken from: cumulated for ordered cells."""
        return centre(self.shares, self.ordered)

    def weights(self, rows: int) -> Matrix:
        """Return the weight (j,) of each squared deviation in a window of so many rows."""
        return self._of_size(rows)[0]

    def deviations(self, counts: Counts) -> Matrix:
        """Return G - F (..., j) of windows with these counts (..., k)."""
        parts = np.cumsum(counts, axis=-1)[..., :-1] if self.ordered else counts
        return np.asarray(parts / counts.sum(axis=-1, keepdims=True) - self.centre)

    def statistic(self, counts: Counts) -> NDArray[np.float64]:
        """Return T (...) of windows of equal size with these counts (..., k)."""
        rows = int(counts.reshape(-1, counts.shape[-1])[0].sum())
        return np.asarray(rows * (self.deviations(counts) ** 2 @ self.weights(rows)))

    def mean(self, rows: int) -> float:
        """Return the exact expectation of T where nothing changed."""
        return self._of_size(rows)[1]

    def _of_size(self, rows: int) -> tuple[Matrix, float]:
        """Return weights and mean for windows of so many rows, known for the sizes that were asked for last."""
        known = self._sizes.get(rows)
        if known is None:
            if len(self._sizes) >= _SIZES:
                self._sizes.clear()
            found = weights(self.shares, rows, self.ordered, self.least_share)
            mean = float(found @ (self.centre * (1 - self.centre))) * self._inflation(rows)
            known = self._sizes[rows] = found, mean
        return known

    @cached_property
    def _sizes(self) -> dict[int, tuple[Matrix, float]]:
        return {}

    def spectrum(self, rows: int) -> Matrix:
        """Return the weights of the squared normals that T tends to."""
        covariance = np.diag(self.shares) - np.outer(self.shares, self.shares)
        if self.ordered:
            covariance = np.cumsum(np.cumsum(covariance, axis=0), axis=1)[:-1, :-1]
        root = np.sqrt(self.weights(rows))
        return np.clip(np.linalg.eigvalsh(covariance * np.outer(root, root)), 0, None) * self._inflation(rows)

    def furthest(self, rows: int) -> float:
        """Return the largest value that T can take: T is convex, so some cell then has all rows."""
        return float(self.statistic(np.eye(len(self.alpha), dtype=np.int64) * rows).max())

    def draw(self, rows: int, draws: int, random: np.random.Generator) -> NDArray[np.float64]:
        """Return T of windows drawn where nothing changed."""
        shares = random.standard_gamma(self.alpha, (draws, len(self.alpha)))
        shares /= shares.sum(axis=1, keepdims=True)
        return self.statistic(random.multinomial(rows, shares))

    def _inflation(self, rows: int) -> float:
        """The variance of a Dirichlet-multinomial share against that of a multinomial one."""
        return (self.total + rows) / (self.total + 1)


class CellTests:
    """The tests of several features side by side, all of ordered cells or none.

    Windows' counts are (d, k) with k the most cells of any feature: what one has fewer is empty, behind its own.
    """

    def __init__(self, each: Sequence[CellTest]) -> None:
        self.each = tuple(each)
        self.ordered = each[0].ordered
        self._centre = beside([test.centre for test in each])
        self._weights: dict[int, Matrix] = {}

    def deviations(self, counts: Counts) -> Matrix:
        """Return G - F (d, j) of each feature's window."""
        return reached(counts, self.ordered) - self._centre

    def weights(self, rows: int) -> Matrix:
        """Return the weight (d, j) of each squared deviation in windows of so many rows; 0 behind a feature's own."""
        known = self._weights.get(rows)
        if known is None:
            self._weights.clear()  # windows of one size follow each other
            known = self._weights[rows] = beside([test.weights(rows) for test in self.each])
        return known

    def statistics(self, counts: Counts) -> Matrix:
        """Return T (d,) of each feature's window; all have equally many rows."""
        rows = int(counts[0].sum())
        return np.asarray(rows * (self.deviations(counts) ** 2 * self.weights(rows)).sum(axis=1))


def reached(counts: Counts, ordered: bool) -> Matrix:
    """Return the shares (d, j) of windows' counts (d, k) whose deviations are squared: cumulated of ordered cells."""
    rows = counts[0].sum()
    return np.asarray(np.cumsum(counts, axis=1)[:, :-1] / rows if ordered else counts / rows)


def beside(parts: Sequence[NDArray[_Number]]) -> NDArray[_Number]:
    """Return arrays (..., j) of different last lengths as one (d, ..., j), filled with 0."""
    width = max(part.shape[-1] for part in parts)
    result = np.zeros((len(parts), *parts[0].shape[:-1], width), parts[0].dtype)
    for place, part in zip(result, parts, strict=True):
        place[..., : part.shape[-1]] = part
    return result


def centre(shares: Matrix, ordered: bool) -> Matrix:
    """Return the expected share (..., j) that each squared deviation is taken from, of cells with shares (..., k)."""
    return np.cumsum(shares, axis=-1)[..., :-1] if ordered else shares


def weights(shares: Matrix, rows: int, ordered: bool, least_share: float) -> Matrix:
    """Return the weight (..., j) of each squared deviation in a window of `rows`, of cells with shares (..., k)."""
    if not ordered:
        return 1 / np.maximum(shares, max(2 / rows, least_share))
    between, below = (shares[..., :-1] + shares[..., 1:]) / 2, centre(shares, ordered)
    return np.minimum(between / (below * (1 - below)), rows / 4)
