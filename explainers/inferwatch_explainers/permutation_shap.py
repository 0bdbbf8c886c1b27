"""Permutation SHAP: Shapley values of any predictor, by letting features join one after the other in random orders."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

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
from inferwatch_explainers.coalitions import Masks
from inferwatch_explainers.game import Game
from inferwatch_explainers.pace import Pace

_COARSE_DEPTH = 4
"""Background rows of the first call under a deadline."""

_FIRST_ORDERS = 4


class PermutationShap:
    """Explains predictions by their interventional Shapley values, averaged over orders in which features join.

    Each order is walked forwards and backwards (Mitchell et al., JMLR 23, 2022, section 3.1: antithetic sampling), so
    that two walks already give models whose features interact in pairs at most their exact values. `predict` takes rows
    (r, d) and returns (r,) or (r, k); `background` (m, d) is what absent features are filled from. At most `samples`
    coalitions are asked, 2 (d - 1) an order; without `samples`, until standard errors are about 1 % of the values, at
    most 2 d + 2048. With a deadline the first call is coarse, and later ones are what the time left allows.

    `std_error` is that of the mean over orders, NaN below three of them. Cost: m rows a coalition and explained row.

    >>> game = PermutationShap(lambda rows: rows[:, 0] * rows[:, 1] + rows[:, 2], np.zeros((1, 3)))
    >>> game.explain(np.array([[2.0, 3.0, 5.0]])).values.round(9).tolist()
    [[3.0, 3.0, 5.0]]
    """

    method = "permutation_shap"

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
        self._tolerance = TOLERANCE if samples is None else 0.0
        self._most_orders = max(1, (most_coalitions(width, samples) - 2) // max(1, 2 * (width - 1)))
        self._deadline_s = deadline_s
        self._seed = seed
        self._clock = clock

    def explain(self, rows: Matrix, /, *, target: Target = None) -> Attribution:
        """Return the attribution of each row (n, d), for its own label or largest output unless `target` names one.

        Raises what `KernelShap.explain` raises.
        """
        started = self._clock()
        rows = checked_rows(rows, self._background.shape[1])
        game = Game(self._predict, self._background, rows, target=target)
        walks = _Walks(game, self._background, len(rows), self._seed, self._most_orders)
        out_of_time = walks.go(Pace(self._clock, started, self._deadline_s), self._tolerance)
        values, std_error = walks.values()
        return Attribution(
            method=self.method,
            features=self._features,
            values=values,
            base_value=walks.base_value,
            prediction=walks.prediction,
            target=game.targets,
            gap=walks.prediction - walks.base_value - values.sum(axis=1),
            std_error=std_error,
            exact=rows.shape[1] <= 2 and not walks.coarse,
            predictor_calls=game.predictor_calls,
            predictor_rows=game.predictor_rows,
            elapsed_s=self._clock() - started,
            deadline_reached=out_of_time,
        )


class _Walks:
    """The gains of features in the orders walked so far, (n, orders, d)."""

    def __init__(self, game: Game, background: Matrix, count: int, seed: int, most: int) -> None:
        self._game = game
        self._depth, self._width = background.shape
        self._count = count
        self._generator = np.random.default_rng(seed)
        self._most = 1 if self._width <= 2 else most
        self._gains = np.empty((count, 0, self._width))
        self.coarse = False

    def go(self, pace: Pace, tolerance: float) -> bool:
        """Walk orders until that is enough; return whether time ended it."""
        self._begin(pace)
        each = self._count * 2 * (self._width - 1) * self._depth
        while (done := 0 if self.coarse else self._gains.shape[1]) < self._most and not self._accurate(tolerance):
            orders = min(pace.units(max(each, 1)), self._most - done, max(_FIRST_ORDERS, done))
            if orders < 1:
                return True
            try:
                gains = self._ask(self._orders(orders), slice(None))
            except PredictorTimeout:
                return True
            pace.took(each * orders)
            self._gains = gains if self.coarse else np.concatenate([self._gains, gains], axis=1)
            self.coarse = False
        return False

    def values(self) -> tuple[Matrix, Matrix]:
        """Return values and standard errors (n, d)."""
        values, orders = self._gains.mean(axis=1), self._gains.shape[1]
        if self._width <= 2 and not self.coarse:
            return values, np.zeros_like(values)
        if orders < 3 or self.coarse:
            return values, np.full_like(values, np.nan)
        return values, self._gains.std(axis=1, ddof=1) / math.sqrt(orders)

    def _begin(self, pace: Pace) -> None:
        """Ask for predictions and base values, and under a deadline for one order over a few background rows."""
        everything = np.ones((1, self._width), dtype=bool)
        depth = min(_COARSE_DEPTH, self._depth) if pace.hurried else 0
        orders = self._orders(1)
        questions = [(everything, slice(0, 1)), (~everything, slice(None))]
        whole, none, *inner = self._game.ask([*questions, (_prefixes(orders), slice(0, depth))][: 3 if depth else 2])
        self.prediction, self.base_value = whole[:, 0, 0], none[:, 0].mean(axis=1)
        if inner:
            self._gains = self._gains_of(inner[0].mean(axis=2), orders)
            self.coarse = depth < self._depth
        pace.took(self._count * (2 * (self._width - 1) * depth + 1) + self._depth)

    def _accurate(self, tolerance: float) -> bool:
        if tolerance == 0.0 or self.coarse or self._gains.shape[1] == 0:
            return False
        values, errors = self.values()
        return bool((np.linalg.norm(errors, axis=1) <= tolerance * np.linalg.norm(values, axis=1)).all())

    def _orders(self, count: int) -> Matrix:
        return self._generator.permuted(np.tile(np.arange(self._width), (count, 1)), axis=1)

    def _ask(self, orders: Matrix, part: slice) -> Matrix:
        [worth] = self._game.ask([(_prefixes(orders), part)])
        return self._gains_of(worth.mean(axis=2), orders)

    def _gains_of(self, worth: Matrix, orders: Matrix) -> Matrix:
        """Return the mean gain of each feature over the two walks of each order, (n, orders, d)."""
        count, width = len(orders), self._width
        inner = worth.reshape(self._count, count, 2, width - 1)
        ends = np.broadcast_to(self.base_value[:, None, None, None], (self._count, count, 2, 1))
        tops = np.broadcast_to(self.prediction[:, None, None, None], (self._count, count, 2, 1))
        steps = np.diff(np.concatenate([ends, inner, tops], axis=3), axis=3)
        gains = np.empty((self._count, count, 2, width))
        walked = np.stack([orders, orders[:, ::-1]], axis=1)
        np.put_along_axis(gains, np.broadcast_to(walked, gains.shape), steps, axis=3)
        return np.asarray(gains.mean(axis=2))


def _prefixes(orders: Matrix) -> Masks:
    """Return the coalitions between none and all of each order (k, d), forwards and backwards: (2 k (d - 1), d)."""
    walked = np.stack([orders, orders[:, ::-1]], axis=1)
    rank = np.argsort(walked, axis=2)
    joined = rank[:, :, None, :] <= np.arange(orders.shape[1] - 1)[:, None]
    return np.asarray(joined.reshape(-1, orders.shape[1]))
