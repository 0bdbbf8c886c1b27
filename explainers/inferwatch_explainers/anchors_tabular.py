"""Anchors of rows: rules of quartile sides and categories that alone make a model predict the same."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from inferwatch.explanation import Anchors, Target
from inferwatch.protocols import Predict
from inferwatch.rows import Matrix, Schema
from inferwatch_explainers.anchor_search import Effort, Sample, anchors
from inferwatch_explainers.arguments import check_options, checked_rows, schema_of, shuffled_background
from inferwatch_explainers.conditions import Rule, bounds, conditions_of, met, written

DEFAULT_SAMPLES = 20_000
"""Perturbed rows an explained row, at most."""

_A_CANDIDATE = 100


class AnchorsTabular:
    """Explains predicted classes by rules such as `age > 37 and work = Private`, short and widely valid ones first.

    `predict` takes rows (r, d) and answers labels, probabilities (r, k), or one number in [0, 1], the probability of
    the second of two classes. `reference` (m, d) is what rows are perturbed from: a perturbed row is one of the
    reference, in which each feature that breaks the rule takes the value of a reference row that does not. How rules
    are found and tested is told in `anchor_search`.

    `samples` bounds the perturbed rows an explained row; with a deadline the best rule so far is the answer.

    >>> reference = np.random.default_rng(0).uniform(size=(500, 3))
    >>> explainer = AnchorsTabular(lambda rows: (rows[:, 1] > 0.2).astype(int), reference)
    >>> explainer.explain(np.array([[0.5, 0.9, 0.5]])).anchors
    (('x1 > 0.7642',),)
    """

    method = "anchors_tabular"

    def __init__(
        self,
        predict: Predict,
        reference: Matrix,
        *,
        schema: Schema | None = None,
        samples: int | None = None,
        deadline_s: float | None = None,
        seed: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_options(samples, deadline_s)
        self._predict = predict
        self._reference = shuffled_background(reference, seed)
        self._schema = schema_of(schema, self._reference.shape[1])
        self._effort = Effort(DEFAULT_SAMPLES if samples is None else samples, deadline_s, clock)
        self._seed = seed

    def explain(self, rows: Matrix, /, *, target: Target = None) -> Anchors:
        """Return a rule for each row (n, d).

        Raises `InvalidRows` for another width, no rows or values that are not finite, `InvalidOption` for a predictor
        that answers no classes or a `target` that is not the predicted class, `PredictorError` for a predictor that
        fails, and `PredictorTimeout` when it was too slow for the first round.
        """
        rows = checked_rows(rows, self._reference.shape[1])
        spaces = [
            _RowSpace(row, self._reference, self._schema, np.random.default_rng([self._seed, place]))
            for place, row in enumerate(rows)
        ]
        return anchors(
            spaces, self._predict, self._effort, method=self.method, features=self._schema.names, target=target
        )


class _RowSpace:
    """Conditions on the features of one row; what is perturbed are rows of the reference."""

    def __init__(self, row: Matrix, reference: Matrix, schema: Schema, generator: np.random.Generator) -> None:
        self._row, self._reference, self._schema = row, reference, schema
        self._conditions = conditions_of(row, reference, schema)
        self._met = np.ascontiguousarray(met(self._conditions, reference).T)
        self._generator = generator
        self._known: dict[tuple[int, float, float], Matrix] = {}
        self.conditions = len(self._conditions)

    def explained(self) -> Matrix:
        return self._row[None]

    def keeping(self, rule: Rule, count: int) -> Matrix:
        """Return rows of the reference that keep to the rule, what breaks it replaced by what does not."""
        return np.asarray(self._keeping([rule], count)[0])

    def _keeping(self, rules: Sequence[Rule], count: int) -> NDArray[np.float64]:
        """Return so many rows for each rule, (rules, count, d)."""
        drawn = self._reference[self._generator.integers(len(self._reference), size=(len(rules), count))]
        bounded: dict[tuple[int, float, float], list[int]] = {}
        for place, rule in enumerate(rules):
            for feature, (low, high) in bounds(self._conditions, rule).items():
                bounded.setdefault((feature, low, high), []).append(place)
        for (feature, low, high), places in bounded.items():
            cells, allowed = drawn[places, :, feature], self._allowed(feature, low, high)
            broken = (cells <= low) | (cells > high)
            cells[broken] = allowed[self._generator.integers(len(allowed), size=np.count_nonzero(broken))]
            drawn[places, :, feature] = cells
        return drawn

    def _allowed(self, feature: int, low: float, high: float) -> Matrix:
        """Return the values of the reference in an interval, and the explained row's own."""
        if (feature, low, high) not in self._known:
            values = self._reference[:, feature]
            inside = values[(values > low) & (values <= high)]
            self._known[feature, low, high] = np.append(inside, self._row[feature])
        return self._known[feature, low, high]

    def samples(self, candidates: Mapping[Rule, Rule], most: int) -> list[Sample]:
        """Return rows for each candidate alone: a row that is made for one is not drawn as those for others are."""
        count = min(_A_CANDIDATE, most // len(candidates))
        drawn = self._keeping(list(candidates), count)
        return (
            [Sample(rows, {rule: slice(None)}) for rows, rule in zip(drawn, candidates, strict=True)] if count else []
        )

    def coverage(self, rule: Rule) -> float:
        """Return the share of the reference that keeps to the rule."""
        return int(np.count_nonzero(self._met[list(rule)].all(axis=0))) / len(self._reference)

    def written(self, rule: Rule) -> tuple[str, ...]:
        return written(self._conditions, rule, self._schema.features)

    def positions(self, rule: Rule) -> None:  # noqa: ARG002 - of the interface
        return None
