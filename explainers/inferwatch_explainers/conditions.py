"""Conditions that a row meets, out of which rules are made: a category, or a side of a quartile of the reference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inferwatch.rows import Feature, Matrix, Schema

_QUARTILES = (0.25, 0.5, 0.75)


@dataclass(frozen=True, slots=True)
class Condition:
    """`low < x <= high` of one feature; a category is the interval around its code."""

    feature: int
    low: float
    high: float


Rule = frozenset[int]
"""Conditions that have to hold together, by their places in a list."""


def conditions_of(row: Matrix, reference: Matrix, schema: Schema) -> list[Condition]:
    """Return the conditions that a row (d,) meets: at each quartile of the reference, on whose side it lies.

    Of the quartiles on one side only the nearest counts. Quartiles are rounded to four digits, so that what is written
    is what was tested.
    """
    found: list[Condition] = []
    for place, feature in enumerate(schema.features):
        value = float(row[place])
        if feature.kind == "categorical":
            found.append(Condition(place, value - 0.5, value + 0.5))
            continue
        cuts = {float(f"{cut:.4g}") for cut in np.quantile(reference[:, place], _QUARTILES)}
        above, below = [cut for cut in cuts if value <= cut], [cut for cut in cuts if value > cut]
        found += [Condition(place, -np.inf, min(above))] if above else []
        found += [Condition(place, max(below), np.inf)] if below else []
    return found


def met(conditions: Sequence[Condition], rows: Matrix) -> NDArray[np.bool_]:
    """Return which conditions each row (r, d) meets, (r, conditions)."""
    cells = rows[:, [condition.feature for condition in conditions]]
    low = np.array([condition.low for condition in conditions])
    high = np.array([condition.high for condition in conditions])
    return np.asarray((cells > low) & (cells <= high))


def bounds(conditions: Sequence[Condition], rule: Rule) -> dict[int, tuple[float, float]]:
    """Return the interval that a rule leaves each of its features."""
    found: dict[int, tuple[float, float]] = {}
    for place in sorted(rule):
        condition = conditions[place]
        low, high = found.get(condition.feature, (-np.inf, np.inf))
        found[condition.feature] = max(low, condition.low), min(high, condition.high)
    return found


def written(conditions: Sequence[Condition], rule: Rule, features: Sequence[Feature]) -> tuple[str, ...]:
    """Return the rule as texts: `age > 28`, `28 < age <= 37`, `work = Private`."""
    return tuple(_text(features[place], low, high) for place, (low, high) in bounds(conditions, rule).items())


def _text(feature: Feature, low: float, high: float) -> str:
    if feature.kind == "categorical":
        return f"{feature.name} = {feature.categories[round((low + high) / 2)]}"
    if low == -np.inf:
        return f"{feature.name} <= {high:.4g}"
    return f"{feature.name} > {low:.4g}" if high == np.inf else f"{low:.4g} < {feature.name} <= {high:.4g}"
