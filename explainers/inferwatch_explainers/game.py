"""The game that Shapley values share out: what a coalition of features is worth to the predictor.

A coalition's worth is the mean output over the background rows when the coalition's features take the explained row's
values (interventional Shapley values: Lundberg & Lee, NeurIPS 2017; Janzing et al., AISTATS 2020).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.explanation import Target
from inferwatch.protocols import Predict
from inferwatch.rows import Matrix
from inferwatch_explainers.coalitions import Masks
from inferwatch_explainers.distinct import Keys, first_occurrences
from inferwatch_explainers.readout import Readout, checked_outputs

Question = tuple[Masks, slice]
"""Coalitions (c, d), and the background rows to ask each of them over."""


class Game:
    """Asks a predictor for the worth of coalitions, each distinct row once a call, and counts what was asked.

    Rows are recognised by Zobrist hashing: a row's key is the sum of one random 64-bit number a feature and value, so
    that the keys of a question follow from one small matrix product, and no two rows are ever compared. Two of
    r different rows share a key with a probability below r^2 / 2^65, about 1e-9 for 200,000 rows.
    """

    def __init__(self, predict: Predict, background: Matrix, rows: Matrix, *, target: Target = None) -> None:
        self._predict = predict
        self._background = background
        self._rows = rows
        self._target = target
        self._row_keys, self._background_keys = _zobrist(rows, background)
        self._readout: Readout | None = None
        self.predictor_calls = 0
        self.predictor_rows = 0

    @property
    def targets(self) -> tuple[Target, ...]:
        """What each row is explained for, known once the first question was answered."""
        return self._readout.targets if self._readout is not None else ()

    def ask(self, questions: Sequence[Question]) -> list[Matrix]:
        """Return for each question the outputs (n, c, b) of its c coalitions over its b background rows, in one call.

        The first coalition of the first question ever asked must hold all features: its outputs are the predictions,
        which say what is explained. Raises `PredictorError` for outputs that cannot be used.
        """
        keys = [self._keys(masks, part) for masks, part in questions]
        first = first_occurrences(np.concatenate([key.ravel() for key in keys]))
        distinct = first == np.arange(len(first))
        rows = self._build(questions)
        if distinct.all():
            outputs, inverse = self._outputs(rows), first
        else:
            outputs, inverse = self._outputs(rows[distinct]), (np.cumsum(distinct) - 1)[first]
        bounds = np.cumsum([key.size for key in keys])[:-1]
        answers = [
            outputs[part].reshape(*key.shape, *outputs.shape[1:])
            for part, key in zip(np.split(inverse, bounds), keys, strict=True)
        ]
        if self._readout is None:
            seen = outputs if len(self._background) > 1 else None  # one row does not show which labels there are
            self._readout = Readout.of(answers[0][:, 0, 0], self._target, seen)
        return [self._readout.read(answer) for answer in answers]

    def _keys(self, masks: Masks, part: slice) -> Keys:
        background = self._background_keys[part]
        change = self._row_keys[:, :, None] - background.T[None]
        changed = np.einsum("cd,ndb->ncb", masks.astype(np.uint64), change)
        return np.asarray(changed + background.sum(axis=1), dtype=np.uint64)

    def _build(self, questions: Sequence[Question]) -> Matrix:
        count, d = self._rows.shape
        sizes = [count * len(masks) * len(self._background[part]) for masks, part in questions]
        built = np.empty((sum(sizes), d))
        end = 0
        for size, (masks, part) in zip(sizes, questions, strict=True):
            start, end = end, end + size
            block = built[start:end].reshape(count, len(masks), len(self._background[part]), d)
            block[:] = self._background[part]
            np.copyto(block, self._rows[:, None, None], where=masks[None, :, None])
        return built

    def _outputs(self, rows: Matrix) -> NDArray[Any]:
        self.predictor_calls += 1
        self.predictor_rows += len(rows)
        return checked_outputs(self._predict(rows), len(rows))


def _zobrist(rows: Matrix, background: Matrix) -> tuple[Keys, Keys]:
    """Return one 64-bit number for every cell of the rows (n, d) and of the background (m, d)."""
    both = np.concatenate([rows, background])
    generator = np.random.default_rng(0)
    keys = np.empty(both.shape, dtype=np.uint64)
    for column in range(both.shape[1]):
        values, codes = np.unique(both[:, column], return_inverse=True)
        keys[:, column] = generator.integers(0, 2**64, len(values), dtype=np.uint64)[codes]
    return keys[: len(rows)], keys[len(rows) :]
