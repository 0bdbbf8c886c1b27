"""Divergences between the cells of a window and of a reference, and how they spread where nothing changed.

Where rows are independent and nothing changed, a window's counts given the reference's are Dirichlet-multinomial
(`cells`). So whatever is computed from counts has its null distribution in seeded draws: PSI and Jensen-Shannon on
the reference's deciles, Cramer-von Mises and Wasserstein on finer quantile cells. Each is brought to the scale of a
squared deviation, whose upper tail is about that of the chi-square variable with its mean and variance: beyond the
upper 2.5 % of the draws the log survival goes on as a multiple of that, fitted to their exceedances.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from inferwatch.rows import Matrix
from inferwatch_detectors.quadratic_form import FURTHEST, tail_curve

_TAIL = 0.025
_CHUNK = 4096
_LEAST_EXCEEDANCES = 20

Divergence = Callable[[Matrix, Matrix, Matrix], Matrix]
"""(reference counts (..., k), window counts (..., k), gaps (k - 1,)) -> the squared scale (...)."""


def squared_jensen_shannon(reference: Matrix, window: Matrix, gaps: Matrix) -> Matrix:  # noqa: ARG001 - one signature
    """Return the squared Jensen-Shannon distance (...) of the shares as `stability` takes them."""
    q, p = _at_least_two_rows(reference, window)
    middle = (p + q) / 2
    entropies = p * np.log2(p / middle) + q * np.log2(q / middle)
    return np.asarray(entropies.sum(axis=-1) / 2)


def stability(reference: Matrix, window: Matrix, gaps: Matrix) -> Matrix:  # noqa: ARG001 - one signature
    """Return the population stability index (...), a share below two of the window's rows counting as two.

    Else the first row of a cell that the reference does not know would decide alone.
    """
    q, p = _at_least_two_rows(reference, window)
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=-1))


def _at_least_two_rows(reference: Matrix, window: Matrix) -> tuple[Matrix, Matrix]:
    least = 2 / window.sum(axis=-1, keepdims=True)
    q = np.maximum(reference / reference.sum(axis=-1, keepdims=True), least)
    p = np.maximum(window / window.sum(axis=-1, keepdims=True), least)
    return q, p


def squared_wasserstein(reference: Matrix, window: Matrix, gaps: Matrix) -> Matrix:
    """Return the squared W1 (...) of cells whose middles are `gaps` (k - 1,) apart."""
    return np.asarray((np.abs(_deviations(reference, window)[..., :-1]) @ gaps) ** 2)


def squared_kolmogorov(reference: Matrix, window: Matrix, gaps: Matrix) -> Matrix:  # noqa: ARG001 - one signature
    """Return the squared largest difference (...) of the distributions at the ends of cells."""
    return np.asarray(np.abs(_deviations(reference, window)).max(axis=-1) ** 2)


def integrated_square(reference: Matrix, window: Matrix, gaps: Matrix) -> Matrix:  # noqa: ARG001 - one signature
    """Return the squared difference (...) of the distributions, averaged over the reference's rows."""
    after = _deviations(reference, window) ** 2
    shares = reference / reference.sum(axis=-1, keepdims=True)
    both = after.copy()
    both[..., 1:] += after[..., :-1]
    return np.asarray((shares * both).sum(axis=-1) / 2)


def _deviations(reference: Matrix, window: Matrix) -> Matrix:
    before = np.cumsum(reference, axis=-1) / reference.sum(axis=-1, keepdims=True)
    return np.asarray(np.cumsum(window, axis=-1) / window.sum(axis=-1, keepdims=True) - before)


@dataclass(frozen=True, eq=False)
class DrawnNull:
    """The survival function of a divergence: `drawn` (n,), ascending, and beyond `start` log p at `points` (m,)."""

    drawn: Matrix
    start: float
    points: Matrix
    log_p: Matrix

    def log_survival(self, values: Matrix) -> Matrix:
        """Return log P(divergence >= value) of values (m,), at most 0."""
        at_or_above = len(self.drawn) - np.searchsorted(self.drawn, values, side="left")
        drawn = np.minimum(0.0, np.log(at_or_above + 1) - math.log(len(self.drawn) + 1))
        return np.where(values > self.start, np.interp(values, self.points, self.log_p), drawn)


def drawn_null(divergence: Divergence, alpha: Matrix, gaps: Matrix, rows: int, draws: int) -> DrawnNull:
    """Return the distribution for windows of so many independent rows, against a reference with counts `alpha` (k,)."""
    return _cached(divergence, alpha.tobytes(), gaps.tobytes(), rows, draws)


@lru_cache(maxsize=2048)
def _cached(divergence: Divergence, alpha: bytes, gaps: bytes, rows: int, draws: int) -> DrawnNull:
    counts, between = np.frombuffer(alpha), np.frombuffer(gaps)
    windows = _windows(alpha, rows, draws)
    chunks = (windows[start : start + _CHUNK].astype(np.float64) for start in range(0, draws, _CHUNK))
    parts = [divergence(counts, chunk, between) for chunk in chunks]
    drawn = np.sort(np.concatenate(parts))
    begin = float(drawn[int((1 - _TAIL) * draws)])
    points, depths = _chi_square_tail(drawn, begin, len(counts))
    beyond = drawn[drawn > begin]
    # few different values, as two rare categories give: what lies beyond the bulk is then at least as rare as one draw
    at = beyond if len(beyond) >= _LEAST_EXCEEDANCES else np.array([begin + float(drawn[-1]) / 10])
    slope = 1 / max(float(np.interp(at, points, depths).mean()), 1e-12)
    return DrawnNull(drawn, begin, points, math.log((len(beyond) + 1) / (draws + 1)) - slope * depths)


@lru_cache(maxsize=1)  # features that differ in their gaps alone are prepared one after the other
def _windows(alpha: bytes, rows: int, draws: int) -> NDArray[np.int32]:
    """The counts (n, k) of windows of so many rows."""
    random = np.random.default_rng(0)
    counts = np.frombuffer(alpha)
    windows = np.empty((draws, len(counts)), dtype=np.int32)
    for start in range(0, draws, _CHUNK):
        shares = random.standard_gamma(counts, (min(_CHUNK, draws - start), len(counts)))
        shares /= shares.sum(axis=1, keepdims=True)
        windows[start : start + _CHUNK] = random.multinomial(rows, shares)
    return windows


def _chi_square_tail(drawn: Matrix, start: float, cells: int) -> tuple[Matrix, Matrix]:
    """Points from `start` on, and what -log p grows by from there, of the chi-square with the draws' mean and variance.

    Its degrees of freedom are from 2, an exponential tail, to the number of cells.
    """
    mean, variance = float(drawn.mean()), float(drawn.var())
    freedom = max(2, int(min(cells, 2 * mean**2 / max(variance, 1e-300))))
    scale = max(mean, 1e-300) / freedom
    points, curve = tail_curve(np.full(freedom, scale), start + FURTHEST * scale)
    first = int(np.searchsorted(points, start, side="right"))
    depths = np.append(0, curve[first:] - np.interp(start, points, curve))
    return np.append(start, points[first:]), depths
