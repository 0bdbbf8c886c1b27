"""One feature judged by the cells of the reference's profile."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from inferwatch.reference import Reference
from inferwatch.reference.profile import Counts, FeatureProfile, NumericProfile
from inferwatch.rows import Feature, Matrix
from inferwatch_detectors.cells import CellTest
from inferwatch_detectors.effect import Effect, mean_shift, total_variation
from inferwatch_detectors.effective_sample import EffectiveSample, design_effects, mean_log_p
from inferwatch_detectors.null_distribution import NullDistribution
from inferwatch_detectors.tolerance import TOTAL_VARIATION_PER_SD, Ball, Exact, Shifts, Tolerance
from inferwatch_detectors.two_sample import chi_square
from inferwatch_detectors.verdict import Verdict, described_change


def cell_columns(
    reference: Reference, smallest_effect: float, effective: Sequence[EffectiveSample], *, chi_square: bool = False
) -> tuple[CellColumn, ...]:
    """Return the features of a reference, prepared; with `chi_square` numbers too are judged by unordered cells.

    `effective` (d,) is the effective sample a row of each.
    """
    columns = zip(reference.schema.features, reference.profile.features, reference.rows.T, effective, strict=True)
    return tuple(
        CellColumn.of(feature, profile, sample, share, reference.ordered, smallest_effect, chi_square)
        for feature, profile, sample, share in columns
    )


@dataclass(frozen=True, slots=True)
class CellColumn:
    """One feature of the reference, prepared: judged by the cells that its values fall into.

    With `chi_square` the statistic and the p-value reported are those of the plain chi-square test of the two rows of
    counts; the score follows from the same null distribution as without.
    """

    feature: Feature
    profile: FeatureProfile
    test: CellTest
    tolerance: Tolerance
    effective: EffectiveSample
    reference_effective: EffectiveSample
    chi_square: bool

    @classmethod
    def of(
        cls,
        feature: Feature,
        profile: FeatureProfile,
        sample: Matrix,
        effective: EffectiveSample,
        ordered_rows: bool,
        smallest_effect: float,
        chi_square: bool,
    ) -> CellColumn:
        """Return the feature's test and what it tolerates; `ordered_rows`: the reference is in time order."""
        radius = smallest_effect * TOTAL_VARIATION_PER_SD
        test = CellTest.of(profile, radius)
        if chi_square and test.ordered:
            test = CellTest(test.alpha, ordered=False)
        tolerance: Tolerance = Exact(test)
        if smallest_effect > 0 and isinstance(profile, NumericProfile):
            tolerance = Shifts(test, profile, sample, smallest_effect)
        elif smallest_effect > 0:
            tolerance = Ball(test, radius)
        reference_effective = effective if ordered_rows else EffectiveSample()
        return cls(feature, profile, test, tolerance, effective, reference_effective, chi_square)

    def judge(self, values: Matrix, null: NullDistribution, size: int) -> Verdict:
        """Return the verdict on the values (n,), with the null distribution of windows of `size` rows."""
        rows = len(values)
        counts = np.bincount(self.profile.cells(values), minlength=len(self.test.alpha)).astype(np.int64)
        effects = design_effects(rows, self.test.total, self.effective, self.reference_effective)
        scale = self.test.mean(size) / (self.test.mean(rows) * effects)
        statistic = float(self.test.statistic(counts))
        textbook = statistic, mean_log_p(null.log_survival(statistic * scale))
        effect = self._effect(values, counts)
        return Verdict(
            self.feature.name,
            *(chi_square(self.profile.counts, counts) if self.chi_square else textbook),
            mean_log_p(null.log_survival(min(statistic, self.tolerance.least(counts)) * scale)),
            effect,
            lambda: described_change(self.feature, self.profile, counts, self.test.weights(rows), effect),
        )

    def _effect(self, values: Matrix, counts: Counts) -> Effect:
        if isinstance(self.profile, NumericProfile):
            return mean_shift(values, self.profile, self.effective.share)
        shares = self.profile.counts / self.profile.counts.sum()
        return total_variation(counts, shares, float(self.profile.counts.sum()), self.effective.share)
