"""Drift of a window's rows against the reference's cells, with false alarms as often as promised."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from inferwatch.errors import InvalidRows, UnkeepablePromise
from inferwatch.finding import FeatureFinding, Finding, Window
from inferwatch.profile import Counts, FeatureProfile, NumericProfile
from inferwatch.promise import Promise
from inferwatch.reference import Reference
from inferwatch.rows import Batch, Feature, Matrix
from inferwatch_detectors.cell_test import CellTest
from inferwatch_detectors.dependence import Dependence
from inferwatch_detectors.effect import Effect, mean_shift, total_variation, two_digits
from inferwatch_detectors.null_distribution import CELL_DRAWS, NullDistribution, null_distributions
from inferwatch_detectors.tolerance import TOTAL_VARIATION_PER_SD, Ball, Exact, Shifts, Tolerance

_LN10 = math.log(10)
_NS_PER_S = 1_000_000_000
_EXACT_SIZES = 32


class HistogramDrift:
    """Compares windows with a reference, feature by feature, and fires as often as the promise allows.

    Numbers are judged by Anderson-Darling on the reference's quantile bins, categories by chi-square, with missing
    values, values outside the reference's range and unlisted categories in cells of their own (`cell_test`). P-values
    come from the Dirichlet-multinomial null (`null_distribution`), joined over features by Sidak's 1 - (1 - p)^d. Where
    `smallest_effect` is above 0, the null is "no shift beyond it", in reference standard deviations for numbers and a
    fifth of it in total variation for categories (`tolerance`). `dependence` reduces the window's rows to effective
    ones.

    A finding's and a feature's `score` is -log10 of the p-value after both corrections, at most 300; the threshold is
    -log10 of the alarm probability that the promise grants the window. A feature's `statistic` and `p_value` are plain:
    against the reference itself, for this feature alone. Preparing costs up to a second, once for a window size, in
    proportion to `cell_draws`; a window costs about a quarter of a microsecond a value.

    >>> from inferwatch.rows import Column, Rows
    >>> random = np.random.default_rng(7)
    >>> ages = Rows((Column("age", random.normal(40, 10, 5000)),), 5000)
    >>> reference = Reference.build(ages, created_ns=0)
    >>> detector = HistogramDrift(reference, window_rows=500, promise=Promise(1000))
    >>> [finding] = detector.observe(Batch.of(random.normal(34, 10, (500, 1))))
    >>> finding.fired, finding.why
    (True, 'age fell by 0.59 sd; 1 of 1 features changed: age')
    """

    def __init__(
        self,
        reference: Reference,
        *,
        window_rows: int,
        promise: Promise,
        smallest_effect: float = 0.1,
        dependence: Dependence | None = None,
        cell_draws: int = CELL_DRAWS,
    ) -> None:
        if window_rows < 1 or not 0 <= smallest_effect < 5:
            raise ValueError(f"window_rows {window_rows} is at least 1, smallest_effect {smallest_effect} in [0, 5)")
        features = reference.schema.features
        self._promise = promise
        self._smallest_effect = smallest_effect
        self._dependence = dependence or Dependence.independent(len(features))
        if len(self._dependence.effective) != len(features):
            raise InvalidRows(f"the dependence is of {len(self._dependence.effective)} features, not {len(features)}")
        _refuse_unkeepable(reference.count, window_rows, len(features), promise)
        columns = zip(features, reference.profile.features, reference.rows.T, self._dependence.effective, strict=True)
        self._columns = tuple(
            _Column.of(feature, profile, sample, effective, reference.ordered, smallest_effect)
            for feature, profile, sample, effective in columns
        )
        self._window_rows = window_rows
        self._cell_draws = cell_draws
        self._nulls: dict[int, list[NullDistribution]] = {}
        self._null(window_rows)

    def observe(self, batch: Batch, /) -> list[Finding]:
        """Return one finding about the whole batch, taken as one window of any number of rows.

        Raises `InvalidRows` for another width than the reference's, or no rows.
        """
        rows = len(batch)
        if not rows or batch.values.ndim != 2 or batch.values.shape[1] != len(self._columns):
            raise InvalidRows(f"rows have shape {batch.values.shape}; at least one, of {len(self._columns)} columns")
        size = self._calibrated_size(rows)
        verdicts = [
            column.judge(batch.values[:, index], null, size)
            for index, (column, null) in enumerate(zip(self._columns, self._null(size), strict=True))
        ]
        window = Window(int(batch.times_ns.min()), int(batch.times_ns.max()), rows)
        granted = self._promise.alarm_probability(rows, max(0, window.to_ns - batch.since_ns))
        return [self._finding(verdicts, window, -math.log10(granted))]

    def _finding(self, verdicts: list[_Verdict], window: Window, threshold: float) -> Finding:
        corrected = [replace(verdict, score=_sidak(verdict.log_p, len(verdicts))) for verdict in verdicts]
        corrected.sort(key=lambda verdict: (-verdict.score, verdict.plain_log_p))
        features = tuple(verdict.finding(threshold) for verdict in corrected)
        score = features[0].score
        return Finding(
            kind="drift",
            method="histogram",
            score=score,
            threshold=threshold,
            time_ns=window.to_ns,
            window=window,
            p_value=10**-score,
            features=features,
            assumption=self._dependence.assumption,
            why=self._why(corrected, [feature.name for feature in features if feature.fired]),
        )

    def _why(self, verdicts: list[_Verdict], changed: list[str]) -> str:
        if not changed:
            return f"no feature changed{f' beyond {self._smallest_effect:g} sd' if self._smallest_effect else ''}"
        shown = ", ".join(changed[:5]) + (", ..." if len(changed) > 5 else "")
        return f"{verdicts[0].change}; {len(changed)} of {len(verdicts)} features changed: {shown}"

    def _calibrated_size(self, rows: int) -> int:
        """The window size whose null distribution serves: the same up to 32 rows, else within 5 %."""
        if rows <= _EXACT_SIZES or rows == self._window_rows:
            return rows
        return round(_EXACT_SIZES * 1.1 ** round(math.log(rows / _EXACT_SIZES, 1.1)))

    def _null(self, size: int) -> list[NullDistribution]:
        if size not in self._nulls:
            self._nulls[size] = null_distributions([column.test for column in self._columns], size, self._cell_draws)
        return self._nulls[size]


@dataclass(frozen=True, slots=True)
class _Verdict:
    name: str
    statistic: float
    plain_log_p: float
    log_p: float
    effect: Effect
    change: str
    score: float = 0.0

    def finding(self, threshold: float) -> FeatureFinding:
        p_value = math.exp(max(self.plain_log_p, -300 * _LN10))
        fired = self.score > threshold
        return FeatureFinding(self.name, self.score, self.statistic, p_value, *self.effect, fired=fired)


@dataclass(frozen=True, slots=True)
class _Column:
    """One feature of the reference, prepared."""

    feature: Feature
    profile: FeatureProfile
    test: CellTest
    tolerance: Tolerance
    effective: float
    reference_effective: float

    @classmethod
    def of(
        cls,
        feature: Feature,
        profile: FeatureProfile,
        sample: Matrix,
        effective: float,
        ordered: bool,
        smallest_effect: float,
    ) -> _Column:
        radius = smallest_effect * TOTAL_VARIATION_PER_SD
        test = CellTest.of(profile, radius)
        tolerance: Tolerance = Exact(test)
        if smallest_effect > 0 and isinstance(profile, NumericProfile):
            tolerance = Shifts(test, profile, sample, smallest_effect)
        elif smallest_effect > 0:
            tolerance = Ball(test, radius)
        return cls(feature, profile, test, tolerance, effective, effective if ordered else 1.0)

    def judge(self, values: Matrix, null: NullDistribution, size: int) -> _Verdict:
        """Return the verdict on the values (n,), with the null distribution of windows of `size` rows."""
        rows = len(values)
        counts = np.bincount(self.profile.cells(values), minlength=len(self.test.alpha)).astype(np.int64)
        scale = self.test.mean(size) / (self.test.mean(rows) * self._design_effect(rows))
        statistic = float(self.test.statistic(counts))
        effect = self._effect(values, counts)
        return _Verdict(
            self.feature.name,
            statistic,
            null.log_survival(statistic * scale),
            null.log_survival(min(statistic, self.tolerance.least(counts)) * scale),
            effect,
            _change(self.feature, self.profile, self.test, counts, effect),
        )

    def _design_effect(self, rows: int) -> float:
        """The variance of the window's shares about the reference's, against that of independent rows."""
        ratio = rows / self.test.total
        return (1 / self.effective + ratio / self.reference_effective) / (1 + ratio)

    def _effect(self, values: Matrix, counts: Counts) -> Effect:
        if isinstance(self.profile, NumericProfile):
            return mean_shift(values, self.profile, self.effective)
        shares = self.profile.counts / self.profile.counts.sum()
        return total_variation(counts, shares, float(self.profile.counts.sum()), self.effective)


def _sidak(log_p: float, features: int) -> float:
    """-log10(1 - (1 - p)^features), at most 300."""
    if log_p > -30:
        family = -math.expm1(features * math.log1p(-min(math.exp(log_p), 1 - 1e-16)))
        return max(0.0, -math.log10(family))
    return min(300.0, -(log_p + math.log(features)) / _LN10)


def _change(feature: Feature, profile: FeatureProfile, test: CellTest, counts: Counts, effect: Effect) -> str:
    """What happened to a feature, in a few words: its mean moved, or the cell that gained or lost most."""
    moved = counts / counts.sum() - profile.counts / profile.counts.sum()
    if isinstance(profile, NumericProfile):
        if abs(moved[-1]) >= 0.5 * np.abs(moved).sum() / 2 and moved[-1] != 0:
            return _share(f"missing {feature.name}", profile, counts, len(counts) - 1)
        if effect.value is None:
            return f"{feature.name} left the one value it had"
        if abs(effect.value) < 0.05:
            return f"{feature.name} changed its shape"
        return f"{feature.name} {'rose' if effect.value > 0 else 'fell'} by {two_digits(abs(effect.value))} sd"
    cell = int(np.argmax(test.weights(int(counts.sum())) * moved**2))
    names = [*map(repr, feature.categories), "unlisted", "missing"]
    return _share(f"{feature.name} {names[cell]}", profile, counts, cell)


def _share(what: str, profile: FeatureProfile, counts: Counts, cell: int) -> str:
    before, after = profile.counts[cell] / profile.counts.sum(), counts[cell] / counts.sum()
    direction = "rose" if after > before else "fell"
    return f"{what} {direction} from {two_digits(100 * before)} % to {two_digits(100 * after)} %"


def _refuse_unkeepable(count: int, window_rows: int, features: int, promise: Promise) -> None:
    """Refuse a promise under which a window that differs as plainly as can be would still raise no alarm.

    The plain case: more than half of a window's rows lie beyond every row of the reference. Where nothing changed, that
    has the probability n! (n + m - h)! / ((n - h)! (n + m)!) for h of n rows and a reference of m. A promise in days is
    taken for windows of a second.
    """
    level = promise.alarm_probability(window_rows, _NS_PER_S) / features
    needed = count
    while _beyond_all(window_rows, needed) > math.log(level):
        needed = max(needed + 1, round(needed * 1.02))
    if needed > count:
        raise UnkeepablePromise(
            f"{promise} needs a reference of at least {needed:,} rows for windows of {window_rows:,} rows and "
            f"{features} features; this has {count:,}"
        )


def _beyond_all(rows: int, count: int) -> float:
    half = rows // 2 + 1
    return (
        math.lgamma(rows + 1)
        - math.lgamma(rows - half + 1)
        + math.lgamma(rows + count - half + 1)
        - math.lgamma(rows + count + 1)
    )
