from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inferwatch.errors import InvalidOption, InvalidRows, PredictorError, PredictorTimeout
from inferwatch.rows import Matrix
from inferwatch_explainers import Counterfactual
from tests.explainers.models import Recorder
from tests.explainers.test_anchors_tabular import SCHEMA, mixed
from tests.explainers.test_kernel_shap import SlowPredictor

REFERENCE = np.random.default_rng(0).normal(size=(2000, 6))
WEIGHTS = np.array([2.0, -1.0, 0.5, 0.0, 0.0, 0.0])


def linear(rows: Matrix) -> Matrix:
    return np.asarray(1 / (1 + np.exp(-(rows @ WEIGHTS))))


def test_the_nearest_of_a_linear_model_changes_its_steepest_feature_just_enough() -> None:
    """In the sum of |change| / sd the nearest point of a half-space lies along the steepest feature alone."""
    rows = np.random.default_rng(1).normal(size=(8, 6))
    found = Counterfactual(linear, REFERENCE).explain(rows)
    spread = REFERENCE.std(axis=0, ddof=1)
    optimum = np.abs(rows @ WEIGHTS) / np.abs(WEIGHTS * spread).max()
    np.testing.assert_allclose(np.array(found.distance, dtype=float), optimum, rtol=0.05, atol=0.01)
    for row, near, changed, reached in zip(rows, found.counterfactuals, found.changed, found.target, strict=True):
        first = np.array(near[0])
        assert changed == ("x0",)
        np.testing.assert_array_equal(first[1:], row[1:])
        assert (linear(first[None])[0] >= 0.5) == reached
        assert (linear(row[None])[0] >= 0.5) != reached
    np.testing.assert_allclose(found.prediction, linear(rows))
    assert found.predictor_calls <= 6


def test_every_row_returned_is_decided_otherwise_and_nearest_first() -> None:
    def model(rows: Matrix) -> Any:
        return np.where((rows[:, 0] > 0.5) & (rows[:, 1] + rows[:, 2] < 1), "yes", "no")

    rows = np.random.default_rng(2).normal(size=(10, 6))
    found = Counterfactual(model, REFERENCE).explain(rows)
    spread = REFERENCE.std(axis=0, ddof=1)
    for row, near, own, distance in zip(rows, found.counterfactuals, model(rows), found.distance, strict=True):
        others = np.array(near)
        assert (model(others) != own).all()
        away = (np.abs(others - row) / spread).sum(axis=1)
        assert (np.diff(away) >= 0).all()
        assert distance == pytest.approx(away[0])


def test_immutable_features_stay() -> None:
    rows = np.random.default_rng(1).normal(size=(4, 6))
    found = Counterfactual(linear, REFERENCE, immutable=["x0", "x3"]).explain(rows)
    for row, near, changed in zip(rows, found.counterfactuals, found.changed, strict=True):
        assert (np.array(near)[:, [0, 3]] == row[[0, 3]]).all()
        assert changed == ("x1",)
    with pytest.raises(InvalidOption, match="'age'; the features are x0"):
        Counterfactual(linear, REFERENCE, immutable=["age"])
    with pytest.raises(InvalidOption, match="nothing is left"):
        Counterfactual(linear, REFERENCE, immutable=[f"x{place}" for place in range(6)])


def test_numbers_move_only_in_their_ranges_and_directions() -> None:
    rows = np.random.default_rng(1).normal(size=(8, 6)) / 2
    rows = rows[rows @ WEIGHTS > 0]  # whose steepest way to the other class is down in x0
    limited = Counterfactual(linear, REFERENCE, ranges={"x0": (-0.5, None), "x2": (-1.0, 1.0)}, directions={"x1": "up"})
    for row, near in zip(rows, limited.explain(rows).counterfactuals, strict=True):
        moved = np.array(near)
        assert len(moved)
        assert ((moved[:, 0] >= -0.5) | (moved[:, 0] == row[0])).all()
        assert (moved[:, 1] >= row[1]).all()
        assert ((np.abs(moved[:, 2]) <= 1.0) | (moved[:, 2] == row[2])).all()
    upward = Counterfactual(linear, REFERENCE, directions={"x0": "up", "x1": "up", "x2": "up"}).explain(rows)
    assert set(upward.changed) == {("x1",)}
    stuck = Counterfactual(linear, REFERENCE, directions={"x0": "up", "x1": "down", "x2": "up"}).explain(rows)
    assert not any(stuck.counterfactuals)


