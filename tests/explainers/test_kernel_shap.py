from __future__ import annotations

import numpy as np
import pytest

from inferwatch.errors import InvalidOption, PredictorTimeout
from inferwatch.rows import Matrix
from inferwatch_explainers import ExactShapley, KernelShap
from tests.explainers.models import Recorder, interacting


class SlowPredictor:
    """Answers at a price in seconds a call and a row, on a clock of its own; not at all past its end."""

    def __init__(self, call_s: float, row_s: float, ends: float = np.inf) -> None:
        self.now = 100.0
        self._call_s, self._row_s, self._ends = call_s, row_s, 100.0 + ends

    def clock(self) -> float:
        return self.now

    def __call__(self, rows: Matrix) -> Matrix:
        self.now += self._call_s + self._row_s * len(rows)
        if self.now > self._ends:
            self.now = self._ends
            raise PredictorTimeout("too slow")
        return interacting(rows)


@pytest.fixture
def background() -> Matrix:
    return np.random.default_rng(1).normal(size=(20, 10))


@pytest.fixture
def rows() -> Matrix:
    return np.random.default_rng(2).normal(size=(2, 10))


def test_equals_exact_when_all_coalitions_fit(background: Matrix, rows: Matrix) -> None:
    exact = ExactShapley(interacting, background).explain(rows)
    kernel = KernelShap(interacting, background, samples=1024).explain(rows)
    np.testing.assert_allclose(kernel.values, exact.values, atol=1e-10)
    assert kernel.exact
    assert not KernelShap(interacting, background, samples=1023).explain(rows).exact


def test_the_error_falls_with_samples(background: Matrix, rows: Matrix) -> None:
    """The mean error over 8 seeds falls at every step, from below 25 % of the values at 62 coalitions to below 5 %."""
    exact = ExactShapley(interacting, background).explain(rows).values
    errors = []
    for samples in (62, 150, 400, 900):
        estimates = [KernelShap(interacting, background, samples=samples, seed=seed).explain(rows) for seed in range(8)]
        errors.append(np.mean([np.linalg.norm(each.values - exact) for each in estimates]) / np.linalg.norm(exact))
    assert errors == sorted(errors, reverse=True)
    assert errors[0] < 0.25
    assert errors[-1] < 0.05


@pytest.mark.parametrize("samples", [80, 200, pytest.param(600, marks=pytest.mark.slow)])
def test_the_standard_error_covers_the_truth(background: Matrix, rows: Matrix, samples: int) -> None:
    """At least 90 % of 1,200 values lie within 1.96 standard errors (95 % if normal), which are not far too large."""
    exact = ExactShapley(interacting, background).explain(rows).values
    runs = [KernelShap(interacting, background, samples=samples, seed=seed).explain(rows) for seed in range(60)]
    off = np.array([run.values - exact for run in runs])
    errors = np.array([run.std_error for run in runs])
    assert (np.abs(off) <= 1.96 * errors).mean() > 0.90
    assert np.sqrt((off**2).mean()) > 0.5 * np.sqrt((errors**2).mean())


def test_an_error_that_no_residual_tells_is_not_stated(background: Matrix, rows: Matrix) -> None:
    """The 10 pairs of size 1 fit exactly, which says nothing about the other sizes."""
    attribution = KernelShap(interacting, background, samples=22).explain(rows)
    assert np.isnan(attribution.std_error).all()
    assert not attribution.exact


def test_many_features_work_and_what_does_not_matter_gets_nothing() -> None:
    generator = np.random.default_rng(0)
    background, row = generator.normal(size=(10, 60)), generator.normal(size=(1, 60))
    attribution = KernelShap(lambda rows: rows[:, 0] * 2 + rows[:, 1] * rows[:, 2] * rows[:, 3], background).explain(
        row
    )
    assert np.abs(attribution.values[0, 4:]).max() < 4 * attribution.std_error.max()
    assert attribution.values[0, 0] == pytest.approx(2 * (row[0, 0] - background[:, 0].mean()), abs=0.2)
    assert attribution.gap[0] == pytest.approx(0.0, abs=1e-12)


def test_too_few_samples_to_tell_say_so(background: Matrix, rows: Matrix) -> None:
    attribution = KernelShap(interacting, background, samples=8).explain(rows)
    assert np.isnan(attribution.std_error).all()
    assert attribution.as_dicts()[0]["std_error"] == [None] * 10
    np.testing.assert_allclose(attribution.gap, 0.0, atol=1e-12)


@pytest.mark.parametrize("samples", [2, 3, 4, 30, 100])
def test_samples_bound_the_coalitions_that_are_asked(background: Matrix, rows: Matrix, samples: int) -> None:
    predict = Recorder(interacting)
    KernelShap(predict, background[:1], samples=samples).explain(rows[:1])
    assert sum(len(asked) for asked in predict.asked) == samples - samples % 2


