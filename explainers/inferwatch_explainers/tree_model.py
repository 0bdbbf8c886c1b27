"""Ensembles of trees that were read from another library's file, asked as models of scikit-learn are."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from inferwatch.rows import Matrix
from inferwatch_explainers.leaves import Leaves, Tree, gather

_CHUNK_CELLS = 4_000_000


def sigmoid(margins: Matrix) -> Matrix:
    """Return 1 / (1 + e^-m)."""
    return np.asarray(0.5 * (1.0 + np.tanh(0.5 * margins)))


def softmax(margins: Matrix) -> Matrix:
    """Return e^m of each row (r, k) as shares of their sum."""
    powers = np.exp(margins - margins.max(axis=1, keepdims=True))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


class Link(NamedTuple):
    """What becomes of margins (r, k) that an ensemble adds up to, and whether those are probabilities of classes."""

    outputs: Callable[[Matrix], Matrix]
    classes: bool = False


IDENTITY = Link(lambda margins: margins)
EXPONENTIAL = Link(np.exp)


class TreeModel:
    """Trees that add up to margins, from which outputs follow by a link.

    `trees` are over `width` features, compared as float32 where `single`; `base` (k,) is added to their sum. `names`
    are those of the features, none where the file has none.
    """

    def __init__(
        self, trees: Sequence[Tree], base: Matrix, link: Link, *, single: bool, width: int, names: tuple[str, ...] = ()
    ) -> None:
        self._trees, self._base, self._link, self._single = trees, base, link, single
        self.n_features_in_ = width
        self.names = names

    @cached_property
    def leaves(self) -> Leaves:
        """The leaves, whose outputs are margins."""
        return gather(self._trees, self._base, single=self._single)

    def decision_function(self, rows: Matrix) -> Matrix:
        """Return the margins of rows (r, d): (r,) of one output, else (r, k)."""
        margins = self._margins(rows)
        return margins[:, 0] if margins.shape[1] == 1 else margins

    def predict(self, rows: Matrix) -> NDArray[np.float64]:
        """Return the outputs of rows (r, d): (r,) of one output, else (r, k)."""
        outputs = self._link.outputs(self._margins(rows))
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def _margins(self, rows: Matrix) -> Matrix:
        cells = rows.astype(np.float32).astype(np.float64) if self._single else rows
        size = max(1, _CHUNK_CELLS // (len(self._trees) * len(self._base)))
        parts = [self._reached(cells[start : start + size]) for start in range(0, len(cells), size)]
        return np.asarray(self._base + np.concatenate(parts))

    def _reached(self, cells: Matrix) -> Matrix:
        """Return the sum of the leaves' values that rows reach, all trees walked down side by side."""
        flat = self._flat
        nodes = np.repeat(flat.roots[None], len(cells), axis=0)
        places = np.arange(len(cells))[:, None]
        while (flat.inner[nodes]).any():
            goes_left = cells[places, flat.feature[nodes]] <= flat.threshold[nodes]
            nodes = np.where(goes_left, flat.left[nodes], flat.right[nodes])
        return np.asarray(flat.value[nodes].sum(axis=1))

    @cached_property
    def _flat(self) -> _Flat:
        sizes = [len(tree.left) for tree in self._trees]
        roots = np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(np.int64)
        left, right, feature = (
            np.concatenate([getattr(tree, name) for tree in self._trees]) for name in ("left", "right", "feature")
        )
        inner, own, offset = left >= 0, np.arange(len(left)), np.repeat(roots, sizes)
        return _Flat(
            roots,
            inner,
            np.where(inner, left + offset, own),
            np.where(inner, right + offset, own),
            np.where(inner, feature, 0),
            np.concatenate([tree.threshold for tree in self._trees]),
            np.concatenate([tree.value for tree in self._trees]),
        )


class _Flat(NamedTuple):
    """The nodes of all trees one behind the other; leaves lead to themselves."""

    roots: NDArray[np.int64]
    inner: NDArray[np.bool_]
    left: NDArray[np.int64]
    right: NDArray[np.int64]
    feature: NDArray[np.int64]
    threshold: Matrix
    value: Matrix


class TreeClassifier(TreeModel):
    """The same where outputs are probabilities of classes; of one output, that of the second of two."""

    def predict_proba(self, rows: Matrix) -> Matrix:
        """Return the probabilities of rows (r, d), (r, k)."""
        outputs = self._link.outputs(self._margins(rows))
        return np.concatenate([1.0 - outputs, outputs], axis=1) if outputs.shape[1] == 1 else outputs

    def predict(self, rows: Matrix) -> NDArray[np.int64]:  # type: ignore[override]  # classes, as scikit-learn has it
        """Return the class of each row (r, d), by its place."""
        return np.asarray(self.predict_proba(rows).argmax(axis=1))


def tree_model(
    trees: Sequence[Tree], base: Matrix, link: Link, *, single: bool, width: int, names: Sequence[str]
) -> TreeModel:
    """Return the model of these trees: a classifier where its link gives classes."""
    make = TreeClassifier if link.classes else TreeModel
    return make(trees, base, link, single=single, width=width, names=tuple(names))


Links = Mapping[str, Link]
"""Links by the objective that a model was trained for."""
