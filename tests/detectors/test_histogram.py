import math
from functools import partial

import numpy as np
import pytest
from scipy import stats

from inferwatch.errors import InvalidRows, UnkeepablePromise
from inferwatch.promise import NS_PER_DAY, Promise
from inferwatch.reference import Reference
from inferwatch.rows import Batch, Column, Matrix, Rows
from inferwatch_detectors import Dependence, HistogramDrift, TwoSampleDrift
from inferwatch_detectors.cells import CellTest
from inferwatch_detectors.null_distribution import null_distributions
from tests.detectors.references import encoded, numbers, reference

RANDOM = np.random.default_rng(12)
SMALL = 300_000


def drift(against: Reference, **options: object) -> HistogramDrift:
    chosen: dict[str, object] = {"window_rows": 300, "promise": Promise(100), "cell_draws": SMALL, **options}
    return HistogramDrift(against, **chosen)  # type: ignore[arg-type]


def test_well_filled_categories_have_the_chi_square_p_value() -> None:
    shares = np.array([0.4, 0.3, 0.2, 0.1])
    labels = np.repeat(np.array(["a", "b", "c", "d"], dtype=object), (shares * 100_000).astype(int))
    against = Reference.build(Rows((Column("x", labels),), 100_000), created_ns=0)
    counts = np.array([100, 100, 70, 30])
    [finding] = drift(against, smallest_effect=0.0).observe(Batch.of(np.repeat(np.arange(4.0), counts)[:, np.newaxis]))
    [feature] = finding.features
    expected = stats.chisquare(counts, 300 * shares)

    assert feature.statistic == pytest.approx(expected.statistic, rel=0.01)
    assert feature.p_value == pytest.approx(expected.pvalue, rel=0.1)


def test_numbers_have_the_anderson_darling_p_value() -> None:
    """For a known distribution the 5 and 1 % points are 2.492 and 3.857 (T. Anderson and D. Darling, JASA 49, 1954)."""
    against = numbers(RANDOM.normal(size=(200_000, 1)))
    [null] = null_distributions([CellTest.of(against.profile.features[0])], 300, SMALL)

    assert math.exp(null.log_survival(2.492)) == pytest.approx(0.05, rel=0.15)
    assert math.exp(null.log_survival(3.857)) == pytest.approx(0.01, rel=0.3)


@pytest.mark.parametrize("chi_square", [False, True])
def test_features_together_are_judged_as_each_is_alone(chi_square: bool) -> None:
    """Whatever their numbers of cells: continuous, of few values, constant, empty, of 2 and of 9 categories."""
    random = np.random.default_rng(21)
    columns = [random.normal(size=800), random.poisson(1, 800) * 1.0, np.full(800, 3.0), np.full(800, np.nan)]
    columns += [random.choice(list("abcdefghi")[:count], 800).astype(object) for count in (2, 9)]
    against = Reference.build(Rows(tuple(map(Column, "uvwxyz", columns)), 800), created_ns=0)
    rows = against.rows[:300] + np.array([0.2, 1, 0, 0, 0, 0])
    rows[::7, [0, 4]] = np.nan

    def judged(reference: Reference, values: Matrix) -> dict[str, list[float]]:
        method = partial(TwoSampleDrift, method="chi_square") if chi_square else HistogramDrift
        dependence = Dependence((0.5,) * values.shape[1], 1000, variance=(0.1,) * values.shape[1])
        detector = method(reference, window_rows=300, promise=Promise(100), dependence=dependence, cell_draws=1)
        [finding] = detector.observe(Batch.of(values))
        found = {}
        for each in finding.features:
            score = -math.log10(1 - (1 - 10**-each.score) ** (6 / values.shape[1]))
            said = (round(score, 6), each.statistic, each.p_value, each.effect, each.effect_low, each.effect_high)
            found[each.name] = [math.nan if value is None else value for value in said]
        return found

    for place, feature in enumerate(against.schema.features):
        alone = judged(against.select([feature]), rows[:, [place]])[feature.name]
        assert judged(against, rows)[feature.name] == pytest.approx(alone, rel=1e-9, nan_ok=True)


def test_scores_are_sidak_corrected_and_the_worst_feature_decides() -> None:
    against = numbers(RANDOM.normal(size=(3000, 4)))
    rows = RANDOM.normal(size=(300, 4))
    rows[:, 2] += 0.25
    [finding] = drift(against, smallest_effect=0.0).observe(Batch.of(rows))
    scores = [feature.score for feature in finding.features]

    assert scores == sorted(scores, reverse=True)
    assert finding.features[0].name == "x2"
    assert finding.score == scores[0]
    assert finding.p_value == pytest.approx(10**-finding.score)
    for feature in finding.features:
        assert feature.score == pytest.approx(-math.log10(1 - (1 - feature.p_value) ** 4), rel=1e-6, abs=1e-9)
        assert feature.fired == (feature.score > finding.threshold)


