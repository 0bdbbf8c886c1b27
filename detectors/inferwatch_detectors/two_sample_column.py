"""Features judged by two-sample statistics: Kolmogorov-Smirnov all at once, divergences of cells one by one."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from inferwatch.reference.profile import Counts, FeatureProfile, NumericProfile
from inferwatch.rows import Feature, Matrix
from inferwatch_detectors.components import Matched, Widened, widening
from inferwatch_detectors.divergence import Divergence, DrawnNull, drawn_null, squared_kolmogorov
from inferwatch_detectors.effect import Effect, mean_shifts, total_variations
from inferwatch_detectors.effective_sample import EffectiveSample, component_effects, design_effects, mean_log_p
from inferwatch_detectors.tolerance import (
    TOTAL_VARIATION_PER_SD,
    SpreadSample,
    shift_steps,
    shifted_shares,
)
from inferwatch_detectors.two_sample import SortedSample, kolmogorov_smirnov, ks_log_p, largest_gap, sorted_windows
from inferwatch_detectors.verdict import Verdict, calibrated_size, described_change

Textbook = Callable[[SortedSample, Matrix, Matrix, Matrix], tuple[float | None, float | None]]
"""(reference, a window's column (n,), counts (k,) of both) -> the statistic to report and the log of its p-value; None
for a statistic that is not defined, and for a p-value that the null distribution of the divergence gives."""

_NOTHING = 0.3
"""Where n D^2 is at most this, p is above 0.8 and counts as 1: SciPy takes half a millisecond for one so near to 1."""
_FINE_CELLS = 64
_DECILES = 10


@dataclass(frozen=True, slots=True)
class Watched:
    """A feature with what the reference says about it, and the effective sample a row of live and reference rows."""

    feature: Feature
    profile: FeatureProfile
    sample: Matrix
    effective: EffectiveSample
    reference_effective: EffectiveSample

    def verdict(self, values: Matrix, statistic: float | None, plain_log_p: float, log_p: float) -> Verdict:
        """Return the verdict on the values (n,), with effect and change."""
        effect = self._effect(values)

        def change() -> str:
            weights = 1 / np.maximum(self.profile.counts, 0.5)
            return described_change(self.feature, self.profile, self._counts(values), weights, effect)

        return Verdict(self.feature.name, statistic, plain_log_p, log_p, effect, change)

    def _effect(self, values: Matrix) -> Effect:
        if isinstance(self.profile, NumericProfile):
            return mean_shifts(values[np.newaxis], [self.profile], np.array([self.effective.share]))[0]
        known, share = self.profile.counts[np.newaxis], np.array([self.effective.share])
        rows = known.sum(axis=1)
        return total_variations(self._counts(values)[np.newaxis], known / rows, rows, share)[0]

    def _counts(self, values: Matrix) -> Counts:
        return self.profile.counted(np.sort(values))


class KolmogorovColumns:
    """Numeric features judged by D, the p-value that of SciPy's asymptotic two-sample test.

    Where a smallest effect is tolerated, the distance counts from the band of all distributions between the reference
    shifted up and shifted down by it; at its edge only one side can alarm, so the test stays within its level. Ties
    make D smaller than the p-value assumes; where they are most values, a feature is judged as a `DivergenceColumn`.
    """

    def __init__(self, columns: Sequence[Watched], smallest_effect: float) -> None:
        self._columns = columns
        self._samples = [SortedSample.of(column.sample) for column in columns]
        self._spreads = [SpreadSample.of(column.sample) if smallest_effect else None for column in columns]
        self._reach = [smallest_effect * sample.sd for sample in self._samples]
        self._rows = np.array([len(sample.values) for sample in self._samples], dtype=np.int64)
        self._widened: tuple[bytes, Widened] = b"", Widened(np.empty(0), np.empty(0))

    def judge(self, values: Matrix) -> list[Verdict]:
        """Return the verdict on the values (d, n) of each feature."""
        windows = sorted_windows(values)
        rows = np.array([len(window) for window in windows], dtype=np.float64)
        gaps = np.array([self._gaps(place, window) for place, window in enumerate(windows)]).reshape(-1, 2)
        judged = np.flatnonzero((self._rows > 0) & (rows > 0))
        plain, decisive = np.zeros(len(values)), np.zeros(len(values))
        plain[judged] = ks_log_p(gaps[judged, 0], self._rows[judged], rows[judged])
        decisive[judged] = self._decisive(judged, gaps[judged, 1], rows[judged])
        known = set(judged.tolist())
        return [
            column.verdict(values[place], float(gaps[place, 0]) if place in known else None, plain[place], log_p)
            for place, (column, log_p) in enumerate(zip(self._columns, decisive.tolist(), strict=True))
        ]

    def _decisive(self, judged: NDArray[np.intp], gaps: Matrix, rows: Matrix) -> Matrix:
        """The log p-values (j,) of distances, made as rare as those of independent rows are."""
        if not len(judged):
            return np.empty(0)
        totals = self._rows[judged]
        columns = [self._columns[place] for place in judged.tolist()]
        live, reference = [each.effective for each in columns], [each.reference_effective for each in columns]
        key = judged.tobytes() + rows.tobytes()
        if key != self._widened[0]:
            self._widened = key, widening(component_effects(rows, totals, live, reference))
        both = rows * totals / (rows + totals)
        squares = self._widened[1](both * gaps**2)
        log_p, told = np.zeros(squares.shape), squares > _NOTHING
        each = np.flatnonzero(told) // squares.shape[1]
        log_p[told] = ks_log_p(np.sqrt(squares / both[:, np.newaxis])[told], totals[each], rows[each])
        return mean_log_p(log_p)

    def _gaps(self, place: int, window: Matrix) -> tuple[float, float]:
        """D, and the distance from the band."""
        sample, spread, reach = self._samples[place], self._spreads[place], self._reach[place]
        if not len(window) or not len(sample.values):
            return 0.0, 0.0
        gap = kolmogorov_smirnov(sample, window)
        if spread is None or reach == 0:
            return gap, gap
        below, within = sample.positions(window)
        at = spread.below(window)
        lower = below / len(sample.values) - (at - spread.below(window - reach))
        upper = within / len(sample.values) + (spread.below(window + reach) - at)
        return gap, min(gap, largest_gap(lower, upper, window))


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells that a divergence counts in: `counts` (k,) of the reference's rows, `gaps` (k - 1,) between their middles.

    The last of `missing` cells holds missing values; without one they are left out. A textbook statistic takes those
    together that begin at `starts`; all by themselves where it is empty.
    """

    counts: Matrix
    gaps: Matrix
    place: Callable[[Matrix], NDArray[np.intp]]
    edges: Matrix | None = None
    missing: bool = True
    starts: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, np.intp))

    @classmethod
    def deciles(cls, sample: Matrix) -> Cells:
        """Return the 10 cells between the deciles of a sample (n,), fewer where they coincide, and one for missing.

        Below and above all of the sample lie cells of their own, which a textbook statistic counts to those beside
        them. Of a sample that does not vary they are below, at and above its value, and missing.
        """
        present = sample[~np.isnan(sample)]
        deciles = np.unique(np.quantile(present, np.arange(1, _DECILES) / _DECILES)) if len(present) else present
        edges = _bounded(present, deciles)
        inner = edges if len(edges) == 2 else deciles  # of a single value: below and above

        def place(values: Matrix) -> NDArray[np.intp]:
            return np.where(np.isnan(values), len(edges) + 1, np.searchsorted(edges, values, side="left"))

        starts = np.concatenate([[0], np.searchsorted(edges, inner) + 1, [len(edges) + 1]])
        return cls(_counted(place(sample), len(edges) + 2), np.empty(0), place, edges, starts=starts)

    @classmethod
    def ranked(cls, sample: Matrix) -> Cells:
        """Return up to 64 quantile cells of a sample (n,) and one each for what lies below and above all of it.

        Without gaps, which ranks do not know: continuous features then share one null distribution.
        """
        present = np.sort(sample[~np.isnan(sample)])
        places = (np.arange(1, _FINE_CELLS) * len(present)) // _FINE_CELLS
        edges = _bounded(present, present[places] if len(present) else present)

        def place(values: Matrix) -> NDArray[np.intp]:
            return np.searchsorted(edges, values[~np.isnan(values)], side="left")

        return cls(_counted(place(sample), len(edges) + 1), np.empty(0), place, edges, missing=False)

    @classmethod
    def spaced(cls, sample: Matrix, sd: float) -> Cells:
        """Return the ranked cells of a sample (n,) with gaps in units of `sd`, the outermost as those beside them.

        Of a sample that does not vary gaps are 1.
        """
        cells = cls.ranked(sample)
        present = sample[~np.isnan(sample)]
        if not len(present):
            return cells
        sums = np.bincount(cells.place(present), weights=present, minlength=len(cells.counts))
        inner = np.diff(sums[1:-1] / cells.counts[1:-1]) / (sd or 1.0)
        return replace(cells, gaps=np.pad(inner, 1, mode="edge") if len(inner) else np.ones(2))

    @cached_property
    def alpha(self) -> Matrix:
        """The parameters (k,) of the Dirichlet of the cells' shares, given the reference: as in `CellTest`."""
        prior = np.full(len(self.counts), 0.5)
        if len(self.starts):
            prior[[0, -2]] = 1.0
        return np.where(self.counts > 0, self.counts, prior)

    def together(self, counts: Matrix) -> Matrix:
        """Return counts (k,) as a textbook statistic takes them."""
        return np.add.reduceat(counts, self.starts) if len(self.starts) else counts

    @classmethod
    def categories(cls, profile: FeatureProfile) -> Cells:
        """Return the cells of a category's profile."""
        return cls(profile.counts.astype(np.float64), np.empty(0), profile.cells)


