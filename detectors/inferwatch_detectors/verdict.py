"""Verdicts on the features of one window, and the finding that they make together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from inferwatch.errors import InvalidRows, UnkeepablePromise
from inferwatch.finding import FeatureFinding, Finding, Window
from inferwatch.listing import listed
from inferwatch.promise import Promise
from inferwatch.reference import Reference
from inferwatch.reference.profile import LARGEST, Counts, FeatureProfile, NumericProfile
from inferwatch.rows import Batch, Feature, Matrix
from inferwatch_detectors.dependence import Dependence
from inferwatch_detectors.effect import Effect, two_digits

_LN10 = math.log(10)
_NS_PER_S = 1_000_000_000
_EXACT_SIZES = 32


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a test says about one feature of a window.

    `statistic` and `plain_log_p` are against the reference itself, `log_p` is the one that decides: beyond the smallest
    effect, with the rows' dependence taken into account. `change` tells in a few words what happened.
    """

    name: str
    statistic: float | None
    plain_log_p: float
    log_p: float
    effect: Effect
    change: Callable[[], str]

    def finding(self, score: float, threshold: float) -> FeatureFinding:
        """Return what a finding says about the feature."""
        p_value = math.exp(max(self.plain_log_p, -300 * _LN10))
        return FeatureFinding(self.name, score, self.statistic, p_value, *self.effect, fired=score > threshold)


@dataclass(frozen=True, slots=True)
class DriftRule:
    """What the verdicts on a window have in common: the method, the promise, and the assumptions."""

    method: str
    promise: Promise
    smallest_effect: float
    dependence: Dependence

    @classmethod
    def of(
        cls,
        method: str,
        reference: Reference,
        window_rows: int,
        promise: Promise,
        smallest_effect: float,
        dependence: Dependence | None,
        *,
        by_sample: bool = False,
    ) -> DriftRule:
        """Return the rule; `by_sample` says that windows are compared with the rows that the reference keeps.

        Raises `UnkeepablePromise` for a promise that the reference, or its sample, is too small to carry.
        """
        if window_rows < 1 or not 0 <= smallest_effect < 5:
            raise ValueError(f"window_rows {window_rows} is at least 1, smallest_effect {smallest_effect} in [0, 5)")
        features = len(reference.schema.features)
        dependence = dependence or Dependence.independent(features)
        if len(dependence.effective) != features:
            raise InvalidRows(f"the dependence is of {len(dependence.effective)} features, not {features}")
        count = len(reference.rows) if by_sample else reference.count
        refuse_unkeepable(count, window_rows, features, promise, "keeps" if by_sample else "has")
        return cls(method, promise, smallest_effect, dependence)

    def require_width(self, batch: Batch) -> None:
        """Raise `InvalidRows` for another width than the reference's, or no rows."""
        width = len(self.dependence.effective)
        if not len(batch) or batch.values.ndim != 2 or batch.values.shape[1] != width:
            raise InvalidRows(f"rows have shape {batch.values.shape}; at least one, of {width} columns")

    def finding(self, batch: Batch, verdicts: Sequence[Verdict]) -> Finding:
        """Return the finding about a window: the worst verdict after Sidak's correction decides."""
        window = Window(int(batch.times_ns.min()), int(batch.times_ns.max()), len(batch))
        threshold = self.promise.threshold(batch)
        scored = [(sidak(verdict.log_p, len(verdicts)), verdict) for verdict in verdicts]
        scored.sort(key=lambda pair: (-pair[0], pair[1].plain_log_p))
        features = tuple(verdict.finding(score, threshold) for score, verdict in scored)
        score = features[0].score
        return Finding(
            kind="drift",
            method=self.method,
            score=score,
            threshold=threshold,
            time_ns=window.to_ns,
            window=window,
            p_value=10**-score,
            features=features,
            assumption=self.dependence.assumed(len(batch)),
            why=self._why(scored[0][1], [feature.name for feature in features if feature.fired]),
        )

    def _why(self, worst: Verdict, changed: Sequence[str]) -> str:
        if not changed:
            return f"no feature changed{f' beyond {self.smallest_effect:g} sd' if self.smallest_effect else ''}"
        features = len(self.dependence.effective)
        return f"{worst.change()}; {len(changed)} of {features} features changed: {listed(changed, 5)}"


def calibrated_size(rows: int, usual: int) -> int:
    """Return the size whose null distribution serves: the same up to 32 rows and where usual, else within 5 %."""
    if rows <= _EXACT_SIZES or rows == usual:
        return rows
    return round(_EXACT_SIZES * 1.1 ** round(math.log(rows / _EXACT_SIZES, 1.1)))


def described_change(
    feature: Feature, profile: FeatureProfile, counts: Counts, weights: Matrix | float, effect: Effect
) -> str:
    """Return what happened to a feature: its mean moved, or the cell that gained or lost most, weighed by `weights`."""
    moved = counts / counts.sum() - profile.counts / profile.counts.sum()
    if isinstance(profile, NumericProfile):
        if abs(moved[-1]) >= 0.5 * np.abs(moved).sum() / 2 and moved[-1] != 0:
            return _share(f"missing {feature.name}", profile, counts, len(counts) - 1)
        if effect.value is None:
            beyond = f"went beyond {LARGEST:g} in size"
            return f"{feature.name} {beyond if profile.sd > 0 else 'left the one value it had'}"
        if abs(effect.value) < 0.05:
            return f"{feature.name} changed its shape"
        return f"{feature.name} {'rose' if effect.value > 0 else 'fell'} by {two_digits(abs(effect.value))} sd"
    cell = int(np.argmax(weights * moved**2))
    names = [*map(repr, feature.categories), "unlisted", "missing"]
    return _share(f"{feature.name} {names[cell]}", profile, counts, cell)


def _share(what: str, profile: FeatureProfile, counts: Counts, cell: int) -> str:
    before, after = profile.counts[cell] / profile.counts.sum(), counts[cell] / counts.sum()
    direction = "rose" if after > before else "fell"
    return f"{what} {direction} from {two_digits(100 * before)} % to {two_digits(100 * after)} %"


def sidak(log_p: float, features: int) -> float:
    """Return -log10(1 - (1 - p)^features) for the log of a p, at most 300."""
    if log_p > -30:
        family = -math.expm1(features * math.log1p(-min(math.exp(log_p), 1 - 1e-16)))
        return max(0.0, -math.log10(family))
    return min(300.0, -(log_p + math.log(features)) / _LN10)


def refuse_unkeepable(count: int, window_rows: int, features: int, promise: Promise, holds: str = "has") -> None:
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
            f"{features} features; this {holds} {count:,}"
        )


def _beyond_all(rows: int, count: int) -> float:
    half = rows // 2 + 1
    return (
        math.lgamma(rows + 1)
        - math.lgamma(rows - half + 1)
        + math.lgamma(rows + count - half + 1)
        - math.lgamma(rows + count + 1)
    )
