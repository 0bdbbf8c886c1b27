"""Leaves of trees that are looked up together: which values of each feature they tell apart, and how rows differ then.

Neighbouring leaves share most of their conditions. A table for some of them, over all the ways in which a row's values
may lie, is then no larger than the tables of each would be, and takes one look-up where those take one a leaf.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, pairwise

import numpy as np
from numpy.typing import NDArray

from inferwatch_explainers.leaves import Leaves

_CELLS = 8192
"""Leaves are put together at least as far as their table has so many cells."""

_LINE = (-math.inf, math.inf)

Edges = dict[int, tuple[float, ...]]
"""For each feature the bounds of conditions, in ascending order."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Some leaves, and the bounds of their conditions.

    Values of a feature between two neighbouring bounds are alike to all of the leaves, and so are those outside of the
    outermost bounds: such a class of values has the number of finite bounds below them, modulo that of classes. A row's
    pattern is a class of each feature, as a number: a digit a feature, the first feature's changing fastest.

    `output` is the only one that the leaves add to; None where a leaf adds to several, and is a piece of its own.
    """

    leaves: tuple[int, ...]
    edges: Edges
    output: int | None

    @property
    def width(self) -> int:
        """How many numbers stand in the table for each pattern: one a feature, and one more."""
        return len(self.edges) + 1

    @property
    def patterns(self) -> int:
        """How many patterns there are."""
        return math.prod(map(_classes, self.edges.values()))

    @property
    def cells(self) -> int:
        """The size of the table."""
        return self.patterns * self.width

    def steps(self) -> Iterator[tuple[int, float, int]]:
        """Yield (feature, bound, step), at least one: a row's pattern is the sum of the steps whose bound < value."""
        weight = 1
        for feature, edges in self.edges.items():
            bounds, classes = _bounds(edges), _classes(edges)
            yield from ((feature, bound, weight) for bound in bounds[: classes - 1])
            yield from ((feature, bound, (1 - classes) * weight) for bound in bounds[classes - 1 :])
            weight *= classes

    def met(self, conditions: Edges) -> NDArray[np.int64]:
        """Return for each pattern the number whose bits say which conditions of a leaf are met."""
        numbers = np.zeros(1, np.int64)
        bits = {feature: 1 << place for place, feature in enumerate(conditions)}
        for feature, edges in self.edges.items():
            low, high = conditions.get(feature, _LINE)
            classes = islice(pairwise((-math.inf, *_bounds(edges), math.inf)), _classes(edges))
            inside = np.array([low <= left and right <= high for left, right in classes])
            numbers = (inside[:, None] * bits.get(feature, 0) + numbers).ravel()
        return numbers


def pieces_of(leaves: Leaves, count: int) -> list[Piece]:
    """Return the first `count` leaves in pieces, those of fewest steps first.

    Leaves are joined in the order of a walk down the trees, as long as that makes no table larger than `_CELLS`, or
    than those of the parts together.
    """
    adds = leaves.values != 0.0
    outputs = np.where(adds.sum(axis=1) > 1, -1, adds.argmax(axis=1)).tolist()
    found: list[Piece] = []
    for leaf in leaves.walk[leaves.walk < count].tolist():
        own = Piece((leaf,), leaves.conditions(leaf), outputs[leaf] if outputs[leaf] >= 0 else None)
        joined = _joined(found[-1], own) if found else None
        if joined is None:
            found.append(own)
        else:
            found[-1] = joined
    return sorted(found, key=lambda piece: sum(1 for _ in piece.steps()))


def _joined(some: Piece, other: Piece) -> Piece | None:
    """Return two pieces as one, or None where they are better apart."""
    if some.output is None or some.output != other.output:
        return None
    edges = {
        feature: tuple(sorted({*some.edges.get(feature, _LINE), *other.edges.get(feature, _LINE)}))
        for feature in {**some.edges, **other.edges}
    }
    joined = Piece((*some.leaves, *other.leaves), edges, some.output)
    return joined if joined.cells <= max(_CELLS, some.cells + other.cells) else None


def _bounds(edges: tuple[float, ...]) -> tuple[float, ...]:
    """Return the bounds at which a value's class changes: the finite ones, or one below all where there are none."""
    return tuple(edge for edge in edges if math.isfinite(edge)) or (-math.inf,)


def _classes(edges: tuple[float, ...]) -> int:
    """Return how many classes of values there are: one lies on both sides of outermost bounds that are finite."""
    return len(_bounds(edges)) + (not (math.isfinite(edges[0]) and math.isfinite(edges[-1])))
