"""P-values of cell tests where nothing changed: seeded Dirichlet-multinomial draws, continued by a fitted tail.

A patient promise asks for levels of 1e-6 and below, which draws cannot reach. Beyond the upper 2.5 % of the draws the
survival function is C S(x)^b, where S is the survival function of the weighted chi-square that the statistic tends to,
C meets the draws and b is fitted to their exceedances by maximum likelihood (b is 1 where the limit is good, less where
the draws are heavier). Rarely seen cells have tails of their own that no limit knows: the p-value is never below the
probability that a single cell takes the statistic there, by its exact beta-binomial tail, the others adding what they
do in half or in a fifth of all windows. Against larger sets of draws, levels of 1e-5 come out within a
factor of 3 (tests/detectors/test_null_distribution.py).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from inferwatch.rows import Matrix
from inferwatch_detectors.cells import CellTest
from inferwatch_detectors.quadratic_form import tail_curve

_TAIL = 0.025
_FEW = 512
_POINTS = 1024
_REST = (1.0, 0.5, 0.2)
_CHUNK = 8192
CELL_DRAWS = 4_000_000
"""How many cells are drawn for all tests of one detector together: about half a second."""


@dataclass(frozen=True, eq=False)
class NullDistribution:
    """The survival function of a statistic: `log_p` at `points`, both (m,), ascending; linear in between."""

    points: Matrix
    log_p: Matrix

    def log_survival(self, statistics: Matrix | float) -> Matrix:
        """Return log P(T >= statistic) of statistics of any shape, at most 0."""
        return np.asarray(np.interp(statistics, self.points, self.log_p))

    @classmethod
    def of(cls, test: CellTest, rows: int, draws: int, seed: int = 0) -> NullDistribution:
        """Return the distribution for windows of so many independent rows."""
        random = np.random.default_rng(seed)
        sizes = [min(_CHUNK, draws - start) for start in range(0, draws, _CHUNK)]
        drawn = np.sort(np.concatenate([test.draw(rows, size, random) for size in sizes]))
        points = _body(drawn)
        body = np.log((draws - np.searchsorted(drawn, points)) / draws)
        tail_points, tail = _tail(test, rows, drawn, float(points[-1]), float(body[-1]))
        log_p = np.concatenate([[0.0], body, tail])
        # the first value below every draw has p 1; nothing that can occur lies beyond the last point
        return cls(np.concatenate([[np.nextafter(points[0], -1)], points, tail_points]), np.minimum.accumulate(log_p))


def null_distributions(tests: Sequence[CellTest], rows: int, cell_draws: int = CELL_DRAWS) -> list[NullDistribution]:
    """Return the distribution of each test. Tests with equal references share one, across all detectors of a process.

    The effort is bounded by `cell_draws`: the more different references, the fewer draws for each, 4,000 at least.
    """
    distinct = {test.key: len(test.alpha) for test in tests}
    draws = min(200_000, max(4_000, cell_draws // max(1, sum(distinct.values()))))
    return [_cached(*test.key, rows, 1 << (draws.bit_length() - 1)) for test in tests]


def _body(drawn: Matrix) -> Matrix:
    """The draws whose shares are taken as they are: of few different values all that occurred 50 times or above."""
    values = np.unique(drawn)
    if len(values) <= _FEW:
        return values[: max(1, int(np.searchsorted(values, drawn[-min(50, len(drawn))], side="right")))]
    exceeding = np.geomspace(len(drawn), _TAIL * len(drawn), 300).astype(int)
    return np.unique(drawn[len(drawn) - exceeding])


@lru_cache(maxsize=1024)
def _cached(alpha: bytes, ordered: bool, least_share: float, rows: int, draws: int) -> NullDistribution:
    return NullDistribution.of(CellTest(np.frombuffer(alpha), ordered, least_share), rows, draws)


def _tail(test: CellTest, rows: int, drawn: Matrix, start: float, log_start: float) -> tuple[Matrix, Matrix]:
    """Points beyond `start`, up to the largest possible value, with the log survival there."""
    end = test.furthest(rows)
    if end <= start * (1 + 1e-9):
        return np.empty(0), np.empty(0)
    curve = tail_curve(test.spectrum(rows), end)
    depth = np.interp(drawn[np.searchsorted(drawn, start) :], *curve) - np.interp(start, *curve)
    slope = 1 / max(float(depth.mean()), 1e-3)
    points = np.geomspace(max(start, 1e-6 * end), end, _POINTS)
    fitted = log_start - slope * (np.interp(points, *curve) - np.interp(start, *curve))
    for level in _REST:
        rest = float(drawn[int((1 - level) * len(drawn))])
        alone = math.log(level) + _single_cell(test, rows, np.maximum(points - rest, 0))
        # a step function: its value at the point before holds up to the next
        fitted[1:] = np.maximum(fitted[1:], alone[:-1])
    return points[1:], np.minimum(fitted[1:], log_start)


def _single_cell(test: CellTest, rows: int, points: Matrix) -> Matrix:
    """log P (m,) that one cell alone makes the statistic as large: of the likeliest edge, or of any category."""
    inside = test.centre * test.total
    upper, lower = _beta_binomial_tails(inside, test.total - inside, rows)
    reach = np.sqrt(points[:, np.newaxis] * rows / test.weights(rows))
    above = np.ceil(rows * test.centre + reach).clip(0, rows + 1).astype(int)
    below = np.floor(rows * test.centre - reach).clip(-1, rows).astype(int) + 1
    cells = np.arange(len(test.centre))
    either = np.logaddexp(upper[cells, above], lower[cells, below])
    if test.ordered:
        return np.asarray(either.max(axis=1))
    with np.errstate(divide="ignore"):  # log 0 is minus infinity: no cell can take the statistic there
        return np.asarray(np.log(np.minimum(np.exp(either).sum(axis=1), 1.0)))


def _beta_binomial_tails(a: Matrix, b: Matrix, rows: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """log P(X >= k) and log P(X < k) for k = 0 ... rows + 1, each (j, rows + 2), of beta-binomial counts."""
    k = np.arange(rows)
    ratio = np.log((rows - k) / (k + 1)) + np.log((a[:, np.newaxis] + k) / (b[:, np.newaxis] + rows - k - 1))
    first = [
        math.lgamma(right + rows) - math.lgamma(right) + math.lgamma(left + right) - math.lgamma(left + right + rows)
        for left, right in zip(a.tolist(), b.tolist(), strict=True)
    ]
    mass = np.cumsum(np.column_stack([first, ratio]), axis=1)
    nothing = np.full((len(a), 1), -np.inf)
    upper = np.logaddexp.accumulate(mass[:, ::-1], axis=1)[:, ::-1]
    lower = np.logaddexp.accumulate(mass, axis=1)
    return np.hstack([upper, nothing]), np.hstack([nothing, lower])
