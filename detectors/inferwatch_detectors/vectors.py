"""Embeddings as features: the length of a vector, and its projections (`inferwatch.derived`)."""

from __future__ import annotations

from functools import lru_cache
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.derived import projections
from inferwatch.rows import Column, Matrix, Rows

LEAST_DIMENSION = 4
"""Arrays of fewer numbers are no vectors."""


def vectors(rows: Rows, name: str | None = None) -> tuple[str, Matrix] | None:
    """Return the name and the vectors (n, d) of the widest array that each row has, or of the one named so.

    An array is a tensor over several columns, a column of arrays or of lists, or all columns where none has a name.
    """
    found = {key: values for key, values in _arrays(rows).items() if name is None or key == name}
    if not found:
        return None
    widest = max(found, key=lambda key: found[key].shape[1])
    return widest, found[widest]


def projected(values: Matrix) -> Rows:
    """Return the features of vectors (n, d) as rows."""
    with np.errstate(invalid="ignore", over="ignore"):
        length = np.sqrt((values**2).sum(axis=1))
        along = projections(values)
    columns = [Column(f"projection_{place}", column) for place, column in enumerate(along.T)]
    return Rows((Column("length", length), *columns), len(values))


def _arrays(rows: Rows) -> dict[str, Matrix]:
    places = {block.name: (block.start, block.start + prod(block.shape)) for block in rows.blocks} | _spread(rows.names)
    spread = {
        name: _stacked(rows, start, stop)
        for name, (start, stop) in places.items()
        if stop - start >= LEAST_DIMENSION
        and all(column.values.dtype.kind in "fiu" for column in rows.columns[start:stop])
    }
    held = {column.name: matrix for column in rows.columns if (matrix := _column(column.values)) is not None}
    if spread or held or rows.named:
        return spread | held
    numbers = all(column.values.dtype.kind in "fiu" for column in rows.columns)
    return {"rows": _stacked(rows, 0, len(rows.columns))} if numbers and len(rows.columns) >= LEAST_DIMENSION else {}


@lru_cache(maxsize=64)  # the payloads of a service have the same columns
def _spread(names: tuple[str, ...]) -> dict[str, tuple[int, int]]:
    """Return where columns `name[0]`, `name[1]`, ... begin and end, by name."""
    found: dict[str, tuple[int, int]] = {}
    for place, name in enumerate(names):
        stem, bracket, rest = name.rpartition("[")
        start, stop = found.get(stem, (place, place))
        if bracket and place == stop and rest == f"{place - start}]":
            found[stem] = (start, place + 1)
    return found


def _stacked(rows: Rows, start: int, stop: int) -> Matrix:
    return np.stack([np.asarray(column.values, dtype=np.float64) for column in rows.columns[start:stop]], axis=1)


def _column(values: NDArray[Any]) -> Matrix | None:
    if values.dtype != object or not len(values) or not isinstance(values[0], (list, np.ndarray)):
        return None
    try:
        matrix = np.array([np.asarray(cell, dtype=np.float64).ravel() for cell in values], dtype=np.float64)
    except (TypeError, ValueError):  # of unequal length, or no numbers
        return None
    return matrix if matrix.ndim == 2 and matrix.shape[1] >= LEAST_DIMENSION else None