def _bounded(present: Matrix, inner: Matrix) -> Matrix:
    """The edges of cells, with those below and above all that is present; of a single value, its own cell's."""
    if not len(present):
        return present
    return np.unique(np.concatenate([[np.nextafter(present.min(), -np.inf)], inner, [present.max()]]))


def _counted(cells: NDArray[np.intp], count: int) -> Matrix:
    return np.bincount(cells, minlength=count).astype(np.float64)


@dataclass(frozen=True, eq=False)
class DivergenceColumn:
    """A feature judged by a divergence between the cells of window and reference."""

    watched: Watched
    cells: Cells
    divergence: Divergence
    textbook: Textbook
    window_rows: int
    draws: int
    tolerated: Matrix = field(repr=False)
    radius: float
    sample: SortedSample = field(repr=False)
    matched: dict[int, Matched | Widened] = field(default_factory=dict, repr=False)

    @classmethod
    def of(
        cls,
        watched: Watched,
        cells: Cells,
        divergence: Divergence,
        textbook: Textbook,
        *,
        smallest_effect: float,
        window_rows: int,
        draws: int,
    ) -> DivergenceColumn:
        """Return the prepared feature; `draws` windows are drawn for a null distribution."""
        sample = SortedSample.of(watched.sample)
        tolerated = cells.counts[np.newaxis]
        if smallest_effect > 0 and cells.edges is not None and len(cells.edges):
            tolerated = _shifted_counts(cells, cells.edges, sample, smallest_effect * sample.sd)
        radius = smallest_effect * TOTAL_VARIATION_PER_SD if cells.edges is None else 0.0
        column = cls(watched, cells, divergence, textbook, window_rows, draws, tolerated, radius, sample)
        if column._comparable:
            column._null(window_rows)
        return column

    def judge(self, values: Matrix) -> Verdict:
        """Return the verdict on the values (n,)."""
        counts = _counted(self.cells.place(values), len(self.cells.counts))
        rows = int(counts.sum())
        if not self._comparable or not rows:
            return self.watched.verdict(values, None, 0.0, 0.0)
        size = calibrated_size(rows, self.window_rows)
        null = self._null(size)
        plain = float(self.divergence(self.cells.counts, counts, self.cells.gaps))
        least = min(plain, float(self.divergence(self._nearest(counts), counts, self.cells.gaps).min()))
        statistic, log_p = self.textbook(self.sample, values, *map(self.cells.together, (self.cells.counts, counts)))
        calibrated, decisive = mean_log_p(
            null.log_survival(self._brought(np.array([plain, least]), rows, size))
        ).tolist()
        return self.watched.verdict(values, statistic, calibrated if log_p is None else log_p, decisive)

    @property
    def _comparable(self) -> bool:
        """Whether there are two cells to compare."""
        return len(self.cells.counts) > 1 and bool(self.cells.counts.sum() > 0)

    def _brought(self, divergences: Matrix, rows: int, size: int) -> Matrix:
        """What divergences (s,) of so many rows may be on the scale of a null distribution (s, m)."""
        total = float(self.cells.counts.sum())
        divergences = divergences * (1 / size + 1 / total) / (1 / rows + 1 / total)
        dependent = np.array([total]), [self.watched.effective], [self.watched.reference_effective]
        shares = self.cells.counts[self.cells.counts > 0] / total
        freedom = len(shares) - 1
        if not self.watched.effective.components or not freedom:
            return np.asarray(divergences[:, np.newaxis] / design_effects(rows, *dependent))
        if size not in self.matched:
            ordered = not self.cells.missing  # fine cells are compared by their cumulated shares
            effects = component_effects(size, *dependent, alike=[0 if ordered else freedom])
            self.matched[size] = self._matched(size, shares, effects, ordered)
        return self.matched[size](divergences)

    def _matched(self, size: int, shares: Matrix, effects: Matrix, ordered: bool) -> Matched | Widened:
        """What brings divergences of dependent rows to those of independent ones, for design effects (1, m, 7)."""
        if self.divergence is squared_kolmogorov:
            wide, constant = widening(effects, np.cumsum(shares)[:-1])
            return Widened(wide[0], constant[0] * (1 / size + 1 / float(self.cells.counts.sum())))
        mean = max(float(self._null(size).drawn.mean()), 1e-300)  # the stability of a row or two is always 0
        weights = (shares[:-1] + shares[1:]) / 2 if ordered else 1 / shares
        return Matched.of(shares, weights, effects[0], (mean, mean), ordered=ordered)

    def _nearest(self, counts: Matrix) -> Matrix:
        """The reference's counts (s, k) under every shift that is tolerated, or moved towards the window's."""
        if self.radius == 0:
            return self.tolerated
        total = self.cells.counts.sum()
        shares, found = self.cells.counts / total, counts / counts.sum()
        distance = float(np.abs(found - shares).sum()) / 2
        reached = shares + min(1.0, self.radius / max(distance, 1e-300)) * (found - shares)
        return np.asarray(reached[np.newaxis] * total)

    def _null(self, size: int) -> DrawnNull:
        return drawn_null(self.divergence, self.cells.alpha, self.cells.gaps, size, self.draws)


def _shifted_counts(cells: Cells, edges: Matrix, sample: SortedSample, reach: float) -> Matrix:
    present = cells.counts[:-1] if cells.missing else cells.counts
    total = cells.counts.sum()
    shares = shifted_shares(present / total, sample.values, edges, shift_steps(reach), 0.5 / total)
    shifted = shares * total
    return np.column_stack([shifted, np.full(len(shifted), cells.counts[-1])]) if cells.missing else shifted


def draws_for(cells: int, cell_draws: int) -> int:
    """Return how many windows are drawn for each of several nulls with so many cells in all; a power of two."""
    draws = min(32_768, max(4_096, cell_draws // max(1, cells)))
    return 1 << int(math.log2(draws))
