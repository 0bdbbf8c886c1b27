"""Data quality of a window: cells that are missing, of the wrong type, out of range, unseen, or all the same."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inferwatch.cells import is_wrong_type
from inferwatch.errors import InvalidOption, InvalidRows
from inferwatch.finding import FeatureFinding, Finding, Window
from inferwatch.promise import Promise
from inferwatch.reference import Reference
from inferwatch.reference.profile import FeatureProfile, NumericProfile
from inferwatch.rows import Batch, Feature, Matrix
from inferwatch_detectors.beta_binomial import log_all_alike, log_at_least
from inferwatch_detectors.dependence import Dependence
from inferwatch_detectors.effect import two_digits
from inferwatch_detectors.verdict import refuse_unkeepable, sidak

Flags = NDArray[np.bool_]
_CERTAIN = -300 * math.log(10)


@dataclass(frozen=True, slots=True)
class Expectation:
    """What is declared about a feature; None where nothing is.

    `least` and `most` bound every number, inclusive; `missing_at_most` and `unseen_at_most` are shares of a window in
    [0, 1].
    """

    least: float | None = None
    most: float | None = None
    missing_at_most: float | None = None
    unseen_at_most: float | None = None


@dataclass(frozen=True, slots=True)
class _Fault:
    """One kind of fault of a feature in a window: what it is, the share of rows, and how unlikely so many are."""

    name: str
    share: float
    before: str
    log_p: float

    @property
    def said(self) -> str:
        return f"{two_digits(100 * self.share)} % {self.name}, {self.before}"


class QualityCheck:
    """Counts faulty cells in windows and fires where there are more than the reference and the promise let expect.

    For each feature: values missing (absent, null, NaN), of the wrong type (a text where a number belongs, a list),
    infinite, below or above all of the reference's, categories that it does not list, and whether a feature that
    varied is constant. The count of each, given the reference's, is beta-binomial where nothing changed; Sidak's
    correction joins all checks, and the threshold is what the promise grants the window. `expect` declares instead: a
    value outside `least` and `most`, or a share above what is allowed, is certain and always fires.

    A feature's `statistic` is the share of rows with its worst fault, `p_value` the probability of so many. The
    smallest effect of drift does not apply: one fault in a hundred matters where there was none in thousands.

    >>> from inferwatch.rows import Column, Rows
    >>> random = np.random.default_rng(7)
    >>> ages = Rows((Column("age", random.normal(40, 10, 5000)),), 5000)
    >>> check = QualityCheck(Reference.build(ages, created_ns=0), window_rows=500, promise=Promise(1000))
    >>> rows = random.normal(40, 10, (500, 1))
    >>> rows[:60] = np.nan
    >>> [finding] = check.observe(Batch.of(rows))
    >>> finding.fired, finding.why
    (True, 'age: 12 % missing, none in the reference; 1 of 1 features at fault')
    """

    def __init__(
        self,
        reference: Reference,
        *,
        window_rows: int,
        promise: Promise,
        dependence: Dependence | None = None,
        expect: Mapping[str, Expectation] | None = None,
    ) -> None:
        features = reference.schema.features
        self._dependence = dependence or Dependence.independent(len(features))
        self._promise = promise
        refuse_unkeepable(reference.count, window_rows, len(features), promise)
        expectations = expect or {}
        _require_fitting(features, expectations)
        self._columns = [
            _Column(feature, profile, effective, expectations.get(feature.name, Expectation()))
            for feature, profile, effective in zip(
                features, reference.profile.features, self._dependence.effective, strict=True
            )
        ]

    def observe(self, batch: Batch, /) -> list[Finding]:
        """Return one finding about the whole batch, taken as one window of any number of rows.

        Raises `InvalidRows` for another width than the reference's, or no rows.
        """
        if not len(batch) or batch.values.ndim != 2 or batch.values.shape[1] != len(self._columns):
            raise InvalidRows(f"rows have shape {batch.values.shape}; at least one, of {len(self._columns)} columns")
        faults = [column.faults(batch.values[:, index]) for index, column in enumerate(self._columns)]
        checks = sum(map(len, faults))
        window = Window(int(batch.times_ns.min()), int(batch.times_ns.max()), len(batch))
        threshold = self._promise.threshold(batch)
        worst = [min(found, key=lambda fault: fault.log_p) for found in faults]
        order = sorted(range(len(worst)), key=lambda index: worst[index].log_p)
        features = tuple(self._feature(index, worst[index], checks, threshold) for index in order)
        return [
            Finding(
                kind="quality",
                method="quality",
                score=features[0].score,
                threshold=threshold,
                time_ns=window.to_ns,
                window=window,
                p_value=10 ** -features[0].score,
                features=features,
                assumption=self._dependence.assumption,
                why=self._why(features, worst[order[0]]),
            )
        ]

    def _feature(self, index: int, fault: _Fault, checks: int, threshold: float) -> FeatureFinding:
        score = sidak(fault.log_p, checks)
        p_value = math.exp(max(fault.log_p, _CERTAIN))
        return FeatureFinding(self._columns[index].feature.name, score, fault.share, p_value, fired=score > threshold)

    def _why(self, features: Sequence[FeatureFinding], worst: _Fault) -> str:
        at_fault = sum(feature.fired for feature in features)
        if not at_fault:
            return "no more faults than expected"
        return f"{features[0].name}: {worst.said}; {at_fault} of {len(features)} features at fault"


class _Column:
    """One feature with what the reference knows of its faults."""

    def __init__(self, feature: Feature, profile: FeatureProfile, effective: float, expected: Expectation) -> None:
        self.feature = feature
        self._profile = profile
        self._effective = effective
        self._expected = expected
        self._total = int(profile.counts.sum())

    def faults(self, column: Matrix) -> list[_Fault]:
        """Return every check of the feature, faulty or not; always the same number."""
        return list(self._checks(column))

    def _checks(self, column: Matrix) -> Iterator[_Fault]:
        absent, rows, profile = np.isnan(column), len(column), self._profile
        wrong = is_wrong_type(column)
        yield self._share("missing", absent & ~wrong, int(profile.counts[-1]), self._expected.missing_at_most)
        if isinstance(profile, NumericProfile):
            yield self._share("of the wrong type", wrong, 0, None)
            yield self._share("infinite", np.isinf(column), 0, None)
            yield self._bound(f"below {_plain(profile.low)}", column < profile.low, column, self._expected.least, -1)
            yield self._bound(f"above {_plain(profile.high)}", column > profile.high, column, self._expected.most, 1)
        else:
            unseen = column == len(self.feature.categories)
            yield self._share("unlisted", unseen, int(profile.counts[-2]), self._expected.unseen_at_most)
        present = column[~absent]
        constant = len(present) > 1 and bool((present == present[0]).all()) and int((profile.counts[:-1] > 0).sum()) > 1
        log_p = log_all_alike(profile.counts[:-1], max(1, round(len(present) * self._effective))) if constant else 0.0
        yield _Fault("one value", len(present) / rows if constant else 0.0, "where the reference varies", log_p)

    def _bound(self, name: str, beyond: Flags, column: Matrix, declared: float | None, side: int) -> _Fault:
        """Values beyond all of the reference's, as one in m + 1 is on each side; or beyond what is declared."""
        with np.errstate(invalid="ignore"):
            if declared is not None:
                outside = (column - declared) * side > 0
                word = "above" if side > 0 else "below"
                return self._share(f"{word} {_plain(declared)}", outside, 0, 0.0)
            return self._share(name, beyond & np.isfinite(column), 0, None, prior=1.0)

    def _share(self, name: str, faulty: Flags, known: int, allowed: float | None, *, prior: float = 0.5) -> _Fault:
        rows, count = len(faulty), int(faulty.sum())
        share = count / rows
        if allowed is not None:
            expected = f"{two_digits(100 * allowed)} % expected at most"
            return _Fault(name, share, expected, _CERTAIN if share > allowed else 0.0)
        before = f"{two_digits(100 * known / self._total)} % in the reference" if known else "none in the reference"
        effective = max(1, round(rows * self._effective))
        # whoever counts less than in the reference is no fault
        if count == 0 or share <= known / max(1, self._total):
            return _Fault(name, share, before, 0.0)
        faults = max(1, round(count * self._effective))
        log_p = log_at_least(faults, effective, known + prior, self._total - known + prior)
        return _Fault(name, share, before, log_p)


def _plain(number: float) -> str:
    return f"{number:,.6g}"


def _require_fitting(features: Sequence[Feature], expectations: Mapping[str, Expectation]) -> None:
    kinds = {feature.name: feature.kind for feature in features}
    for name, expected in expectations.items():
        if name not in kinds:
            raise InvalidOption(f"expect names {name!r}, which is no feature; there are {', '.join(kinds)}")
        bounded = expected.least is not None or expected.most is not None
        if bounded and kinds[name] == "categorical":
            raise InvalidOption(f"expect bounds {name!r} by min or max, and its values are categories")
        if expected.unseen_at_most is not None and kinds[name] == "numeric":
            raise InvalidOption(f"expect limits unseen categories of {name!r}, and its values are numbers")