def test_one_sample_is_refused(background: Matrix) -> None:
    with pytest.raises(InvalidOption, match="samples is 1"):
        KernelShap(interacting, background, samples=1)


def test_a_row_is_asked_once_a_call() -> None:
    generator = np.random.default_rng(4)
    background = generator.integers(0, 2, size=(50, 8)).astype(float)
    predict = Recorder(interacting)
    attribution = KernelShap(predict, background).explain(background[:3])
    assert len(predict.asked) == attribution.predictor_calls == 1
    assert len(np.unique(predict.asked[0], axis=0)) == len(predict.asked[0]) == attribution.predictor_rows
    assert attribution.predictor_rows <= 256
    np.testing.assert_allclose(attribution.values, ExactShapley(interacting, background).explain(background[:3]).values)


def test_a_deadline_gives_a_coarser_answer_in_time(background: Matrix, rows: Matrix) -> None:
    predict = SlowPredictor(call_s=0.01, row_s=0.0005, ends=1.0)
    explainer = KernelShap(predict, background, samples=1024, deadline_s=1.0, clock=predict.clock)
    attribution = explainer.explain(rows)
    assert attribution.deadline_reached
    assert not attribution.exact
    assert attribution.elapsed_s <= 1.0
    assert attribution.predictor_rows > 500
    assert np.isfinite(attribution.std_error).all()
    exact = ExactShapley(interacting, background).explain(rows).values
    assert (np.abs(attribution.values - exact) < 4 * attribution.std_error).all()


def test_the_coarsest_answer_needs_one_call(background: Matrix, rows: Matrix) -> None:
    predict = SlowPredictor(call_s=0.6, row_s=0.0, ends=1.0)
    attribution = KernelShap(predict, background, deadline_s=1.0, clock=predict.clock).explain(rows)
    assert attribution.predictor_calls == 1
    assert attribution.deadline_reached
    assert np.isfinite(attribution.std_error).all()
    np.testing.assert_allclose(attribution.gap, 0.0, atol=1e-12)


def test_a_call_that_is_cut_off_leaves_the_answer_before_it(background: Matrix, rows: Matrix) -> None:
    predict = SlowPredictor(call_s=0.4, row_s=0.0001, ends=1.0)
    attribution = KernelShap(predict, background, deadline_s=1.0, clock=predict.clock).explain(rows)
    assert attribution.deadline_reached
    assert attribution.elapsed_s <= 1.0


def test_a_predictor_too_slow_for_any_answer_times_out(background: Matrix, rows: Matrix) -> None:
    predict = SlowPredictor(call_s=2.0, row_s=0.0, ends=1.0)
    with pytest.raises(PredictorTimeout):
        KernelShap(predict, background, deadline_s=1.0, clock=predict.clock).explain(rows)


def test_a_fast_predictor_under_a_deadline_is_exact(background: Matrix, rows: Matrix) -> None:
    predict = SlowPredictor(call_s=0.001, row_s=0.000001)
    attribution = KernelShap(predict, background, deadline_s=5.0, clock=predict.clock).explain(rows)
    assert attribution.exact
    assert not attribution.deadline_reached
    exact = ExactShapley(interacting, background).explain(rows).values
    np.testing.assert_allclose(attribution.values, exact, atol=1e-10)


def test_the_standard_error_of_a_coarse_answer_covers_the_truth(background: Matrix, rows: Matrix) -> None:
    """Half the background at most was asked; still at least 90 % of 800 values lie within 1.96 standard errors."""
    exact = ExactShapley(interacting, background).explain(rows).values
    inside = []
    for seed in range(40):
        predict = SlowPredictor(call_s=0.0, row_s=0.001, ends=1.0)
        explainer = KernelShap(predict, background, deadline_s=1.0, clock=predict.clock, seed=seed)
        attribution = explainer.explain(rows)
        inside.append(np.abs(attribution.values - exact) <= 1.96 * attribution.std_error)
    assert np.mean(inside) > 0.90


def test_without_samples_no_more_is_asked_than_one_percent_needs() -> None:
    generator = np.random.default_rng(3)
    background, row = generator.normal(size=(20, 14)), generator.normal(size=(1, 14))

    def nearly_additive(rows: Matrix) -> Matrix:
        return np.asarray(np.sin(rows).sum(axis=1) + 0.1 * rows[:, 0] * rows[:, 1] * rows[:, 2])

    left_to_it = KernelShap(nearly_additive, background).explain(row)
    asked_for = KernelShap(nearly_additive, background, samples=2 * 14 + 2048).explain(row)
    assert left_to_it.predictor_rows < asked_for.predictor_rows / 3
    assert not left_to_it.deadline_reached
    assert np.linalg.norm(left_to_it.std_error) <= 0.01 * np.linalg.norm(left_to_it.values)
    exact = ExactShapley(nearly_additive, background).explain(row).values
    assert np.linalg.norm(left_to_it.values - exact) < 0.02 * np.linalg.norm(exact)
