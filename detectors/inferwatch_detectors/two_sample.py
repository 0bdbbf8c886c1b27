"""Textbook statistics of two samples, the reference's prepared once: sorted, or counted in its bins.

Samples are columns (n,) whose missing values are NaN and left out; infinite values are values. Statistics are those of
SciPy, to the bit where it says so, at a fraction of the cost: a window is looked up in the sorted reference, which is
neither sorted nor copied again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import Self

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import MissingExtra
from inferwatch.reference.profile import Counts
from inferwatch.rows import Matrix
from inferwatch_detectors.kolmogorov import log_survival

_MARKS = 200
_EVERY = slice(None)


@dataclass(frozen=True, eq=False)
class SortedSample:
    """The values (n,) of a reference's column, ascending, without missing ones."""

    values: Matrix

    @classmethod
    def of(cls, column: Matrix) -> Self:
        """Return the sample of a column (n,)."""
        return cls(np.sort(column[~np.isnan(column)]))

    @cached_property
    def sd(self) -> float:
        """The standard deviation with ddof 0; 0 where all values are equal or none is there."""
        if not len(self.values) or self.values[0] == self.values[-1]:
            return 0.0
        return float(self.values.std())

    @cached_property
    def excess_ranks(self) -> tuple[Matrix, float]:
        """What ties add to the ranks of the values among themselves: summed below each place (n + 1,), and squared."""
        excess = _excess_ranks(self.values)
        return np.concatenate([[0.0], np.cumsum(excess)]), float(excess @ excess)

    @cached_property
    def marks(self) -> tuple[Matrix, Matrix]:
        """Some of the values (k,), ascending, and the shares (k + 2,) at or below none, each and all of them."""
        count = len(self.values)
        marks = np.unique(self.values[np.arange(1, _MARKS) * count // _MARKS])
        within = np.searchsorted(self.values, marks, side="right")
        return marks, np.concatenate([[0], within, [count]]) / count

    def positions(self, window: Matrix) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
        """Return how many values lie below each of the window's (m,), and how many at or below it."""
        below = self.values.searchsorted(window, "left")
        within = self.values.searchsorted(window, "right") if self._meets(window, below) else below
        return below, within

    def _meets(self, window: Matrix, below: NDArray[np.intp]) -> bool:
        """Whether any value of the window is one of the sample's."""
        at = np.minimum(below, len(self.values) - 1)
        return bool((self.values[at] == window).any())


def sorted_windows(columns: Matrix) -> list[Matrix]:
    """Return the values of a window's columns (d, n), each ascending, without missing ones."""
    values = np.sort(columns, axis=1)  # NaN last
    present = (~np.isnan(values)).sum(axis=1)
    return [column[:count] for column, count in zip(values, present.tolist(), strict=True)]


def sorted_window(column: Matrix) -> Matrix:
    """Return the values of one column (n,), ascending, without missing ones."""
    return sorted_windows(column[np.newaxis])[0]


def kolmogorov_smirnov(sample: SortedSample, window: Matrix) -> float:
    """Return D of the sample and a sorted window, both not empty: that of `scipy.stats.ks_2samp`, to the bit.

    Only those of the window's values are looked up that lie between marks where D can exceed what it is at the marks.
    """
    marks, within = sample.marks
    counts = np.zeros(len(within), np.intp)
    counts[1:-1], counts[-1] = window.searchsorted(marks, "right"), len(window)
    reached = _shares(len(window))[counts]
    gaps = within - reached
    known = float(np.abs(gaps).max())
    open_ = np.maximum(within[1:] - reached[:-1], reached[1:] - within[:-1]) > known
    [chosen] = open_.repeat(counts[1:] - counts[:-1]).nonzero()
    below, at = sample.positions(window[chosen])
    before = below / len(sample.values)
    return max(known, largest_gap(before, before if at is below else at / len(sample.values), window, chosen))


def largest_gap(before: Matrix, after: Matrix, window: Matrix, places: NDArray[np.intp] | slice = _EVERY) -> float:
    """Return the largest distance between a distribution and a sorted window's, at least 0.

    `before` and `after` (p,) are the distribution's values just below and at those of the window at `places`; tied ones
    are all among these or none is.
    """
    values, shares = window[places], _shares(len(window))
    first, last = shares[:-1][places], shares[1:][places]
    if (values[1:] == values[:-1]).any():
        first = shares[np.searchsorted(window, values, side="left")]
        last = shares[np.searchsorted(window, values, side="right")]
    return float(np.maximum(last - after, before - first).max(initial=0))


@lru_cache(maxsize=64)
def _shares(rows: int) -> Matrix:
    """0, 1 / rows, ... 1."""
    return np.arange(rows + 1) / rows


def ks_log_p(statistics: Matrix, reference_rows: NDArray[np.int64], window_rows: Matrix) -> Matrix:
    """Return the log (d,) of the p-values of D (d,) that `scipy.stats.ks_2samp(method="asymp")` has.

    `window_rows` (d,) may be effective rows. They count together as round(n m / (n + m)) rows of a one-sample test.
    """
    rows = np.round(reference_rows * window_rows / (reference_rows + window_rows)).astype(np.int64)
    return log_survival(statistics, np.maximum(rows, 1))


def cramer_von_mises(sample: SortedSample, window: Matrix) -> float:
    """Return T of the sample and a sorted window, both not empty: that of `scipy.stats.cramervonmises_2samp`.

    Ties have their mean rank, as there.
    """
    n, m = len(sample.values), len(window)
    below, within = sample.positions(window)
    # as many halves of the window's values lie below a value of the sample as there are bounds at or below its place
    bounds = np.repeat(below, 2) if below is within else np.sort(np.concatenate([below, within]), kind="stable")
    halves = np.arange(1.0, 4 * m, 2)
    excess, squares = sample.excess_ranks
    ahead = n * m**2 - float(halves @ bounds) / 4
    if squares:
        ahead += 2 * m * float(excess[-1]) - float(excess[bounds].sum())
    live = (below + within) / 2 + _excess_ranks(window)
    u = n * (squares + ahead) + m * float(live @ live)
    return u / (n * m * (n + m)) - (4 * n * m - 1) / (6 * (n + m))


def cvm_p_value(statistic: float, n: int, m: int) -> float:
    """Return the p-value of T that `scipy.stats.cramervonmises_2samp(method="asymptotic")` has, in [0, 1].

    The series of S. Csorgo and J. Faraway, Journal of the Royal Statistical Society B 58 (1996), eq. 1.2, ended where
    SciPy ends it, at a term below 1e-7: that is what the p-value is good to.
    """
    try:
        from scipy.special import kve
    except ImportError as error:
        raise MissingExtra("the cvm detector", "detect") from error
    total = n + m
    expected = (1 + 1 / total) / 6
    variance = (total + 1) * (4 * n * m * total - 3 * (n**2 + m**2) - 2 * n * m) / (45 * total**2 * 4 * n * m)
    x = 1 / 6 + (statistic - expected) / math.sqrt(45 * variance)
    if x < 0.003:
        return 1.0
    below, k, term = 0.0, 0, 1.0
    while term >= 1e-7:
        y = 4 * k + 1
        q = y * y / (16 * x)
        scale = math.exp(math.lgamma(k + 0.5) - math.lgamma(k + 1)) / (math.pi**1.5 * math.sqrt(x))
        term = scale * math.sqrt(y) * math.exp(-2 * q) * float(kve(0.25, q))
        below, k = below + term, k + 1
    return max(0.0, 1 - below)


def wasserstein(sample: SortedSample, window: Matrix) -> float | None:
    """Return W1 of the sample and a sorted window, both not empty, over the sample's sd; None where that is 0."""
    if sample.sd == 0:
        return None
    n, m = len(sample.values), len(window)
    both = np.concatenate([sample.values, window])
    order = np.argsort(both, kind="stable")
    steps = np.where(order < n, 1 / n, -1 / m)
    with np.errstate(invalid="ignore"):  # two infinite values have no distance
        distance = float(np.abs(np.cumsum(steps)[:-1]) @ np.diff(both[order]))
    return distance / sample.sd if math.isfinite(distance) else None


def chi_square(reference: Matrix | Counts, window: Matrix | Counts) -> tuple[Matrix, Matrix]:
    """Return chi-square and log p (d,) of two rows of counts (d, k) each, without Yates' correction.

    Cells that are empty in both are left out, as `scipy.stats.chi2_contingency` needs. 0 and 0 with one cell left.
    """
    try:
        from scipy.special import gammaincc
        from scipy.stats import chi2
    except ImportError as error:
        raise MissingExtra("the chi_square detector", "detect") from error
    table = np.stack([reference, window], axis=1).astype(np.float64)
    cells = table.sum(axis=1, keepdims=True)
    expected = table.sum(axis=2, keepdims=True) * cells / table.sum(axis=(1, 2), keepdims=True)
    squared = np.divide((table - expected) ** 2, expected, out=np.zeros_like(table), where=expected > 0)
    freedom = (cells[:, 0] > 0).sum(axis=1) - 1
    statistic = np.where(freedom > 0, squared.sum(axis=(1, 2)), 0.0)
    # what SciPy's chi2.sf comes down to, without its overhead
    p_value = np.where(freedom > 0, gammaincc(np.maximum(freedom, 1) / 2, statistic / 2), 1.0)
    far = p_value < 1e-290
    log_p = np.log(np.where(far, 1.0, p_value))
    log_p[far] = chi2.logsf(statistic[far], freedom[far])
    return statistic, log_p


def population_stability(reference: Matrix, window: Matrix) -> NDArray[np.float64]:
    """Return sum (p - q) ln(p / q) (...) of shares p of the window's counts (..., k) and q of the reference's (k,).

    A cell that is empty in one of the two counts half a row there; a cell that is empty in both is left out.
    """
    q, p = _filled(reference), _filled(window)
    present = (reference > 0) | (window > 0)
    return np.asarray(np.where(present, (p - q) * np.log(p / q), 0.0).sum(axis=-1))


def jensen_shannon(reference: Matrix, window: Matrix) -> NDArray[np.float64]:
    """Return the Jensen-Shannon distance (...) in [0, 1], base 2, of counts: that of `scipy.spatial.distance`."""
    q = reference / reference.sum(axis=-1, keepdims=True)
    p = window / window.sum(axis=-1, keepdims=True)
    middle = (p + q) / 2
    divergence = (_relative_entropy(p, middle) + _relative_entropy(q, middle)) / 2
    return np.asarray(np.sqrt(np.maximum(divergence, 0.0) / math.log(2)))


def _excess_ranks(ascending: Matrix) -> Matrix:
    """The mean rank (n,) of each value less its place: 0 without ties."""
    places = np.arange(len(ascending))
    if not (ascending[1:] == ascending[:-1]).any():
        return np.zeros(len(ascending))
    below, within = (np.searchsorted(ascending, ascending, side=side) for side in ("left", "right"))
    return np.asarray((below + within - 1) / 2 - places)


def _filled(counts: Matrix) -> Matrix:
    return np.asarray(np.where(counts > 0, counts, 0.5) / counts.sum(axis=-1, keepdims=True))


def _relative_entropy(p: Matrix, q: Matrix) -> Matrix:
    ratio = np.where(p > 0, p, 1.0) / np.where(p > 0, q, 1.0)
    return np.asarray((p * np.log(ratio)).sum(axis=-1))
