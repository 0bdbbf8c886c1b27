"""The detectors around the two-sample statistics: what is reported, tolerated, and left to chi-square."""

import math
from typing import Any

import numpy as np
import pytest
from scipy import stats

from inferwatch.errors import UnkeepablePromise
from inferwatch.finding import FeatureFinding
from inferwatch.promise import Promise
from inferwatch.reference import Reference
from inferwatch.rows import Batch, Column, Matrix, Rows
from inferwatch_detectors import Dependence, TwoSampleDrift, estimate_dependence
from inferwatch_detectors.two_sample_drift import TwoSampleMethod
from tests.detectors import scipys
from tests.detectors.references import encoded, numbers, reference

RANDOM = np.random.default_rng(31)
METHODS: tuple[TwoSampleMethod, ...] = ("ks", "cvm", "chi_square", "wasserstein", "psi", "jensen_shannon")
EVERY = pytest.mark.parametrize("method", METHODS)
REFERENCE = reference()


def drift(method: TwoSampleMethod, against: Reference = REFERENCE, **options: Any) -> TwoSampleDrift:
    chosen: dict[str, Any] = {"window_rows": 300, "promise": Promise(100), "cell_draws": 300_000, **options}
    return TwoSampleDrift(against, method=method, **chosen)


def features(detector: TwoSampleDrift, rows: Matrix) -> dict[str, FeatureFinding]:
    [finding] = detector.observe(Batch.of(rows))
    return {feature.name: feature for feature in finding.features}


def window() -> Matrix:
    rows = encoded(REFERENCE, np.random.default_rng(4), 300)
    rows[:, 0] += 3
    return rows


def present(column: Matrix) -> Matrix:
    return column[~np.isnan(column)]


def test_ks_reports_scipys_d_and_p_of_values_that_are_present() -> None:
    found = features(drift("ks"), window())

    for index, name in enumerate(("age", "children", "hours", "one")):
        d, p_value = scipys.kolmogorov_smirnov(present(REFERENCE.rows[:, index]), present(window()[:, index]))
        assert found[name].statistic == d
        assert found[name].p_value == pytest.approx(p_value, rel=1e-9)


def test_cvm_and_wasserstein_report_scipys_values() -> None:
    cvm, area = features(drift("cvm"), window()), features(drift("wasserstein"), window())

    for index, name in enumerate(("age", "children", "hours")):
        both = present(REFERENCE.rows[:, index]), present(window()[:, index])
        expected = stats.cramervonmises_2samp(*both, method="asymptotic")
        assert cvm[name].statistic == expected.statistic
        assert cvm[name].p_value == pytest.approx(expected.pvalue, abs=1e-12)
        assert area[name].statistic == pytest.approx(stats.wasserstein_distance(*both) / both[0].std(), rel=1e-9)
    assert area["one"].statistic is None


@EVERY
@pytest.mark.parametrize("side", [-1, 1])
def test_a_constant_that_leaves_its_value_is_told(method: TwoSampleMethod, side: int) -> None:
    detector = drift(method, numbers(np.full((2000, 1), 3.0)))
    moved = np.repeat([3.0 + side, 3.0], 300)[:, np.newaxis]
    [stayed], [one], [left] = (detector.observe(Batch.of(moved[start:][:300])) for start in (300, 299, 0))

    assert (stayed.fired, one.fired, left.fired) == (False, False, True)
    assert left.why == "x0 left the one value it had; 1 of 1 features changed: x0"


@EVERY
@pytest.mark.parametrize(("value", "coded"), [(1, 2), (0, -1)])
def test_a_value_that_is_coded_beyond_all_others_is_told(method: TwoSampleMethod, value: int, coded: int) -> None:
    random = np.random.default_rng(8)
    detector = drift(method, numbers(random.integers(0, 2, (2000, 1)).astype(np.float64)))
    rows = random.integers(0, 2, (300, 1)).astype(np.float64)
    [plain] = detector.observe(Batch.of(rows))
    [recoded] = detector.observe(Batch.of(np.where(rows == value, coded, rows)))

    assert (plain.fired, recoded.fired) == (False, True)


@EVERY
def test_a_sample_that_is_too_small_for_the_promise_is_refused(method: TwoSampleMethod) -> None:
    """Of 5,000 rows the file keeps 20; `chi_square` alone goes by the counts of all."""
    values = np.random.default_rng(6).normal(size=(5000, 1))
    kept = Reference.build(Rows((Column("x", values[:, 0]),), 5000), sample_rows=20, created_ns=0)
    if method == "chi_square":
        [finding] = drift(method, kept, promise=Promise(1e6)).observe(Batch.of(values[:300] + 9))
        assert finding.fired
    else:
        with pytest.raises(UnkeepablePromise, match=r"at least \d+ rows.*this keeps 20"):
            drift(method, kept, promise=Promise(1e6))


