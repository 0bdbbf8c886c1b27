"""How much the rows of one service depend on each other: the effective sample that a row brings.

Rows of a service follow each other in sessions, households and daily cycles. The counts in a window of n rows then vary
as those of fewer independent rows would, and a threshold for independent rows raises alarms where nothing changed. The
design effect of a statistic (J. Rao and A. Scott, Annals of Statistics 12 (1984), 46-60) compares the long-run
variances of the very indicators that it squares, weighted as it weighs them, with their plain variances. Each principal
component counts with the square of its share, as it does in the statistic's variance: its tail, where alarms are, is
made by the leading components, and those depend most.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import InvalidRows
from inferwatch.reference import Reference
from inferwatch.rows import Matrix
from inferwatch_detectors.cells import CellTest
from inferwatch_detectors.components import COMPONENTS, captured, hermite_scores
from inferwatch_detectors.effective_sample import EffectiveSample

LEAST_ROWS = 500
ROWS_PER_TIME = 100
_WINDOW_ROWS = 500
_LEAST_SHARE = 1e-3
_ABOVE_NOISE = 1.5
_TELLING_ROWS = 10
"""Fewer independent rows show a shift of 1 sd in less than a third of windows (10 features, one false alarm in 100)."""


Form = Literal["all", "leading"]
"""What rules a statistic: all deviations of the distribution together, or its slowest one alone."""


@dataclass(frozen=True, slots=True)
class Dependence:
    """The effective sample a row, in (0, 1], of each feature, and the number of rows it was estimated from.

    `rows` is 0 where independence was assumed and nothing was estimated. `effective` is for Anderson-Darling over the
    cells of numbers and chi-square over those of categories. `leading` is for statistics that the slowest deviation of
    a number's distribution rules, as Wasserstein's distance; as `effective` where it is not given. `variance` is the
    relative variance of each estimate, 0 where it is not given. `components` are the design effects of each number's
    `components`, for statistics in which each counts by itself, as in chi-square and Kolmogorov's distance.
    """

    effective: tuple[float, ...]
    rows: int = 0
    leading: tuple[float, ...] = ()
    variance: tuple[float, ...] = ()
    components: tuple[tuple[float, ...], ...] = ()

    def of(self, form: Form) -> tuple[EffectiveSample, ...]:
        """Return the effective sample a row of each feature for a statistic of this form."""
        shares, components = self.effective, self.components
        if form == "leading":
            shares, components = self.leading or self.effective, ()
        count = len(shares)
        return tuple(map(EffectiveSample, shares, self.variance or (0.0,) * count, components or ((),) * count))

    @classmethod
    def independent(cls, features: int) -> Dependence:
        """Return what holds for independent rows."""
        return cls((1.0,) * features)

    @property
    def correlation_time(self) -> float:
        """How many rows of the most dependent feature bring as much as one independent row; at least 1."""
        return 1 / min(self.effective, default=1.0)

    @property
    def settled(self) -> bool:
        """Whether more rows would change little: 500 rows, and 100 times the correlation time, are in."""
        return self.rows >= max(LEAST_ROWS, ROWS_PER_TIME * self.correlation_time)

    @property
    def assumption(self) -> str:
        """The assumption in words, for a finding."""
        if not self.rows:
            return "rows independent"
        least = 1 / self.correlation_time
        if least > 0.995:
            return "rows independent, as estimated"
        return f"rows autocorrelated, estimated effective sample {least:.2g} a row"

    def assumed(self, rows: int) -> str:
        """Return the assumption for a window of so many rows, and what to do where it leaves the window little."""
        little = self.told_little(rows)
        return f"{self.assumption}, so that {little}" if little else self.assumption

    def told_little(self, rows: int) -> str | None:
        """Return how little a window of so many rows tells and what would tell more; None where it tells enough."""
        counted = rows / self.correlation_time
        if not self.rows or self.correlation_time < 2 or counted >= _TELLING_ROWS:
            return None
        return (
            f"{rows:,} rows count as {counted:.2g} and only a very large change alarms: longer windows tell more, and"
            " so does segments: [{by: {hours: 4}}] where traffic has a daily cycle"
        )

    def as_dict(self) -> dict[str, Any]:
        """Return JSON-ready values."""
        return {
            "effective": list(self.effective),
            "rows": self.rows,
            "leading": list(self.leading),
            "variance": list(self.variance),
            "components": [list(each) for each in self.components],
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Dependence:
        """Return what `as_dict` gave."""
        effective, leading, variance = (
            tuple(map(float, values.get(key, ()))) for key in ("effective", "leading", "variance")
        )
        components = tuple(tuple(map(float, each)) for each in values.get("components", ()))
        return cls(effective, int(values["rows"]), leading, variance, components)


def estimate_dependence(values: Matrix, reference: Reference) -> Dependence:
    """Return the dependence between rows (n, d) in the order of the log, as the reference's schema encodes them.

    Autocorrelations are summed in pairs while a pair is above 1.5 standard errors of what independent rows give, and no
    pair counts more than the one before (the initial monotone sequence of C. Geyer, Statistical Science 7 (1992),
    473-483, here with a floor for noise). Cost: two fast Fourier transforms a cell.
    """
    if values.ndim != 2 or values.shape[1] != len(reference.schema.features):
        raise InvalidRows(f"rows have shape {values.shape}, the reference has {len(reference.schema.features)} columns")
    if len(values) < 8:
        return Dependence((1.0,) * values.shape[1], len(values))
    estimates = [
        _forms(CellTest.of(profile), profile.cells(column))
        for profile, column in zip(reference.profile.features, values.T, strict=True)
    ]
    overall, leading, components = zip(*estimates, strict=True)
    return Dependence(
        tuple(1 / estimate.design_effect for estimate in overall),
        len(values),
        tuple(1 / estimate.design_effect for estimate in leading),
        tuple(max(pair[0].variance, pair[1].variance) for pair in estimates),
        components,
    )


class _Estimate(NamedTuple):
    design_effect: float
    variance: float = 0.0


def _forms(test: CellTest, cells: NDArray[np.intp]) -> tuple[_Estimate, _Estimate, tuple[float, ...]]:
    """What is estimated for statistics of each form, and by component; of categories the first for both."""
    series = _indicators(test, cells)
    overall = _estimated(series)
    if not test.ordered:
        return overall, overall, ()
    return overall, _estimated(series, leading=True), _components(test, cells)


def _components(test: CellTest, cells: NDArray[np.intp]) -> tuple[float, ...]:
    """The design effects of a number's first components, and the mean one of all that cells tell beyond these."""
    shares = test.shares[:-1] / test.shares[:-1].sum()
    scores = np.vstack([hermite_scores(np.cumsum(shares) - shares / 2), np.zeros(COMPONENTS)])[cells]
    own = [_estimated(score[:, np.newaxis] - score.mean()).design_effect for score in scores.T]
    unordered = CellTest(test.alpha, ordered=False)
    weights = unordered.weights(_WINDOW_ROWS)[:-1]
    told, freedom = captured(shares, weights), float(weights @ (shares * (1 - shares)))
    total = _estimated(_indicators(unordered, cells)).design_effect * freedom
    left = freedom - float(told.sum())
    return *own, max(1.0, (total - float(told @ own)) / left) if left > 0 else 1.0