def test_a_range_leaves_whole_numbers_whole_and_reaches_them_from_outside() -> None:
    reference = np.round(REFERENCE * 10)
    explainer = Counterfactual(lambda rows: (rows[:, 0] >= 6).astype(int), reference, ranges={"x0": (7.5, 9.5)})
    found = explainer.explain(np.zeros((1, 6)))
    assert found.counterfactuals[0][0] == (8.0, 0.0, 0.0, 0.0, 0.0, 0.0)


@pytest.mark.parametrize(
    ("limits", "says"),
    [
        ({"ranges": {"height": (0, 1)}}, "ranges name 'height'; the features are age"),
        ({"ranges": {"age": (5, 3)}}, "ranges of age begin at 5 and end at 3"),
        ({"directions": {"work": "up"}}, "directions are for numbers, and work is categorical"),
    ],
)
def test_wrong_limits_are_named(limits: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidOption, match=says):
        Counterfactual(linear, mixed(20), schema=SCHEMA, **limits)


def test_categories_and_whole_numbers_stay_what_they_are() -> None:
    reference = mixed(800)
    reference[:, 0] = np.round(reference[:, 0])

    def model(rows: Matrix) -> Any:
        return ((rows[:, 1] == 2) | (rows[:, 0] > 50)).astype(int)

    explainer = Counterfactual(model, reference, schema=SCHEMA)
    found = explainer.explain(np.array([[49.0, 0.0, 0.0], [20.0, 0.0, 0.0]]))
    assert (found.changed, found.target) == ((("age",), ("work",)), (1, 1))
    assert found.counterfactuals[0][0] == (51.0, "Private", 0.0)
    assert found.counterfactuals[1][0] == (20.0, "Other", 0.0)
    assert found.distance[1] == 1.0


def test_a_target_class_is_reached_where_there_is_one() -> None:
    def model(rows: Matrix) -> Any:
        return np.digitize(rows[:, 0], [-0.5, 0.5])

    explainer = Counterfactual(model, REFERENCE)
    found = explainer.explain(np.full((1, 6), -2.0), target=2)
    assert found.target == (2,)
    assert found.counterfactuals[0][0][0] == pytest.approx(0.5, abs=0.05)
    nowhere = explainer.explain(np.full((1, 6), -2.0), target=7)
    assert (nowhere.counterfactuals, nowhere.changed, nowhere.distance) == (((),), ((),), (None,))
    with pytest.raises(InvalidOption, match="of type int"):
        explainer.explain(np.zeros((1, 6)), target="2")


def test_rows_and_calls_are_counted_and_bounded() -> None:
    recorder = Recorder(linear)
    found = Counterfactual(recorder, REFERENCE, samples=500).explain(np.ones((2, 6)))
    assert len(recorder.asked) == found.predictor_calls
    assert sum(map(len, recorder.asked)) == found.predictor_rows <= 2 * 500 + 2


def test_faults_are_named() -> None:
    with pytest.raises(InvalidOption, match=r"beyond \[0, 1\]"):
        Counterfactual(lambda rows: rows[:, 0], REFERENCE).explain(REFERENCE[:1])
    with pytest.raises(PredictorError):
        Counterfactual(lambda rows: rows[:3, 0], REFERENCE).explain(REFERENCE[:1])
    with pytest.raises(InvalidRows, match="6 features"):
        Counterfactual(linear, REFERENCE).explain(np.ones((1, 5)))


def test_a_deadline_leaves_the_nearest_so_far() -> None:
    slow = SlowPredictor(0.4, 0.0, ends=1.0)

    def model(rows: Matrix) -> Matrix:
        slow(rows)
        return linear(rows)

    found = Counterfactual(model, REFERENCE, deadline_s=1.0, clock=slow.clock).explain(np.ones((1, 6)))
    assert found.deadline_reached
    assert found.predictor_calls <= 2
    assert found.counterfactuals[0]
    dead = SlowPredictor(0.4, 0.0, ends=0.1)
    with pytest.raises(PredictorTimeout):
        Counterfactual(dead, REFERENCE, deadline_s=0.1, clock=dead.clock).explain(REFERENCE[:1])
