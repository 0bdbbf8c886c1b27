"""Every score against an independent source, and the rate that all of them keep."""

import numpy as np
import pytest
from sklearn.ensemble import IsolationForest
from sklearn.neighbors import NearestNeighbors

from inferwatch.rows import Batch, Feature, Matrix, Schema
from inferwatch_detectors import ConformalOutlier
from inferwatch_detectors.conformal_outlier import OutlierMethod
from inferwatch_detectors.ecod import TailScore
from inferwatch_detectors.ensemble import MeanSurprise
from inferwatch_detectors.hbos import HistogramScore
from inferwatch_detectors.isolation_forest import IsolationScore
from inferwatch_detectors.nearest_neighbours import NeighbourDistance
from tests.detectors.references import numbers

METHODS: tuple[OutlierMethod, ...] = ("ensemble", "mahalanobis", "hbos", "isolation_forest", "knn", "ecod")
RANDOM = np.random.default_rng(17)
FITTED = RANDOM.gamma(2.0, size=(800, 4))
ROWS = RANDOM.gamma(2.0, 1.5, size=(300, 4))
SCHEMA = Schema(tuple(Feature(f"x{index}", "numeric") for index in range(4)))
PLACES = Schema((Feature("x", "numeric"), Feature("place", "categorical", ("a", "b"))))


@pytest.mark.parametrize("count", [1, 300])
def test_the_isolation_forest_scores_as_scikit_learns_does(count: int) -> None:
    forest = IsolationForest(n_estimators=100, random_state=0).fit(FITTED.astype(np.float32))
    found = IsolationScore(FITTED, SCHEMA).score(ROWS[:count])

    assert found == pytest.approx(-forest.score_samples(ROWS[:count].astype(np.float32)), abs=1e-14)


def test_rows_on_a_cut_go_where_scikit_learns_go() -> None:
    """Cuts are doubles and rows are not: the nearest of them lies above its cut as often as below."""
    forest = IsolationForest(n_estimators=100, random_state=0).fit(FITTED.astype(np.float32))
    cuts = np.concatenate([tree.tree_.threshold for tree in forest.estimators_])[:2000].reshape(-1, 4)

    assert IsolationScore(FITTED, SCHEMA).score(cuts) == pytest.approx(
        -forest.score_samples(cuts.astype(np.float32)), abs=1e-14
    )


def test_the_neighbour_is_the_fifth_of_scikit_learns() -> None:
    scale = FITTED.std(axis=0)
    distances, _ = NearestNeighbors(n_neighbors=5).fit(FITTED / scale).kneighbors(ROWS / scale)

    assert NeighbourDistance(FITTED, SCHEMA).score(ROWS) == pytest.approx(distances[:, -1], rel=1e-6)


def test_different_categories_are_one_apart() -> None:
    fitted = np.column_stack([np.zeros(20), np.zeros(20)])

    assert NeighbourDistance(fitted, PLACES).score(np.array([[0.0, 0.0], [0.0, 1.0], [0.0, np.nan]])) == pytest.approx(
        [0.0, 1.0, 1.0], abs=1e-7
    )


def test_hbos_adds_the_rarity_of_the_bins() -> None:
    expected = np.zeros(len(ROWS))
    for index in range(4):
        counts, edges = np.histogram(FITTED[:, index], bins=10)
        for row, value in enumerate(ROWS[:, index]):
            bins_away = max((edges[0] - value), (value - edges[-1])) / (edges[1] - edges[0])
            inside = int(np.clip(np.searchsorted(edges, value, side="right") - 1, 0, 9))
            count = 0.5 if bins_away > 0 else max(counts[inside], 0.5)
            expected[row] -= 2 * np.log(count / counts.max())
            expected[row] += 4 * np.log1p(np.ceil(bins_away)) if bins_away > 0 else 0

    assert HistogramScore(FITTED, SCHEMA).score(ROWS) == pytest.approx(expected)


def test_ecod_is_the_largest_sum_of_tails() -> None:
    left = (FITTED[np.newaxis] <= ROWS[:, np.newaxis]).sum(axis=1)
    right = (FITTED[np.newaxis] >= ROWS[:, np.newaxis]).sum(axis=1)
    tails = [-np.log((side + 1) / (len(FITTED) + 1)) for side in (left, right)]
    beyond = np.log1p(np.maximum(ROWS - FITTED.max(axis=0), 0) / FITTED.std(axis=0))
    low = np.log1p(np.maximum(FITTED.min(axis=0) - ROWS, 0) / FITTED.std(axis=0))
    sums = np.array([(tails[0] + low).sum(axis=1), (tails[1] + beyond).sum(axis=1)])  # gamma rows skew right

    assert TailScore(FITTED, SCHEMA).score(ROWS) == pytest.approx(sums.max(axis=0))


def test_the_ensemble_goes_on_beyond_all_fitted_rows() -> None:
    def distance(rows: Matrix) -> Matrix:
        return np.asarray(np.abs(rows).sum(axis=1))

    ensemble = MeanSurprise(FITTED, [distance, lambda rows: 2 * distance(rows)])
    near, far, farther = ensemble.score(np.array([[1.0] * 4, [100.0] * 4, [101.0] * 4]))

    assert 0 <= near < 3 < far < farther
    assert ensemble.score(ROWS) == pytest.approx(MeanSurprise(FITTED, [distance]).score(ROWS))


@pytest.mark.parametrize("method", METHODS)
def test_findings_are_the_same_to_the_bit_however_the_rows_are_delivered(method: OutlierMethod) -> None:
    """A replay takes many events at once where live traffic brought single rows. Sums of 8 terms tell the two apart."""
    detector = ConformalOutlier(numbers(RANDOM.normal(size=(1500, 12))), method=method, report_all=True)
    rows = RANDOM.normal(size=(60, 12))
    rows[::7, 3] = np.nan
    batch = Batch.of(rows)
    whole = detector.observe(batch)

    for size in (1, 7):
        parts = [detector.observe(batch.slice(start, min(start + size, 60))) for start in range(0, 60, size)]
        assert [finding for part in parts for finding in part] == whole


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_the_rate_is_met_on_average_over_references(method: OutlierMethod) -> None:
    """At 1 % over 100 references x 500 rows: between 0.8 and 1.2 %, four standard errors."""
    flagged = 0
    for _ in range(100):
        reference = numbers(RANDOM.standard_t(5, size=(1000, 3)))
        detector = ConformalOutlier(reference, method=method, false_alarm_rate=0.01)
        scores = detector.scorer.score(RANDOM.standard_t(5, size=(500, 3)))
        flagged += int((detector.conformal.p_values(scores) <= 0.01).sum())

    assert 0.008 <= flagged / 50_000 <= 0.012
