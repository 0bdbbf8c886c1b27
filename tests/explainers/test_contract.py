"""What every explainer owes its users, checked for each one that the service knows."""

from __future__ import annotations

import numpy as np
import pytest

from inferwatch.errors import InvalidOption, InvalidReference, InvalidRows, PredictorError
from inferwatch.protocols import Predict
from inferwatch.rows import Feature, Matrix, Schema
from inferwatch_explainers.registry import EXPLAINERS, Attributor, check_method
from tests.explainers.models import interacting

WEIGHTS = np.array([1.0, -2.0, 0.5, 0.0, 3.0])
SCHEMA = Schema(tuple(Feature(name, "numeric") for name in "abcde"))


@pytest.fixture(params=sorted(EXPLAINERS))
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def background() -> Matrix:
    return np.random.default_rng(1).normal(size=(30, 5))


@pytest.fixture
def rows() -> Matrix:
    return np.random.default_rng(2).normal(size=(4, 5))


def explainer(method: str, predict: Predict, background: Matrix, deadline_s: float | None = None) -> Attributor:
    return EXPLAINERS[method](predict, background, schema=SCHEMA, samples=None, deadline_s=deadline_s)


def linear(rows: Matrix) -> Matrix:
    return np.asarray(rows @ WEIGHTS + 7.0)


def test_linear_models_have_their_closed_form(method: str, background: Matrix, rows: Matrix) -> None:
    attribution = explainer(method, linear, background).explain(rows)
    np.testing.assert_allclose(attribution.values, WEIGHTS * (rows - background.mean(axis=0)), atol=1e-9)
    np.testing.assert_allclose(attribution.base_value, linear(background).mean())
    np.testing.assert_allclose(attribution.prediction, linear(rows))


def test_shapes_names_and_sums(method: str, background: Matrix, rows: Matrix) -> None:
    attribution = explainer(method, interacting, background).explain(rows)
    assert attribution.method == method
    assert attribution.features == SCHEMA.names
    assert attribution.values.shape == attribution.std_error.shape == rows.shape
    assert attribution.prediction.shape == attribution.base_value.shape == attribution.gap.shape == (4,)
    assert len(attribution.target) == 4
    np.testing.assert_allclose(attribution.gap, 0.0, atol=1e-12)
    total = attribution.prediction - attribution.base_value
    np.testing.assert_allclose(attribution.values.sum(axis=1), total, atol=1e-12)


def test_arguments_are_left_alone_and_seeds_repeat(method: str, background: Matrix, rows: Matrix) -> None:
    before = background.copy(), rows.copy()
    first = explainer(method, interacting, background).explain(rows)
    second = explainer(method, interacting, background).explain(rows)
    np.testing.assert_array_equal(first.values, second.values)
    np.testing.assert_array_equal(background, before[0])
    np.testing.assert_array_equal(rows, before[1])


def test_rows_explained_together_or_alone_agree(method: str, background: Matrix, rows: Matrix) -> None:
    """What is sampled agrees within its error, since all rows together decide when it is small enough."""
    together = explainer(method, interacting, background).explain(rows)
    alone = [explainer(method, interacting, background).explain(rows[row : row + 1]) for row in range(4)]
    off = np.abs(together.values - np.concatenate([each.values for each in alone]))
    assert (off <= 6 * together.std_error + 1e-12).all()


def test_a_deadline_far_away_changes_nothing(method: str, background: Matrix, rows: Matrix) -> None:
    attribution = explainer(method, interacting, background, deadline_s=600.0).explain(rows)
    assert not attribution.deadline_reached
    without = explainer(method, interacting, background).explain(rows)
    np.testing.assert_allclose(attribution.values, without.values, atol=1e-12)


@pytest.mark.parametrize("shape", [(1, 4), (0, 5), (5,)])
def test_other_shapes_are_refused(method: str, background: Matrix, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidRows, match="5 features"):
        explainer(method, linear, background).explain(np.ones(shape))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_missing_values_are_refused(method: str, background: Matrix, rows: Matrix, value: float) -> None:
    rows[1, 2] = value
    with pytest.raises(InvalidRows, match="missing or not finite"):
        explainer(method, linear, background).explain(rows)


def test_an_empty_background_is_refused(method: str) -> None:
    with pytest.raises(InvalidReference, match="shape"):
        explainer(method, linear, np.empty((0, 5)))


@pytest.mark.parametrize("deadline_s", [0.0, -1.0, np.inf, np.nan])
def test_an_impossible_deadline_is_refused(method: str, background: Matrix, deadline_s: float) -> None:
    with pytest.raises(InvalidOption, match="deadline_s"):
        explainer(method, linear, background, deadline_s)


@pytest.mark.parametrize(
    "answer",
    [np.ones(3), np.full(10_000, np.nan), np.ones((2, 2, 2)), np.array(["a", None] * 5000, dtype=object)],
    ids=["short", "nan", "cube", "none"],
)
def test_unusable_outputs_are_the_predictors_fault(method: str, background: Matrix, answer: Matrix) -> None:
    with pytest.raises(PredictorError):
        explainer(method, lambda rows: answer[: len(rows)], background).explain(np.ones((1, 5)))


def test_entries_are_json_ready_and_named_as_agreed(method: str, background: Matrix, rows: Matrix) -> None:
    import orjson

    entries = explainer(method, interacting, background).explain(rows).as_dicts()
    assert len(entries) == 4
    assert set(orjson.loads(orjson.dumps(entries[0]))) == {
        "method", "features", "values", "base_value", "prediction", "target", "gap", "std_error", "exact",
        "predictor_calls", "predictor_rows", "elapsed_s", "deadline_reached",
    }  # fmt: skip


def test_an_unknown_method_names_the_known_ones() -> None:
    with pytest.raises(InvalidOption, match="exact_shapley, kernel_shap"):
        check_method("tea_leaves")
