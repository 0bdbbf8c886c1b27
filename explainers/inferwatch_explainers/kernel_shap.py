"""Kernel SHAP: Shapley values of any predictor, from as many coalitions as samples and deadline allow."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from inferwatch.errors import PredictorTimeout
from inferwatch.explanation import Attribution, Target
from inferwatch.protocols import Predict
from inferwatch.rows import Matrix, Schema
from inferwatch_explainers.arguments import (
    TOLERANCE,
    check_options,
    checked_rows,
    feature_names,
    most_coalitions,
    shuffled_background,
)
from inferwatch_explainers.coalitions import Design, design
from inferwatch_explainers.game import Game
from inferwatch_explainers.pace import Pace
from inferwatch_explainers.regression import shapley_values

_COARSE_CELLS = 1_024
"""About so many rows go with the first call under a deadline, beside the background: enough for a coarse answer."""


class KernelShap:
    """Explains predictions by their interventional Shapley values, estimated by regression over coalitions.

    `predict` takes rows (r, d) and returns (r,) or (r, k). `background` (m, d) is what absent features are filled from,
    all of it. At most `samples` coalitions are asked, all 2^d of them when they fit, and then the values are exact;
    else pairs of them, stratified by size, without replacement (`inferwatch_explainers.coalitions`). Without `samples`
    they are at most 2 d + 2048, and where that is not all, about as many as standard errors of 1 % of the values need.
    With a deadline (seconds, for all rows together), the first call asks for just enough for a coarse answer, later
    ones for what the time left allows; what came back by then is the answer.

    The same seed gives the same coalitions. Cost: m rows a coalition and explained row, fewer where rows coincide.

    >>> weights = np.array([1.0, -2.0, 0.5])
    >>> background = np.random.default_rng(0).normal(size=(50, 3))
    >>> attribution = KernelShap(lambda rows: rows @ weights, background).explain(np.ones((1, 3)))
    >>> bool(np.allclose(attribution.values[0], weights * (1 - background.mean(axis=0))))
    True
    """

    method = "kernel_shap"

    def __init__(
        self,
        predict: Predict,
        background: Matrix,
        *,
        schema: Schema | None = None,
        samples: int | None = None,
        deadline_s: float | None = None,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_options(samples, deadline_s)
        self._predict = predict
        self._background = shuffled_background(background, seed)
        width = self._background.shape[1]
        self._features = feature_names(schema, width)
        self._design = design(width, (min(self._most_coalitions(width, samples), 2**width) - 2) // 2, seed)
        self._tolerance = TOLERANCE if samples is None and len(self._design) < self._design.total else 0.0
        self._deadline_s = deadline_s
        self._clock = clock

    def _most_coalitions(self, width: int, samples: int | None) -> int:
        return most_coalitions(width, samples)

    def explain(self, rows: Matrix, /, *, target: Target = None) -> Attribution:
        """Return the attribution of each row (n, d), for its own label or largest output unless `target` names one.

        Raises `InvalidRows` for another width, no rows or values that are not finite, `InvalidOption` for a target
        that the predictor lacks, `PredictorError` for a predictor that fails, and `PredictorTimeout` when it was too
        slow for even a coarse answer.
        """
        started = self._clock()
        rows = checked_rows(rows, self._background.shape[1])
        game = Game(self._predict, self._background, rows, target=target)
        pace = Pace(self._clock, started, self._deadline_s)
        coarse = pace.hurried or self._tolerance > 0
        estimate = _Estimate.begin(game, self._design, len(self._background), len(rows), pace, coarse)
        out_of_time = False
        while not (out_of_time or estimate.complete or (excess := estimate.excess(self._tolerance)) <= 1.0):
            out_of_time = not estimate.grow(game, pace, excess)
        values, std_error = estimate.shapley_values()
        return Attribution(
            method=self.method,
            features=self._features,
            values=values,
            base_value=estimate.base_value,
            prediction=estimate.prediction,
            target=game.targets,
            gap=estimate.prediction - estimate.base_value - values.sum(axis=1),
            std_error=std_error,
            exact=estimate.exact,
            predictor_calls=game.predictor_calls,
            predictor_rows=game.predictor_rows,
            elapsed_s=self._clock() - started,
            deadline_reached=out_of_time,
        )


@dataclass
class _Estimate:
    """What is known of the game so far: `worth` and `complement` (n, p, b) of p pairs over b background rows each.

    First b grows to the whole background, then p to the whole design; with the background complete only means are kept.
    """

    design: Design
    background_rows: int
    base_value: Matrix
    prediction: Matrix
    worth: Matrix
    complement: Matrix
    asked_rows: int

    @classmethod
    def begin(cls, game: Game, design: Design, background_rows: int, count: int, pace: Pace, coarse: bool) -> _Estimate:
        """Return the estimate of the first call: predictions, base values, and pairs over some of the background."""
        d = design.masks.shape[1]
        if coarse:
            pairs = min(len(design), 2 * d)
            depth = min(background_rows, 4, max(2, _COARSE_CELLS // (2 * pairs * count))) if pairs else background_rows
        else:
            depth = background_rows
            pairs = min(len(design), pace.units(2 * depth * count))
        masks = design.masks[:pairs]
        everything = np.ones((1, d), dtype=bool)
        whole, none, worth, complement = game.ask(
            [
                (everything, slice(0, 1)),
                (~everything, slice(None)),
                (masks, slice(0, depth)),
                (~masks, slice(0, depth)),
            ]
        )
        pace.took(2 * pairs * depth * count + background_rows + count)
        base = none[:, 0].mean(axis=1)
        return cls(design, background_rows, base, whole[:, 0, 0], worth, complement, depth)._settled()

    @property
    def complete(self) -> bool:
        """Whether everything planned was asked."""
        return self.asked_rows == self.background_rows and self.worth.shape[1] == len(self.design)

    @property
    def exact(self) -> bool:
        """Whether every coalition that exists was asked over the whole background."""
        return self.complete and len(self.design) == self.design.total

    def excess(self, tolerance: float) -> float:
        """Return how many times too large the standard errors of the worst row are; infinite where that is unknown."""
        if tolerance == 0.0:
            return math.inf
        values, errors = self.shapley_values()
        allowed = tolerance * np.linalg.norm(values, axis=1)
        found = np.linalg.norm(errors, axis=1)
        ratios = np.divide(found, allowed, out=np.where(found > 0, np.inf, 0.0), where=allowed > 0)
        return math.inf if np.isnan(ratios).any() else float(ratios.max())

    def grow(self, game: Game, pace: Pace, excess: float) -> bool:
        """Ask for one more round and return True, or return False because time is up.

        An error falls with the root of the pairs at least, which says how many more an excess calls for.
        """
        count, pairs, _ = self.worth.shape
        whole = self.asked_rows == self.background_rows
        each = count * 2 * (self.background_rows if whole else pairs)
        step = min(pace.units(each), len(self.design) - pairs if whole else self.background_rows - self.asked_rows)
        if step < 1:
            return False
        if whole and math.isfinite(excess):
            step = min(step, math.ceil(pairs * (excess**2 - 1.0)))
        masks = self.design.masks[pairs : pairs + step] if whole else self.design.masks[:pairs]
        part = slice(None) if whole else slice(self.asked_rows, self.asked_rows + step)
        try:
            worth, complement = game.ask([(masks, part), (~masks, part)])
        except PredictorTimeout:
            return False
        pace.took(each * step)
        self._add(worth, complement, whole)
        return True

    def shapley_values(self) -> tuple[Matrix, Matrix]:
        """Return values and standard errors (n, d) as far as known."""
        left = 1.0 - self.asked_rows / self.background_rows
        return shapley_values(self.design, self.worth, self.complement, self.prediction - self.base_value, left)

    def _add(self, worth: Matrix, complement: Matrix, whole: bool) -> None:
        if whole:
            worth, complement = worth.mean(axis=2, keepdims=True), complement.mean(axis=2, keepdims=True)
        axis = 1 if whole else 2
        self.worth = np.concatenate([self.worth, worth], axis=axis)
        self.complement = np.concatenate([self.complement, complement], axis=axis)
        self.asked_rows += 0 if whole else worth.shape[2]
        self._settled()

    def _settled(self) -> _Estimate:
        if self.asked_rows == self.background_rows and self.worth.shape[2] > 1:
            self.worth = self.worth.mean(axis=2, keepdims=True)
            self.complement = self.complement.mean(axis=2, keepdims=True)
        return self
