from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from inferwatch.errors import InvalidOption, InvalidRows, PredictorError, PredictorTimeout
from inferwatch.rows import Feature, Matrix, Schema
from inferwatch_explainers import AnchorsTabular
from tests.explainers.models import Recorder
from tests.explainers.test_kernel_shap import SlowPredictor

REFERENCE = np.random.default_rng(0).uniform(size=(2000, 8))
SCHEMA = Schema(
    (Feature("age", "numeric"), Feature("work", "categorical", ("Private", "State", "Other")), Feature("n", "numeric"))
)


def corner(rows: Matrix) -> Matrix:
    return np.asarray((rows[:, 0] > 0.3) & (rows[:, 1] > 0.6)).astype(int)


def mixed(count: int) -> Matrix:
    generator = np.random.default_rng(1)
    columns = generator.normal(40, 10, count), generator.integers(0, 3, count), generator.normal(size=count)
    return np.stack(columns, axis=1).astype(float)


def keeps(anchor: tuple[str, ...], rows: Matrix) -> Any:
    """Return which rows keep to a rule of numeric features `x0`, `x1`, ..., read from its texts alone."""
    good = np.ones(len(rows), dtype=bool)
    for text in anchor:
        words = text.replace("<=", " <= ").split()
        if words[1] == "<" and len(words) == 5:
            column = rows[:, int(words[2][1:])]
            good &= (column > float(words[0])) & (column <= float(words[4]))
        else:
            column = rows[:, int(words[0][1:])]
            good &= column > float(words[2]) if words[1] == ">" else column <= float(words[2])
    return good


def test_a_rule_that_holds_by_itself_is_found() -> None:
    found = AnchorsTabular(corner, REFERENCE).explain(np.array([[0.9] * 8, [0.1] * 8]))
    assert {text.split()[0] for text in found.anchors[0]} == {"x0", "x1"}
    assert len(found.anchors[1]) == 1
    assert found.target == (1, 0)
    np.testing.assert_array_equal(found.prediction, [1.0, 1.0])
    assert (found.precision >= 0.95).all()
    assert (found.precision_low <= found.precision).all()
    assert found.predictor_calls <= 8


@pytest.mark.slow
def test_what_is_stated_holds_on_fresh_rows() -> None:
    """20 rules of a noisy model: precision within 0.04 on 4,000 fresh rows each, at most one below its 95 % bound."""
    weights = np.random.default_rng(5).normal(size=8)

    def model(rows: Matrix) -> Matrix:
        return np.asarray((rows - 0.5) @ weights + 0.1 * np.sin(40 * rows[:, 0]) > 0).astype(int)

    explained = np.random.default_rng(6).uniform(size=(20, 8))
    found = AnchorsTabular(model, REFERENCE).explain(explained)
    fresh = np.random.default_rng(7).uniform(size=(400_000, 8))
    below = 0
    for row, anchor in enumerate(found.anchors):
        keeping = keeps(anchor, fresh)
        assert keeps(anchor, explained[row : row + 1]).all()
        assert found.coverage[row] == pytest.approx(keeping.mean(), abs=0.03)
        precision = (model(fresh[keeping]) == found.target[row]).mean()
        assert found.precision[row] == pytest.approx(precision, abs=0.04)
        below += precision < found.precision_low[row]
    assert below <= 1
    assert (found.precision >= 0.95).mean() > 0.6


def test_all_rows_share_their_calls() -> None:
    recorder = Recorder(corner)
    rows = np.random.default_rng(3).uniform(size=(5, 8))
    together = AnchorsTabular(recorder, REFERENCE).explain(rows)
    assert len(recorder.asked) == together.predictor_calls <= 8
    assert sum(map(len, recorder.asked)) == together.predictor_rows


def test_samples_bound_the_rows() -> None:
    found = AnchorsTabular(corner, REFERENCE, samples=1000).explain(np.full((2, 8), 0.9))
    assert found.predictor_rows <= 2 * 1000 + 2 * 8


def test_categories_are_conditions_by_name() -> None:
    found = AnchorsTabular(lambda rows: np.where(rows[:, 1] == 2, "yes", "no"), mixed(500), schema=SCHEMA).explain(
        np.array([[40.0, 2.0, 0.0]])
    )
    assert found.anchors == (("work = Other",),)
    assert found.target == ("yes",)
    assert found.features == ("age", "work", "n")


def test_a_model_that_always_says_the_same_needs_no_condition() -> None:
    found = AnchorsTabular(lambda rows: np.zeros(len(rows), dtype=int), REFERENCE).explain(REFERENCE[:1])
    assert found.anchors == ((),)
    assert (found.precision[0], found.coverage[0]) == (1.0, 1.0)


@pytest.mark.parametrize(
    "outputs",
    [lambda hit: np.where(hit, 0.8, 0.3), lambda hit: np.stack([~hit * 0.6 + 0.2, hit * 0.6 + 0.2], axis=1)],
    ids=["number", "several"],
)
def test_probabilities_are_read_as_classes(outputs: Any) -> None:
    found = AnchorsTabular(lambda rows: outputs(rows[:, 3] > 0.5), REFERENCE).explain(np.full((1, 8), 0.9))
    assert [text.split()[0] for text in found.anchors[0]] == ["x3"]
    assert found.prediction[0] == pytest.approx(0.8)


def test_another_target_than_the_predicted_class_and_numbers_are_refused() -> None:
    explainer = AnchorsTabular(corner, REFERENCE)
    assert explainer.explain(np.full((1, 8), 0.9), target=1).target == (1,)
    with pytest.raises(InvalidOption, match="is 1 and not 0"):
        explainer.explain(np.full((1, 8), 0.9), target=0)
    with pytest.raises(InvalidOption, match=r"beyond \[0, 1\]"):
        AnchorsTabular(lambda rows: rows[:, 0] * 9, REFERENCE).explain(REFERENCE[:1])


def test_faults_are_the_predictors_or_the_rows() -> None:
    with pytest.raises(PredictorError):
        AnchorsTabular(lambda rows: np.full(len(rows), np.nan), REFERENCE).explain(REFERENCE[:1])
    with pytest.raises(InvalidRows, match="8 features"):
        AnchorsTabular(corner, REFERENCE).explain(np.ones((1, 7)))


def test_a_deadline_leaves_the_best_rule_so_far() -> None:
    slow = SlowPredictor(0.4, 0.0, ends=1.0)

    def model(rows: Matrix) -> Matrix:
        slow(rows)
        return np.asarray(rows.sum(axis=1) > 4).astype(int)

    found = AnchorsTabular(model, REFERENCE, deadline_s=1.0, clock=slow.clock).explain(np.full((1, 8), 0.55))
    assert found.deadline_reached
    assert found.predictor_calls <= 2
    assert 0 < found.precision_low[0] < found.precision[0] < 1
    dead = SlowPredictor(0.4, 0.0, ends=0.1)
    with pytest.raises(PredictorTimeout):
        AnchorsTabular(dead, REFERENCE, deadline_s=0.1, clock=dead.clock).explain(REFERENCE[:1])
