from __future__ import annotations

import numpy as np
import pytest

from inferwatch.rows import Matrix
from inferwatch_explainers import ExactShapley, PermutationShap
from tests.explainers.models import Recorder, interacting
from tests.explainers.test_kernel_shap import SlowPredictor


@pytest.fixture
def background() -> Matrix:
    return np.random.default_rng(1).normal(size=(20, 8))


@pytest.fixture
def rows() -> Matrix:
    return np.random.default_rng(2).normal(size=(2, 8))


def pairs(rows: Matrix) -> Matrix:
    return np.asarray((rows * np.roll(rows, 1, axis=1)).sum(axis=1) + rows[:, 0])


def test_one_order_is_exact_for_interactions_of_two(background: Matrix, rows: Matrix) -> None:
    recorder = Recorder(pairs)
    attribution = PermutationShap(recorder, background, samples=2 + 2 * 7).explain(rows)
    np.testing.assert_allclose(attribution.values, ExactShapley(pairs, background).explain(rows).values, atol=1e-10)
    assert sum(map(len, recorder.asked)) == attribution.predictor_rows <= 2 * 2 * 7 * 20 + 20 + 2
    assert np.isnan(attribution.std_error).all()
    assert not attribution.exact


@pytest.mark.parametrize("orders", [8, pytest.param(40, marks=pytest.mark.slow)])
def test_the_standard_error_covers_the_truth(background: Matrix, rows: Matrix, orders: int) -> None:
    """At least 88 % of 960 values lie within 1.96 standard errors: 91 % is Student's share at 7 degrees of freedom."""
    exact = ExactShapley(interacting, background).explain(rows).values
    samples = 2 + 2 * 7 * orders
    runs = [PermutationShap(interacting, background, samples=samples, seed=seed).explain(rows) for seed in range(60)]
    off = np.array([run.values - exact for run in runs])
    errors = np.array([run.std_error for run in runs])
    assert (np.abs(off) <= 1.96 * errors).mean() > 0.88
    assert np.sqrt((off**2).mean()) > 0.5 * np.sqrt((errors**2).mean())


def test_without_samples_it_stops_at_about_one_percent(background: Matrix, rows: Matrix) -> None:
    easy = PermutationShap(lambda asked: pairs(asked) + 0.01 * interacting(asked), background).explain(rows)
    hard = PermutationShap(interacting, background).explain(rows)
    assert easy.predictor_rows < hard.predictor_rows / 4
    sizes = np.linalg.norm(easy.values, axis=1)
    assert (np.linalg.norm(easy.std_error, axis=1) <= 0.01 * sizes).all()


@pytest.mark.parametrize("d", [1, 2])
def test_up_to_two_features_are_exact(d: int) -> None:
    def model(rows: Matrix) -> Matrix:
        return np.asarray(np.exp(rows).prod(axis=1))

    background, rows = np.random.default_rng(0).normal(size=(9, d)), np.ones((1, d))
    attribution = PermutationShap(model, background).explain(rows)
    np.testing.assert_allclose(attribution.values, ExactShapley(model, background).explain(rows).values, atol=1e-12)
    assert attribution.exact
    assert not attribution.std_error.any()


def test_a_deadline_gives_a_coarser_answer(background: Matrix, rows: Matrix) -> None:
    slow = SlowPredictor(0.01, 0.00004, ends=0.3)
    attribution = PermutationShap(slow, background, samples=2000, deadline_s=0.3, clock=slow.clock).explain(rows)
    assert attribution.deadline_reached
    assert 0 < attribution.std_error.max() < np.inf
    np.testing.assert_allclose(attribution.gap, 0, atol=1e-12)


def test_a_long_deadline_gives_what_none_gives(rows: Matrix) -> None:
    background = np.random.default_rng(3).normal(size=(100, 8))  # one order is many times the first, small question
    fast = SlowPredictor(0.001, 1e-7)
    hurried = PermutationShap(fast, background, deadline_s=5.0, clock=fast.clock).explain(rows[:1])
    assert not hurried.deadline_reached
    np.testing.assert_allclose(
        hurried.std_error, PermutationShap(fast, background).explain(rows[:1]).std_error, rtol=0.5
    )


def test_a_short_deadline_leaves_one_order_over_a_few_rows(background: Matrix, rows: Matrix) -> None:
    slow = SlowPredictor(0.2, 0.0001, ends=0.3)
    attribution = PermutationShap(slow, background, deadline_s=0.3, clock=slow.clock).explain(rows)
    assert attribution.deadline_reached
    assert attribution.predictor_calls == 1
    assert np.isnan(attribution.std_error).all()
    np.testing.assert_allclose(attribution.gap, 0, atol=1e-12)
