"""What Shapley explainers are given, checked: rows, background, coalitions and time."""

from __future__ import annotations

import math

import numpy as np

from inferwatch.errors import InvalidOption, InvalidReference, InvalidRows
from inferwatch.rows import Feature, Matrix, Schema

TOLERANCE = 0.01
"""Where it is left to the explainer, more coalitions are asked until the standard errors are so small a part of the
values, root mean square by row: every row asked costs the predictor, and the log that keeps its traffic."""


def check_options(samples: int | None, deadline_s: float | None) -> None:
    """Raise `InvalidOption` for fewer than 2 samples, and for a deadline that is no positive number of seconds."""
    if samples is not None and samples < 2:
        raise InvalidOption(f"samples is {samples}; at least 2 coalitions are needed, all features and none")
    if deadline_s is not None and not (deadline_s > 0 and math.isfinite(deadline_s)):
        raise InvalidOption(f"deadline_s is {deadline_s}; a deadline is a positive number of seconds")


def shuffled_background(background: Matrix, seed: int) -> Matrix:
    """Return the background (m, d) in an order that means nothing, since a beginning of it stands in for all of it.

    Raises `InvalidReference` where it has no rows or no features.
    """
    if background.ndim != 2 or background.size == 0:
        raise InvalidReference(f"a background is a matrix with rows and features, not of shape {background.shape}")
    return np.random.default_rng(seed).permutation(np.asarray(background, dtype=np.float64))


def feature_names(schema: Schema | None, width: int) -> tuple[str, ...]:
    """Return the names of the schema's features, or `x0`, `x1`, ... where there is none."""
    return schema.names if schema is not None else tuple(f"x{index}" for index in range(width))


def schema_of(schema: Schema | None, width: int) -> Schema:
    """Return the schema, or where there is none, one of so many numbers."""
    return schema or Schema(tuple(Feature(name, "numeric") for name in feature_names(None, width)))


def most_coalitions(width: int, samples: int | None) -> int:
    """Return how many coalitions may be asked: `samples`, or 2 d + 2048 where that is left to the explainer."""
    return 2 * width + 2048 if samples is None else samples


def checked_rows(rows: Matrix, width: int) -> Matrix:
    """Return the rows as float64 (n, width). Raises `InvalidRows` for another shape, no rows, or what is not finite."""
    rows = np.asarray(rows, dtype=np.float64)
    if rows.ndim != 2 or len(rows) == 0 or rows.shape[1] != width:
        raise InvalidRows(f"rows to explain have shape {rows.shape}; at least one row of {width} features is needed")
    if not np.isfinite(rows).all():
        raise InvalidRows("rows to explain hold values that are missing or not finite")
    return rows
