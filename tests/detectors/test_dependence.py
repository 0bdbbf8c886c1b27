import json

import numpy as np
import pytest
from scipy.signal import lfilter

from inferwatch.errors import InvalidRows
from inferwatch.promise import Promise
from inferwatch.rows import Batch, Matrix
from inferwatch_detectors import Dependence, HistogramDrift, estimate_dependence
from inferwatch_detectors.cells import CellTest
from inferwatch_detectors.effective_sample import EffectiveSample
from tests.detectors.references import encoded, numbers, reference

RANDOM = np.random.default_rng(31)


def autoregressive(random: np.random.Generator, count: int, features: int, phi: float) -> Matrix:
    """Stationary standard normal columns with lag-1 correlation phi."""
    noise = random.normal(size=(count, features))
    noise[1:] *= np.sqrt(1 - phi**2)
    return np.asarray(lfilter([1.0], [1.0, -phi], noise, axis=0), dtype=np.float64)


def test_independent_rows_lose_nothing() -> None:
    against = reference()
    found = estimate_dependence(encoded(against, RANDOM, 3000), against)

    assert found.rows == 3000
    assert min(found.effective) > 0.9
    assert max(found.effective) <= 1
    assert found.settled


@pytest.mark.parametrize("phi", [0.3, 0.5, 0.9])
def test_the_effective_sample_is_that_of_the_statistics_tail(phi: float) -> None:
    """Against the 1 % points of the statistic over 3,000 windows of 200 dependent and independent rows, within 20 %."""
    against = numbers(RANDOM.normal(size=(200_000, 1)))
    [profile] = against.profile.features
    test = CellTest.of(profile)
    points = []
    for stream in (autoregressive(RANDOM, 200 * 3000, 1, phi), RANDOM.normal(size=(200 * 3000, 1))):
        windows = profile.cells(stream[:, 0]).reshape(3000, 200)
        counts = np.array([np.bincount(window, minlength=len(test.alpha)) for window in windows])
        points.append(np.quantile(test.statistic(counts), 0.99))
    [found] = estimate_dependence(autoregressive(RANDOM, 20_000, 1, phi), against).effective

    assert found == pytest.approx(points[1] / points[0], rel=0.2)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        (30, ""),
        (
            29,
            ", so that 29 rows count as 9.7 and only a very large change alarms: longer windows tell more, and so does",
        ),
    ],
)
def test_the_assumption_says_where_dependence_leaves_a_window_little(rows: int, told: str) -> None:
    found = Dependence((1 / 3, 1.0), 3000).assumed(rows)

    assert found.startswith(f"rows autocorrelated, estimated effective sample 0.33 a row{told}")
    assert ("segments: [{by: {hours: 4}}]" in found) == bool(told)


def test_rows_in_runs_of_four_bring_a_quarter() -> None:
    against = reference()
    rows = np.repeat(encoded(against, RANDOM, 1000), 4, axis=0)
    found = estimate_dependence(rows, against)

    assert found.effective[0] == pytest.approx(0.25, abs=0.05)
    assert found.effective[4] == pytest.approx(0.25, abs=0.05)
    assert found.effective[3] == found.effective[5] == 1  # what never varies depends on nothing
    assert found.assumption.startswith("rows autocorrelated, estimated effective sample 0.2")


def test_an_estimate_is_settled_by_rows_in_proportion_to_the_correlation() -> None:
    assert not Dependence((1.0,), 499).settled
    assert Dependence((1.0,), 500).settled
    assert not Dependence((1.0, 0.1), 999).settled
    assert Dependence((1.0, 0.1), 1000).settled
    assert not Dependence.independent(3).settled


def test_it_travels_as_json() -> None:
    found = estimate_dependence(RANDOM.normal(size=(600, 2)), numbers(RANDOM.normal(size=(100, 2))))

    assert Dependence.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_few_rows_and_wrong_widths() -> None:
    against = numbers(RANDOM.normal(size=(100, 2)))

    assert estimate_dependence(np.zeros((3, 2)), against) == Dependence((1.0, 1.0), 3)
    with pytest.raises(InvalidRows, match="2 columns"):
        estimate_dependence(np.zeros((30, 3)), against)


def test_dependent_rows_keep_the_promise() -> None:
    """AR(0.5) rows, 400 windows of 300 rows, a promise of one alarm in 20: at most 32, and far more if not estimated.

    32 is the 99.5 % point at the promised rate; independence assumed, more than a quarter of the windows alarm.
    """
    against = numbers(RANDOM.normal(size=(20_000, 3)))
    found = estimate_dependence(autoregressive(RANDOM, 3000, 3, 0.5), against)
    stream = autoregressive(RANDOM, 300 * 400, 3, 0.5).reshape(400, 300, 3)
    alarms = []
    for dependence in (found, None):
        detector = HistogramDrift(
            against, window_rows=300, promise=Promise(20), smallest_effect=0.0, dependence=dependence
        )
        alarms.append(sum(detector.observe(Batch.of(window))[0].fired for window in stream))

    assert alarms[0] <= 32
    assert alarms[1] > 100


def test_the_slowest_deviation_depends_most() -> None:
    """An AR(1) with coefficient c gives a mean (1 + c) / (1 - c) as much variance as independent rows do."""
    coefficient = 0.6
    series = np.random.default_rng(2).normal(size=20_000) * np.sqrt(1 - coefficient**2)
    for row in range(1, len(series)):
        series[row] += coefficient * series[row - 1]
    found = estimate_dependence(series[:, np.newaxis], numbers(series[::40][:, np.newaxis]))
    [leading], [overall] = found.of("leading"), found.of("all")

    assert leading.share == pytest.approx((1 - coefficient) / (1 + coefficient), rel=0.2)
    assert leading.share < overall.share < 1
    assert Dependence.from_dict(found.as_dict()) == found
    assert Dependence((0.5,), 100).of("leading") == (EffectiveSample(0.5),)
