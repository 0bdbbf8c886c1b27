import math

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf, ledoit_wolf

from inferwatch.errors import UnkeepablePromise
from inferwatch.reference import Reference
from inferwatch.rows import Batch, Column, Feature, Rows, Schema
from inferwatch_detectors import MahalanobisOutlier
from inferwatch_detectors.conformal import Conformal, split
from inferwatch_detectors.mahalanobis import RowDistance
from tests.detectors.references import numbers, reference

RANDOM = np.random.default_rng(17)
MIXING = np.array([[1.0, 0.0, 0.0], [0.8, 0.5, 0.0], [0.1, -0.3, 20.0]])


def schema(count: int) -> Schema:
    return Schema(tuple(Feature(f"x{index}", "numeric") for index in range(count)))


@pytest.mark.parametrize("shape", [(5, 8), (60, 1), (400, 3), (100, 40)])
def test_the_covariance_is_scikit_learns(shape: tuple[int, int]) -> None:
    rows = RANDOM.standard_t(3, shape) @ RANDOM.normal(size=(shape[1], shape[1]))
    standardised = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    expected, shrinkage = ledoit_wolf(standardised, assume_centered=True)

    np.testing.assert_allclose(RowDistance(rows, schema(shape[1])).covariance, expected, rtol=0, atol=1e-10)
    assert (shrinkage > 0) == (shape[1] > 1)


def test_numbers_have_scikit_learns_ledoit_wolf_distance() -> None:
    rows = RANDOM.normal(size=(400, 3)) @ MIXING.T + [5, 0, 100]
    seen = RANDOM.normal(size=(50, 3)) @ MIXING.T + [5, 0, 100]
    scale = rows.std(axis=0)
    expected = LedoitWolf().fit(rows / scale).mahalanobis(seen / scale)

    assert RowDistance(rows, schema(3)).squared(seen) == pytest.approx(expected)


def test_a_missing_number_leaves_the_distance_of_the_others() -> None:
    distance = RowDistance(RANDOM.normal(size=(400, 3)) @ MIXING.T, schema(3))
    rows = np.array([[1.0, np.nan, 30.0], [1.0, 2.0, np.nan], [np.nan] * 3, [1.0, 2.0, 30.0]])
    kept = [0, 2]
    deviation = (rows[0, kept] - distance.mean[kept]) / distance.sd[kept]
    expected = deviation @ np.linalg.inv(distance.covariance[np.ix_(kept, kept)]) @ deviation
    squared = distance.squared(rows)

    assert squared[0] == pytest.approx(expected)
    assert squared[2] == 0
    assert squared[0] < squared[3]
    assert squared[3] == pytest.approx(distance.squared(rows[3:])[0])


def test_categories_add_twice_their_surprisal() -> None:
    labels = np.repeat(np.array(["a", "b", None], dtype=object), [700, 200, 100])
    built = Reference.build(Rows((Column("x", labels),), 1000), created_ns=0)
    distance = RowDistance(built.rows, built.schema)
    squared = distance.squared(np.array([[0.0], [1.0], [2.0], [np.nan]]))

    assert squared == pytest.approx([-2 * math.log(share / 1000.5) for share in (700, 200, 0.5, 100)])


def test_the_parts_sum_to_the_distance() -> None:
    built = reference()
    distance = RowDistance(built.rows, built.schema)

    assert distance.contributions(built.rows).sum(axis=1) == pytest.approx(distance.squared(built.rows))
    assert np.isfinite(distance.squared(built.rows)).all()


def test_a_value_beside_a_constant_is_far_away() -> None:
    rows = np.column_stack([np.full(500, 3.0), RANDOM.normal(size=500)])
    distance = RowDistance(rows, schema(2))

    assert distance.squared(np.array([[4.0, 0.0]]))[0] > 100
    assert distance.squared(np.array([[3.0, 0.0]]))[0] < 1


@pytest.mark.parametrize(("rate", "rows"), [(0.001, 5000), (0.01, 5000), (0.05, 1000), (0.2, 300), (0.001, 1100)])
def test_the_calibration_size_meets_the_rate_exactly(rate: float, rows: int) -> None:
    fitted, calibrating = split(rows, 4, rate, 0)

    assert (len(calibrating) + 1) * rate == pytest.approx(round((len(calibrating) + 1) * rate))
    assert set(fitted).isdisjoint(calibrating)
    assert len(fitted) + len(calibrating) == rows
    assert len(fitted) >= 50


