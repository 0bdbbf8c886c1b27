from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest

from inferwatch.errors import InvalidOption, PredictorError
from inferwatch.explanation import Target
from inferwatch.protocols import Predict
from inferwatch.rows import Matrix
from inferwatch_explainers import KernelShap
from inferwatch_explainers.readout import checked_outputs

BACKGROUND = np.random.default_rng(0).normal(size=(25, 3))
ROWS = np.array([[2.0, 1.0, 0.0], [-2.0, -1.0, 0.0]])


def positive(rows: Matrix) -> Any:
    return rows.sum(axis=1) > 0


LABELS: dict[str, tuple[Predict, tuple[Target, Target]]] = {
    "integers": (lambda rows: positive(rows).astype(np.int64), (1, 0)),
    "booleans": (positive, (True, False)),
    "texts": (lambda rows: np.where(positive(rows), "yes", "no").astype(object), ("yes", "no")),
    "numpy texts": (lambda rows: np.where(positive(rows), "yes", "no"), ("yes", "no")),
}


@pytest.mark.parametrize("kind", LABELS)
def test_labels_are_explained_by_the_indicator_of_the_predicted_one(kind: str) -> None:
    predict, targets = LABELS[kind]
    attribution = KernelShap(predict, BACKGROUND).explain(ROWS)
    assert attribution.target == targets
    assert [type(target) for target in attribution.target] == [type(target) for target in targets]
    assert attribution.prediction.tolist() == [1.0, 1.0]
    share = positive(BACKGROUND).mean()
    np.testing.assert_allclose(attribution.base_value, [share, 1 - share])
    indicator = KernelShap(lambda rows: positive(rows).astype(float), BACKGROUND).explain(ROWS)
    np.testing.assert_allclose(attribution.values[0], indicator.values[0], atol=1e-12)
    np.testing.assert_allclose(attribution.values[1], -indicator.values[1], atol=1e-12)


@pytest.mark.parametrize("kind", LABELS)
def test_a_label_can_be_asked_for(kind: str) -> None:
    predict, targets = LABELS[kind]
    attribution = KernelShap(predict, BACKGROUND).explain(ROWS, target=targets[0])
    assert attribution.target == (targets[0], targets[0])
    assert attribution.prediction.tolist() == [1.0, 0.0]


def probabilities(rows: Matrix) -> Matrix:
    odds = np.exp(rows @ np.array([[1.0, 0.0, -1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]))
    return np.asarray(odds / odds.sum(axis=1, keepdims=True))


def _column(rows: Matrix, index: int) -> Matrix:
    return np.asarray(probabilities(rows)[:, index])


def test_of_several_outputs_each_row_is_explained_for_its_largest() -> None:
    attribution = KernelShap(probabilities, BACKGROUND).explain(ROWS)
    largest = probabilities(ROWS).argmax(axis=1)
    assert attribution.target == tuple(largest.tolist())
    assert len(set(attribution.target)) == 2
    np.testing.assert_allclose(attribution.prediction, probabilities(ROWS).max(axis=1))
    for row, index in enumerate(largest):
        alone = KernelShap(partial(_column, index=int(index)), BACKGROUND).explain(ROWS)
        np.testing.assert_allclose(attribution.values[row], alone.values[row], atol=1e-12)


def test_the_target_picks_an_output() -> None:
    attribution = KernelShap(probabilities, BACKGROUND).explain(ROWS, target=1)
    assert attribution.target == (1, 1)
    np.testing.assert_allclose(attribution.prediction, probabilities(ROWS)[:, 1])


def test_one_column_is_one_output() -> None:
    attribution = KernelShap(lambda rows: rows[:, :1], BACKGROUND).explain(ROWS)
    assert attribution.target == (None, None)
    np.testing.assert_allclose(attribution.prediction, ROWS[:, 0])


@pytest.mark.parametrize(
    ("predict", "target", "match"),
    [
        (probabilities, 3, "3 outputs, 0 to 2"),
        (probabilities, -1, "3 outputs"),
        (probabilities, True, "3 outputs"),
        (probabilities, "yes", "3 outputs"),
        (lambda rows: rows[:, 0], 1, "one output"),
        (lambda rows: rows[:, 0], "yes", "one output"),
        (LABELS["texts"][0], 1, "labels are of type str"),
        (LABELS["integers"][0], "1", "labels are of type int"),
        (LABELS["integers"][0], 7, "target is 7, a label that the predictor gave no row; it gave 1, 0"),
        (LABELS["texts"][0], "Yes", "it gave 'yes', 'no'"),
    ],
)
def test_targets_that_do_not_exist_are_refused(predict: Any, target: Target, match: str) -> None:
    with pytest.raises(InvalidOption, match=match):
        KernelShap(predict, BACKGROUND).explain(ROWS, target=target)


@pytest.mark.parametrize(
    "outputs",
    [
        [1.0, 2.0],
        [[1.0], [2.0], [3.0], [4.0]],
        [1.0, float("nan"), 2.0],
        [1.0, float("inf"), 2.0],
        5.0,
        [[["a"]], [["b"]], [["c"]]],
        np.array([["a", "b"]] * 3),
        np.array([{"a": 1}] * 3),
    ],
)
def test_outputs_that_cannot_be_used(outputs: Any) -> None:
    with pytest.raises(PredictorError):
        checked_outputs(outputs, 3)