def _indicators(test: CellTest, cells: NDArray[np.intp]) -> Matrix:
    """What the statistic averages and squares, centred and scaled by the roots of its weights: (n, j)."""
    codes = cells[:, np.newaxis]
    levels = np.arange(len(test.centre))
    inside = (codes <= levels) if test.ordered else (codes == levels)
    series = inside * np.sqrt(test.weights(_WINDOW_ROWS))
    return np.asarray(series - series.mean(axis=0), dtype=np.float64)


def _estimated(series: Matrix, *, leading: bool = False) -> _Estimate:
    """1 + 2 sum of autocorrelations, at least 1, of the components of a series (n, j), or of the first alone.

    The mean that was taken off makes each autocorrelation too small by the design effect / n; their sum is put right.
    """
    count = len(series)
    variances, directions = np.linalg.eigh(series.T @ series / count)
    chosen = variances > (1 - 1e-9 if leading else _LEAST_SHARE) * variances[-1]
    if variances[-1] < 1e-9:
        return _Estimate(1.0)
    pairs = _pairs(series @ directions[:, chosen] * np.sqrt(variances[chosen]), variances[chosen])
    if not len(pairs):
        return _Estimate(1.0)
    found = (2 * pairs.sum() - 1) / (1 - min(0.5, (4 * len(pairs) - 1) / count))
    return _Estimate(float(found), _variance(pairs, count)) if found > 1 else _Estimate(1.0)


def _pairs(components: Matrix, variances: Matrix) -> Matrix:
    """The sums (m,) of autocorrelations 0 and 1, 2 and 3, ... of all components (n, j) up to where noise begins.

    Empty where even the first autocorrelation is within one standard error: rows are then taken as independent.
    """
    count = len(components)
    spectrum = np.abs(np.fft.rfft(components, n=1 << (2 * count - 1).bit_length(), axis=0)) ** 2
    correlations = np.fft.irfft(spectrum.sum(axis=1))[: count // 2]
    correlations = correlations / correlations[0]
    noise = np.sqrt(2 * (variances**4).sum() / (variances**2).sum() ** 2 / count)
    pairs = correlations[: len(correlations) // 2 * 2].reshape(-1, 2).sum(axis=1)
    monotone = np.minimum.accumulate(pairs)
    below = np.append(monotone < _ABOVE_NOISE * noise, True)
    length = max(1, int(np.argmax(below)))
    return np.asarray(monotone[: 0 if length == 1 and monotone[0] - 1 < noise else length])


def _variance(pairs: Matrix, count: int) -> float:
    """The relative variance of the sum of so many autocorrelations of `count` rows.

    That is 2 / n times the mean square of the spectrum under the window that cuts the sum off, over its value at 0.
    """
    half = np.repeat(pairs / 2, 2)
    half[:2] = 1, pairs[0] - 1
    size = 1 << (8 * len(half)).bit_length()
    smoothed = _spectrum(half, size) * _spectrum(np.ones_like(half), size)
    return float(2 / count * (smoothed**2).mean() / (2 * pairs.sum() - 1) ** 2)


def _spectrum(half: Matrix, size: int) -> Matrix:
    """The transform (size,) of a symmetric sequence of which `half` (m,) holds lag 0 and above."""
    return np.asarray(2 * np.fft.fft(half, size).real - half[0])