@pytest.mark.parametrize("method", ["ks", "cvm", "wasserstein", "chi_square"])
def test_categories_are_judged_by_chi_square(method: TwoSampleMethod) -> None:
    rows = window()
    place = features(drift(method), rows)["place"]
    table = np.array([np.bincount(values.astype(int), minlength=4) for values in (REFERENCE.rows[:, 4], rows[:, 4])])
    expected = stats.chi2_contingency(table, correction=False)

    assert place.statistic == pytest.approx(float(expected.statistic))
    assert place.p_value == pytest.approx(float(expected.pvalue), rel=1e-9)


def test_psi_and_jensen_shannon_use_the_references_deciles_and_a_bin_for_missing_values() -> None:
    rows = window()
    psi, distance = features(drift("psi"), rows), features(drift("jensen_shannon"), rows)
    edges = np.quantile(present(REFERENCE.rows[:, 2]), np.arange(1, 10) / 10)
    q, p = (np.append(_shares(values, edges), np.isnan(values).sum()) for values in (REFERENCE.rows[:, 2], rows[:, 2]))
    q, p = q / q.sum(), p / p.sum()

    assert psi["hours"].statistic == pytest.approx(float(((p - q) * np.log(p / q)).sum()))
    middle = (p + q) / 2
    entropy = (stats.entropy(p, middle, base=2) + stats.entropy(q, middle, base=2)) / 2
    assert distance["hours"].statistic == pytest.approx(math.sqrt(entropy))


def _shares(values: Matrix, edges: Matrix) -> Matrix:
    return np.bincount(np.searchsorted(edges, present(values), side="left"), minlength=10).astype(float)


@EVERY
def test_a_shift_below_the_smallest_effect_does_not_matter(method: TwoSampleMethod) -> None:
    against = numbers(RANDOM.normal(size=(20_000, 1)))
    rows = RANDOM.normal(0.08, 1, (10_000, 1))
    options = {"window_rows": 10_000, "promise": Promise(20)}
    [tolerated] = drift(method, against, **options).observe(Batch.of(rows))
    [exact] = drift(method, against, smallest_effect=0.0, **options).observe(Batch.of(rows))

    assert not tolerated.fired
    assert exact.fired
    assert tolerated.features[0].statistic == exact.features[0].statistic


@EVERY
def test_dependent_rows_count_less(method: TwoSampleMethod) -> None:
    against = numbers(RANDOM.normal(size=(5000, 1)))
    rows = RANDOM.normal(0.3, 1, (300, 1))
    [plain] = drift(method, against, smallest_effect=0.0).observe(Batch.of(rows))
    [third] = drift(method, against, smallest_effect=0.0, dependence=Dependence((1 / 3,), 3000)).observe(Batch.of(rows))

    assert third.score < 0.7 * plain.score
    assert third.features[0].statistic == plain.features[0].statistic
    assert "autocorrelated" in third.assumption


@EVERY
def test_one_wild_value_is_no_drift(method: TwoSampleMethod) -> None:
    rows = encoded(REFERENCE, np.random.default_rng(9), 300)
    rows[5, 0] = 1e9

    [finding] = drift(method).observe(Batch.of(rows))
    assert not finding.fired


@EVERY
def test_a_column_without_values_is_no_drift_of_the_others(method: TwoSampleMethod) -> None:
    rows = encoded(REFERENCE, np.random.default_rng(9), 300)
    rows[:, 2] = np.nan
    found = features(drift(method), rows)

    assert found["hours"].fired == (method in ("chi_square", "psi", "jensen_shannon"))
    assert not any(feature.fired for name, feature in found.items() if name != "hours")


@EVERY
def test_odd_columns_of_dependent_rows_have_a_verdict(method: TwoSampleMethod) -> None:
    """Of columns that never vary or were never there, too, and in windows of a single row."""
    rows = np.repeat(RANDOM.normal(size=(1000, 1)), 3, axis=0)
    odd = np.hstack([rows, rows > 2, np.ones_like(rows), np.full_like(rows, np.nan), np.where(rows > 1, np.inf, rows)])
    against = numbers(odd)
    dependence = estimate_dependence(odd, against)
    scores = [
        drift(method, against, window_rows=size, promise=Promise(2), dependence=dependence).observe(Batch.of(part))[0]
        for size in (1, 300)
        for part in (odd[:size], np.zeros((size, 5)))
    ]

    assert all(math.isfinite(feature.score) for found in scores for feature in found.features)
    assert scores[-1].fired


@EVERY
@pytest.mark.slow
@pytest.mark.parametrize("stream", ["continuous", "zero-inflated integers", "categories"])
def test_the_promise_is_kept(method: TwoSampleMethod, stream: str) -> None:
    """One alarm in 20 windows, over 60 references x 40 windows: within 20 % and three standard errors."""
    from benchmarks.false_alarms import measure

    [rate] = measure(
        stream,
        method=method,
        window=200,
        smallest_effect=0.0,
        promises=(20,),
        references=60,
        windows=40,
        cell_draws=500_000,
    )
    error = 3 * (rate.high - rate.achieved) / 1.96

    assert rate.achieved <= 1.2 * 0.05 + error
    assert rate.achieved >= 0.8 * 0.05 - error