def test_the_threshold_is_what_the_promise_grants_the_window() -> None:
    against = numbers(RANDOM.normal(size=(2000, 1)))
    rows = RANDOM.normal(size=(300, 1))
    times = 1_000 * NS_PER_DAY + np.arange(300) * 1_000_000_000
    batch = Batch.of(rows, times_ns=times, since_ns=int(times[-1]) - NS_PER_DAY // 2)

    for promise, granted in ((Promise(100), 0.01), (Promise(3e5, "rows"), 1e-3), (Promise(50, "days"), 0.01)):
        [finding] = drift(against, promise=promise).observe(batch)
        assert finding.threshold == pytest.approx(-math.log10(granted))
    assert finding.window is not None
    assert (finding.window.from_ns, finding.window.to_ns, finding.window.rows) == (times[0], times[-1], 300)
    assert finding.time_ns == times[-1]


def test_a_shift_below_the_smallest_effect_does_not_matter_however_many_rows() -> None:
    against = numbers(RANDOM.normal(size=(100_000, 1)))
    rows = RANDOM.normal(0.08, 1, (20_000, 1))

    [tolerated] = drift(against, window_rows=20_000).observe(Batch.of(rows))
    [exact] = drift(against, window_rows=20_000, smallest_effect=0.0).observe(Batch.of(rows))

    assert not tolerated.fired
    assert exact.fired
    assert tolerated.features[0].p_value == exact.features[0].p_value
    assert tolerated.why == "no feature changed beyond 0.1 sd"


def test_why_names_what_changed_most() -> None:
    against = reference()
    cases: list[tuple[str, str]] = []
    for change in ("age", "missing", "gone", "place", "unlisted", "one", "beyond", "shape"):
        rows = encoded(against, np.random.default_rng(2), 300)
        _plant(rows, change)
        [finding] = drift(against).observe(Batch.of(rows))
        assert finding.fired
        cases.append((change, finding.why.split(";")[0]))
    said = dict(cases)

    assert said["age"].startswith("age fell by ")
    assert said["missing"].startswith("missing hours rose from ")
    assert said["place"].startswith("place 'sea' rose from ")
    assert said["unlisted"].startswith("place unlisted rose from 0 %")
    assert said["gone"] == "missing hours rose from 4.9 % to 100 %"
    assert said["one"] == "one left the one value it had"
    assert said["beyond"] == "age went beyond 1e+150 in size"
    assert said["shape"] == "age changed its shape"


def _plant(rows: Matrix, change: str) -> None:
    if change == "age":
        rows[:, 0] -= 9.3
    elif change == "missing":
        rows[:120, 2] = np.nan
    elif change == "gone":
        rows[:, 2] = np.nan
    elif change in ("place", "unlisted"):
        rows[:90, 4] = 3 if change == "place" else 4
    elif change == "beyond":
        rows[:, 0] = np.inf
    elif change == "one":
        rows[:60, 3] = 2
    else:
        rows[:, 0] = 40 + (rows[:, 0] - rows[:, 0].mean()) * 0.3


def test_dependence_divides_the_statistic_and_is_stated() -> None:
    against = numbers(RANDOM.normal(size=(200_000, 1)))
    rows = RANDOM.normal(0.2, 1, (300, 1))
    [plain] = drift(against, smallest_effect=0.0).observe(Batch.of(rows))
    [third] = drift(against, smallest_effect=0.0, dependence=Dependence((1 / 3,), 3000)).observe(Batch.of(rows))

    assert plain.assumption == "rows independent"
    assert third.assumption == "rows autocorrelated, estimated effective sample 0.33 a row"
    assert third.features[0].statistic == plain.features[0].statistic
    assert third.score < plain.score / 2
    wide, narrow = third.features[0], plain.features[0]
    assert wide.effect_high is not None
    assert narrow.effect_high is not None
    assert wide.effect is not None
    assert narrow.effect is not None
    assert wide.effect_high - wide.effect == pytest.approx(
        math.sqrt(3) * (narrow.effect_high - narrow.effect), rel=0.01
    )


def test_sizes_between_the_calibrated_ones_are_close_to_their_own() -> None:
    against = numbers(RANDOM.normal(size=(5000, 1)))
    rows = RANDOM.normal(0.15, 1, (337, 1))
    [near] = drift(against, smallest_effect=0.0).observe(Batch.of(rows))
    [own] = drift(against, smallest_effect=0.0, window_rows=337).observe(Batch.of(rows))

    assert near.score == pytest.approx(own.score, rel=0.1)


def test_a_promise_that_the_reference_cannot_carry_names_the_size_that_can() -> None:
    small = numbers(RANDOM.normal(size=(20, 1)))
    with pytest.raises(UnkeepablePromise, match=r"at least (\d+) rows.*this has 20") as caught:
        drift(small, promise=Promise(1e6))
    needed = int(str(caught.value).split("at least ")[1].split(" ")[0])

    drift(numbers(RANDOM.normal(size=(needed, 1))), promise=Promise(1e6))
    with pytest.raises(UnkeepablePromise):
        drift(numbers(RANDOM.normal(size=(needed - 1, 1))), promise=Promise(1e6))


def test_an_empty_window_and_bad_options_are_refused() -> None:
    against = numbers(RANDOM.normal(size=(100, 2)))

    with pytest.raises(InvalidRows, match="at least one, of 2 columns"):
        drift(against).observe(Batch.of(np.empty((0, 2))))
    with pytest.raises(InvalidRows, match="dependence is of 1 features, not 2"):
        drift(against, dependence=Dependence.independent(1))
    with pytest.raises(ValueError, match="smallest_effect"):
        drift(against, smallest_effect=-0.1)


@pytest.mark.slow
@pytest.mark.parametrize("stream", ["continuous", "zero-inflated integers", "categories"])
def test_the_promise_is_kept(stream: str) -> None:
    """A promise of one alarm in 20 windows, over 100 references x 40 windows: within 20 % and three standard errors."""
    from benchmarks.false_alarms import measure

    draws = 4_000_000 if stream == "continuous" else 500_000
    [rate] = measure(
        stream, window=200, smallest_effect=0.0, promises=(20,), references=100, windows=40, cell_draws=draws
    )
    error = 3 * (rate.high - rate.achieved) / 1.96

    assert 0.8 * 0.05 - error <= rate.achieved <= 1.2 * 0.05 + error
    assert rate.low < rate.high