def test_fired_is_exactly_a_p_value_within_the_rate() -> None:
    for rate in (0.01, 0.0137, 0.3):
        conformal = Conformal(np.sort(RANDOM.normal(size=499)), rate)
        p_values = conformal.p_values(np.append(conformal.calibration, [-9.0, 9.0]))

        assert p_values.min() == 1 / 500
        assert p_values.max() == 1
        assert np.array_equal(-np.log10(p_values) > conformal.threshold, p_values <= rate + 1e-12)


def test_p_values_count_the_calibration_scores_at_least_as_large() -> None:
    conformal = Conformal(np.array([1.0, 2.0, 2.0, 3.0]), 0.25)

    assert conformal.p_values(np.array([0.0, 2.0, 2.5, 3.0, 4.0])) == pytest.approx([1.0, 0.8, 0.4, 0.4, 0.2])


def test_a_rate_below_what_the_reference_carries_names_the_size() -> None:
    with pytest.raises(UnkeepablePromise, match=r"1e-05 needs a reference of at least 100,049 rows.*keeps 5,000"):
        MahalanobisOutlier(reference(), false_alarm_rate=1e-5)
    split(1049, 2, 0.001, 0)
    with pytest.raises(UnkeepablePromise, match=r"at least 1,049 rows"):
        split(1048, 2, 0.001, 0)


@pytest.mark.parametrize("rate", [0.0, 1.0, -0.1])
def test_a_rate_is_a_probability(rate: float) -> None:
    with pytest.raises(ValueError, match=r"in \(0, 1\)"):
        MahalanobisOutlier(reference(), false_alarm_rate=rate)


def test_the_rate_is_met_on_average_over_references() -> None:
    """At 1 % over 120 references x 500 rows: between 0.85 and 1.15 %, four standard errors."""
    flagged = 0
    for _ in range(120):
        detector = MahalanobisOutlier(numbers(RANDOM.standard_t(5, size=(1000, 3))), false_alarm_rate=0.01)
        scores = detector.distance.squared(RANDOM.standard_t(5, size=(500, 3)))
        flagged += int((detector.conformal.p_values(scores) <= 0.01).sum())

    assert 0.0085 <= flagged / 60_000 <= 0.0115


def test_why_names_what_contributes_most() -> None:
    detector = MahalanobisOutlier(reference(), false_alarm_rate=0.01, report_all=True)
    usual = [40.0, 1.0, 38.0, 1.0, 0.0, np.nan]
    rows = np.array([usual] * 4)
    rows[0, 0], rows[1, 4], rows[2, 3], rows[3, :3] = -70, 4, 2, [90, 1, 90]
    said = [finding.why for finding in detector.observe(Batch.of(rows))]

    assert said[0] == "age is 11 sd below the reference's mean"
    assert said[1] == "place has a category that the reference does not list"
    assert said[2].startswith("one is 1 sd above")
    assert {"age", "hours"} <= set(said[3].split())


def test_far_away_is_said_without_an_exponent() -> None:
    detector = MahalanobisOutlier(reference(), false_alarm_rate=0.01)
    [finding] = detector.observe(Batch.of(np.array([[4050.0, 1, 38, 1, 0, np.nan]])))

    assert finding.why == "age is 410 sd above the reference's mean"


def test_the_assumption_states_the_rate_achieved() -> None:
    detector = MahalanobisOutlier(reference(), false_alarm_rate=0.001)
    low, high = detector.conformal.achieved
    [finding] = detector.observe(Batch.of(np.array([[400.0, 1, 38, 1, 0, np.nan]])))

    assert low < 0.001 < high
    assert "3,999 held-out rows" in finding.assumption
    assert f"[{low:.2g}, {high:.2g}]" in finding.assumption
    assert finding.p_value == 1 / 4000
    assert finding.score == pytest.approx(math.log10(4000))
    assert finding.statistic is not None
    assert finding.statistic > 1000
