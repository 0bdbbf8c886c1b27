"""What a counterfactual may change: which features, how far, and which way."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import FiniteFloat

from inferwatch.errors import InvalidOption
from inferwatch.rows import Matrix, Schema

Range = tuple[FiniteFloat | None, FiniteFloat | None]
"""The least and the largest value that a feature may take; None where there is no end."""

Direction = Literal["up", "down"]


class Limits:
    """The changes that are allowed: none of `immutable` features, to values in `ranges` only, and in `directions` only.

    What is not changed is allowed wherever it lies. Raises `InvalidOption` for features that do not exist, categorical
    ones where a number is limited, ranges without a value, and where nothing is left to change.
    """

    def __init__(
        self,
        schema: Schema,
        immutable: Sequence[str] = (),
        ranges: Mapping[str, Range] | None = None,
        directions: Mapping[str, Direction] | None = None,
    ) -> None:
        check_immutable(immutable, schema)
        self._ranges, self._directions = ranges or {}, directions or {}
        self._check(schema)
        ends = np.array([self._ranges.get(name, (None, None)) for name in schema.names], dtype=object)
        self._fixed = np.array([name in immutable for name in schema.names])
        self._low = np.array([-math.inf if low is None else low for low in ends[:, 0]])
        self._high = np.array([math.inf if high is None else high for high in ends[:, 1]])
        self._up = np.array([self._directions.get(name) == "up" for name in schema.names])
        self._down = np.array([self._directions.get(name) == "down" for name in schema.names])

    def nearest(self, rows: Matrix, row: Matrix, whole: NDArray[np.bool_]) -> Matrix:
        """Return rows (r, d) with every change from a row (d,) that is not allowed made the nearest one that is.

        Features of which only `whole` numbers are known (d,) take such. What may not change at all is the row's own.
        """
        low, high = self._ends(row)
        low, high = np.where(whole, np.ceil(low), low), np.where(whole, np.floor(high), high)
        moved = np.minimum(np.maximum(rows, low), high)
        return np.where(self._fixed | (low > high) | (rows == row), row, moved)

    def allow(self, rows: Matrix, row: Matrix) -> NDArray[np.bool_]:
        """Return of which rows (r, d) every change from a row (d,) is allowed."""
        low, high = self._ends(row)
        inside = (rows >= low) & (rows <= high) & ~self._fixed
        return np.asarray((inside | (rows == row)).all(axis=1))

    def _ends(self, row: Matrix) -> tuple[Matrix, Matrix]:
        low = np.where(self._up, np.maximum(self._low, row), self._low)
        return low, np.where(self._down, np.minimum(self._high, row), self._high)

    def _check(self, schema: Schema) -> None:
        for option, limited in (("ranges", self._ranges), ("directions", self._directions)):
            _check_names(option, limited, schema)
            for feature in schema.features:
                if feature.name in limited and feature.kind == "categorical":
                    raise InvalidOption(f"{option} are for numbers, and {feature.name} is categorical")
        for name, (low, high) in self._ranges.items():
            if low is not None and high is not None and low > high:
                raise InvalidOption(f"ranges of {name} begin at {low:g} and end at {high:g}")


def check_immutable(immutable: Sequence[str], schema: Schema) -> None:
    """Raise `InvalidOption` for a feature that does not exist, and where nothing is left to change."""
    _check_names("immutable", immutable, schema)
    if set(schema.names) <= set(immutable):
        raise InvalidOption("immutable names every feature, and so nothing is left to change")


def _check_names(option: str, named: Iterable[str], schema: Schema) -> None:
    for name in named:
        if name not in schema.names:
            verb = "names" if option == "immutable" else "name"
            raise InvalidOption(f"{option} {verb} {name[:64]!r}; the features are {', '.join(schema.names[:16])}")
