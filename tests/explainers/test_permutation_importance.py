"""The importance of features over traffic is what moving each of them does, and no more."""

from __future__ import annotations

import numpy as np
import pytest

from inferwatch.errors import InvalidOption, InvalidRows, PredictorError
from inferwatch.rows import Matrix
from inferwatch_explainers import permutation_importance
from inferwatch_explainers.permutation_importance import PermutationImportance
from tests.explainers.models import Recorder, interacting

ROWS = np.random.default_rng(0).normal(size=(40, 4))


def by_pairs(predict: object, rows: Matrix) -> Matrix:
    """Return the mean over all pairs of different rows, one by one."""
    moved = np.zeros(rows.shape[1])
    for row in range(len(rows)):
        for other in set(range(len(rows))) - {row}:
            for column in range(rows.shape[1]):
                changed = rows[row : row + 1].copy()
                changed[0, column] = rows[other, column]
                moved[column] += abs(predict(changed)[0] - predict(rows[row : row + 1])[0])  # type: ignore[operator]  # a function
    return moved / (len(rows) * (len(rows) - 1))


def test_with_all_other_rows_it_is_the_mean_over_all_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    predict = Recorder(interacting)
    monkeypatch.setattr(permutation_importance, "ROUND_ROWS", 1000)
    said = PermutationImportance(predict, repeats=1_000).explain(ROWS)
    (entry,) = said.as_dicts()
    np.testing.assert_allclose(entry["values"], by_pairs(interacting, ROWS))
    assert (entry["features"], entry["rows"]) == (["x0", "x1", "x2", "x3"], 40)
    assert said.predictor_rows == 40 * (1 + 4 * 39) == sum(map(len, predict.asked))
    assert said.predictor_calls == len(predict.asked)
    assert max(map(len, predict.asked)) <= 1000


def test_few_repeats_come_near_as_their_error_says() -> None:
    rows = np.random.default_rng(1).normal(size=(2_000, 3))
    weights = np.array([1.0, -2.0, 0.0])
    (entry,) = PermutationImportance(lambda asked: asked @ weights, repeats=3).explain(rows).entries
    truth = np.abs(weights) * 2 / np.sqrt(np.pi)  # the mean difference of two normal numbers
    assert (np.abs(np.array(entry["values"]) - truth) <= 4 * np.array(entry["std_error"])).all()
    assert (entry["values"][2], entry["std_error"][2]) == (0.0, 0.0)


def test_of_labels_it_is_the_share_decided_otherwise() -> None:
    rows = np.array([[0.0, 5.0], [1.0, 5.0], [0.0, 5.0], [1.0, 5.0]])
    said = PermutationImportance(lambda asked: asked[:, 0] > 0.5, repeats=3).explain(rows)
    assert said.entries[0]["values"] == pytest.approx([2 / 3, 0.0])


def test_of_several_outputs_the_largest_or_the_target_counts() -> None:
    def both(rows: Matrix) -> Matrix:
        return np.stack([rows[:, 0] + 100, rows[:, 1]], axis=1)

    largest, second = (PermutationImportance(both).explain(ROWS, target=target).entries[0] for target in (None, 1))
    assert largest["values"][1] == second["values"][0] == 0
    assert min(largest["values"][0], second["values"][1]) > 0.5


@pytest.mark.parametrize(
    ("rows", "fault"),
    [(ROWS[:1], "one row is too few"), (ROWS[:0], "at least one row"), (ROWS * np.nan, "missing or not finite")],
)
def test_rows_that_tell_nothing_are_refused(rows: Matrix, fault: str) -> None:
    with pytest.raises(InvalidRows, match=fault):
        PermutationImportance(interacting).explain(rows)


def test_other_faults_are_named() -> None:
    with pytest.raises(InvalidOption, match="repeats is 0; at least 1 is needed"):
        PermutationImportance(interacting, repeats=0)
    with pytest.raises(PredictorError, match="NaN"):
        PermutationImportance(lambda rows: rows[:, 0] * np.nan).explain(ROWS)
