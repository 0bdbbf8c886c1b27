"""References and rows that the tests of detectors share."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.reference import Reference
from inferwatch.rows import Column, Matrix, Rows

SHARES = {"office": 0.5, "home": 0.3, "road": 0.15, "sea": 0.05}


def people(random: np.random.Generator, count: int) -> Rows:
    """Rows with numbers, integers with ties, a constant, categories, gaps, and a column without values."""
    places = np.array([*SHARES], dtype=object)[random.choice(4, count, p=[*SHARES.values()])]
    hours = np.where(random.random(count) < 0.05, np.nan, random.normal(38, 8, count))
    columns: dict[str, NDArray[Any]] = {
        "age": random.normal(40, 10, count),
        "children": random.poisson(0.8, count).astype(np.float64),
        "hours": hours,
        "one": np.ones(count),
        "place": places,
        "nothing": np.full(count, np.nan),
    }
    return Rows(tuple(Column(name, values) for name, values in columns.items()), count)


def reference(seed: int = 0, count: int = 5000) -> Reference:
    """A reference of such rows, all of them in the sample."""
    return Reference.build(people(np.random.default_rng(seed), count), sample_rows=count, created_ns=0)


def encoded(built: Reference, random: np.random.Generator, count: int) -> Matrix:
    """Such rows as the reference's schema encodes them."""
    return built.schema.encode(people(random, count)).values


def numbers(values: Matrix, **options: Any) -> Reference:
    """A reference of numeric columns x0, x1, ..."""
    columns = tuple(Column(f"x{index}", column) for index, column in enumerate(values.T))
    return Reference.build(Rows(columns, len(values)), sample_rows=len(values), created_ns=0, **options)
