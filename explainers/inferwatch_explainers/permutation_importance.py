"""Permutation importance: how much a model's predictions of some traffic hang on each feature."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import InvalidOption, InvalidRows
from inferwatch.explanation import Summary, Target
from inferwatch.protocols import Predict
from inferwatch.rows import Matrix, Schema
from inferwatch_explainers.arguments import checked_rows, feature_names
from inferwatch_explainers.pace import ROUND_ROWS
from inferwatch_explainers.readout import Readout, checked_outputs


class PermutationImportance:
    """Tells how far predictions move, on average, when one feature of a row is another row's.

    A feature's importance is the mean of |f(x) - f(x')| over rows x (n, d), where x' has the feature's value of another
    row, and f is what the prediction is explained for: of several outputs the largest or `target`, of labels whether
    the predicted one stays, so that it is the share of rows decided otherwise (Breiman 2001, with the predictions as
    what is to be met, since labels of live traffic come late or never; Fisher, Rudin and Dominici, JMLR 20, 2019).
    `predict` takes rows (r, d) and returns (r,) or (r, k). Each row meets `repeats` others, n - 1 at most.

    Cost: n (1 + d `repeats`) rows, as many in one question as memory allows.

    >>> rows = np.random.default_rng(0).normal(size=(200, 3))
    >>> said = PermutationImportance(lambda rows: rows @ np.array([1.0, -2.0, 0.0])).explain(rows)
    >>> [round(value, 2) for value in said.entries[0]["values"]]
    [1.11, 2.17, 0.0]
    """

    method = "permutation_importance"

    def __init__(
        self,
        predict: Predict,
        *,
        schema: Schema | None = None,
        repeats: int = 5,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if repeats < 1:
            raise InvalidOption(f"repeats is {repeats}; at least 1 is needed")
        self._predict = predict
        self._schema = schema
        self._repeats = repeats
        self._seed = seed
        self._clock = clock
        self._calls = 0
        self._rows = 0

    def explain(self, rows: Matrix, /, *, target: Target = None) -> Summary:
        """Return one entry about all rows (n, d): `features`, their importance as `values`, `std_error`, `rows`.

        `std_error` is that of the mean over rows. Raises `InvalidRows` for fewer than two rows, another width, or
        values that are not finite, `InvalidOption` for a target that the predictor lacks, and `PredictorError`.
        """
        started, self._calls, self._rows = self._clock(), 0, 0
        rows = checked_rows(rows, np.shape(rows)[-1] if self._schema is None else len(self._schema.features))
        if len(rows) < 2:
            raise InvalidRows("a feature's importance is told by rows that differ; one row is too few")
        outputs = self._asked(rows)
        readout = Readout.of(outputs, target)
        predicted = readout.read(outputs)
        moved = np.concatenate([np.abs(readout.read(part) - predicted[:, None]) for part in self._moved(rows)], axis=1)
        moved = moved.reshape(len(rows), -1, rows.shape[1]).mean(axis=1)
        entry = {
            "features": list(feature_names(self._schema, rows.shape[1])),
            "values": moved.mean(axis=0).tolist(),
            "std_error": (moved.std(axis=0, ddof=1) / np.sqrt(len(rows))).tolist(),
            "rows": len(rows),
        }
        return Summary(self.method, (entry,), self._calls, self._rows, self._clock() - started)

    def _moved(self, rows: Matrix) -> Iterator[NDArray[Any]]:
        """Yield outputs (n, c, ...) of the rows, c columns at a time being another row's: d of them, repeat by repeat.

        The others are those at fixed distances in a shuffled circle, so that no row meets itself or another twice.
        """
        n, d = rows.shape
        circle = np.random.default_rng(self._seed).permutation(n)
        place = np.argsort(circle)
        jobs = [(step, column) for step in range(1, min(self._repeats, n - 1) + 1) for column in range(d)]
        size = max(1, ROUND_ROWS // n)
        for start in range(0, len(jobs), size):
            part = jobs[start : start + size]
            changed = np.repeat(rows[:, None], len(part), axis=1)
            for number, (step, column) in enumerate(part):
                changed[:, number, column] = rows[circle[(place + step) % n], column]
            outputs = self._asked(changed.reshape(-1, d))
            yield outputs.reshape(n, len(part), *outputs.shape[1:])

    def _asked(self, rows: Matrix) -> NDArray[Any]:
        self._calls += 1
        self._rows += len(rows)
        return checked_outputs(self._predict(rows), len(rows))
