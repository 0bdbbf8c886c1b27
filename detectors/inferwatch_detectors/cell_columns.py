"""Features judged together, by the cells of the reference's profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inferwatch.reference import Reference
from inferwatch.reference.profile import Counts, FeatureProfile, NumericProfile
from inferwatch.rows import Feature, Matrix
from inferwatch_detectors.cells import CellTest, CellTests, beside
from inferwatch_detectors.components import Matched
from inferwatch_detectors.effect import Effect, mean_shifts, total_variations
from inferwatch_detectors.effective_sample import EffectiveSample, component_effects, design_effects, mean_log_p
from inferwatch_detectors.null_distribution import CELL_DRAWS, NullDistribution, null_distributions
from inferwatch_detectors.tolerance import TOTAL_VARIATION_PER_SD, Ball, Shifts, Tolerance
from inferwatch_detectors.two_sample import chi_square
from inferwatch_detectors.verdict import Verdict, calibrated_size, described_change


class CellColumns:
    """Features of a reference, prepared for windows of any number of rows; their null distributions are drawn once.

    `places` are those that are judged, of all features. With `chi_square` numbers too are judged by unordered cells,
    and the statistic and the p-value reported are those of the plain chi-square test of the two rows of counts; the
    score follows from the same null distribution as without. `effective` is the effective sample a row of each feature.
    """

    def __init__(
        self,
        reference: Reference,
        places: Sequence[int],
        smallest_effect: float,
        effective: Sequence[EffectiveSample],
        window_rows: int,
        *,
        cell_draws: int = CELL_DRAWS,
        chi_square: bool = False,
    ) -> None:
        self._window_rows = window_rows
        self._cell_draws = cell_draws
        kinds = [isinstance(reference.profile.features[place], NumericProfile) for place in places]
        self._groups = [
            _Group(reference, chosen, smallest_effect, effective, chi_square)
            for numeric in (True, False)
            if (chosen := [place for place, kind in zip(places, kinds, strict=True) if kind == numeric])
        ]
        self._nulls: dict[int, list[list[NullDistribution]]] = {}
        self._null(window_rows)

    def judge(self, values: Matrix) -> list[Verdict]:
        """Return the verdicts on the rows (n, d) of all features, in the order of the features that are judged."""
        size = calibrated_size(len(values), self._window_rows)
        found = [
            verdict
            for group, nulls in zip(self._groups, self._null(size), strict=True)
            for verdict in zip(group.places, group.judge(values, nulls, size), strict=True)
        ]
        return [verdict for _, verdict in sorted(found, key=lambda pair: pair[0])]

    def _null(self, size: int) -> list[list[NullDistribution]]:
        if size not in self._nulls:
            tests = [test for group in self._groups for test in group.tests.each]
            drawn = iter(null_distributions(tests, size, self._cell_draws))
            self._nulls[size] = [[next(drawn) for _ in group.places] for group in self._groups]
        return self._nulls[size]


@dataclass(frozen=True, slots=True)
class _Scale:
    """What brings the statistics of so many rows to the scale of a null distribution.

    That is a factor (d, m), or for chi-square over numbers what is as rare where rows are independent.
    """

    rows: int
    size: int
    factors: Matrix
    matched: Sequence[Matched] = ()

    def __call__(self, statistics: Matrix) -> Matrix:
        """Return what statistics (d, s) are there (d, s, m)."""
        if not self.matched:
            return np.asarray(statistics[:, :, np.newaxis] * self.factors[:, np.newaxis])
        return np.array([each(own) for each, own in zip(self.matched, statistics, strict=True)])


class _Group:
    """Features of one kind, numbers or categories."""

    def __init__(
        self,
        reference: Reference,
        places: Sequence[int],
        smallest_effect: float,
        effective: Sequence[EffectiveSample],
        chi_square: bool,
    ) -> None:
        self.places = places
        self._features: list[Feature] = [reference.schema.features[place] for place in places]
        self._profiles: list[FeatureProfile] = [reference.profile.features[place] for place in places]
        self._counts = beside([profile.counts for profile in self._profiles])
        self._live = [effective[place] for place in places]
        self._reference = self._live if reference.ordered else [EffectiveSample()] * len(places)
        self._share = np.array([sample.share for sample in self._live])
        self._chi_square = chi_square
        radius = smallest_effect * TOTAL_VARIATION_PER_SD
        tests = [CellTest.of(profile, radius) for profile in self._profiles]
        if chi_square:
            tests = [CellTest(test.alpha, ordered=False, least_share=test.least_share) for test in tests]
        self.tests = CellTests(tests)
        self._numbers = [profile for profile in self._profiles if isinstance(profile, NumericProfile)]
        self._tolerance: Tolerance | None = None
        if smallest_effect > 0:
            samples = [reference.rows[:, place] for place in places]
            self._tolerance = (
                Shifts(self.tests, self._numbers, samples, smallest_effect)
                if self._numbers
                else Ball(self.tests, radius)
            )
        self._scale: _Scale | None = None

    def judge(self, values: Matrix, nulls: Sequence[NullDistribution], size: int) -> list[Verdict]:
        """Return the verdicts on the rows (n, d), with the null distributions of windows of `size` rows."""
        columns = np.ascontiguousarray(values.T[self.places])
        if self._numbers:
            columns.sort(axis=1)
        counts = [profile.counted(column) for profile, column in zip(self._profiles, columns, strict=True)]
        together = beside(counts)
        statistics = self.tests.statistics(together)
        least = statistics
        if self._tolerance is not None:
            least = np.minimum(statistics, self._tolerance.least(together))
        brought = self._scaled(len(values), size)(np.stack([statistics, least], axis=1))
        log_p = _log_survival(nulls, brought)
        plain, decisive = mean_log_p(log_p).T
        if self._chi_square:
            statistics, plain = chi_square(self._counts, together)
        effects = self._effects(columns, together)
        found = zip(statistics.tolist(), plain.tolist(), decisive.tolist(), effects, strict=True)
        return [self._verdict(place, counts[place], *said) for place, said in enumerate(found)]

    def _verdict(
        self, place: int, counts: Counts, statistic: float, plain: float, decisive: float, effect: Effect
    ) -> Verdict:
        feature, profile, test = self._features[place], self._profiles[place], self.tests.each[place]

        def change() -> str:
            return described_change(feature, profile, counts, test.weights(int(counts.sum())), effect)

        return Verdict(feature.name, statistic, plain, decisive, effect, change)

    def _scaled(self, rows: int, size: int) -> _Scale:
        known = self._scale
        if known is None or (known.rows, known.size) != (rows, size):
            each = self.tests.each
            dependent = np.array([test.total for test in each]), self._live, self._reference
            means = np.array([[test.mean(size) / test.mean(rows)] for test in each])
            matched: Sequence[Matched] = ()
            if self._chi_square and any(sample.components for sample in self._live):
                freedoms = [max(0, int((profile.counts > 0).sum()) - 1) for profile in self._profiles]
                matched = [
                    Matched.of(
                        test.shares, test.weights(rows), effects, (test.mean(rows), test.mean(size)), ordered=False
                    )
                    for test, effects in zip(each, component_effects(rows, *dependent, freedoms), strict=True)
                ]
            known = self._scale = _Scale(rows, size, means / design_effects(rows, *dependent), matched)
        return known

    def _effects(self, columns: Matrix, counts: Counts) -> list[Effect]:
        if self._numbers:
            return mean_shifts(columns, self._numbers, self._share)
        rows = self._counts.sum(axis=1)
        return total_variations(counts, self._counts / rows[:, np.newaxis], rows, self._share)


def _log_survival(nulls: Sequence[NullDistribution], statistics: Matrix) -> Matrix:
    """The log p-values of statistics (d, ...), each by its feature's distribution; features may share one."""
    result = np.empty_like(statistics)
    users: dict[int, list[int]] = {}
    for place, null in enumerate(nulls):
        users.setdefault(id(null), []).append(place)
    for places in users.values():
        result[places] = nulls[places[0]].log_survival(statistics[places])
    return result
