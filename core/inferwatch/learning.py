"""Features learnt from the columns of a reference."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.rows import Column, Feature, category

MOST_CATEGORIES = 256
"""How many categories are learnt for a feature, the most frequent ones; the others count together as unlisted."""


def learn_feature(declared: Feature | None, column: Column) -> Feature:
    """Return the declared feature, or what its column shows, with the categories that occur in it.

    Columns of numbers are numeric; text, flags and pandas categories are categorical, as are mixtures.
    """
    name = declared.name if declared else column.name
    if (declared.kind if declared else _kind(column.values)) == "numeric":
        return Feature(name, "numeric")
    return declared if declared and declared.categories else Feature(name, "categorical", _categories(column.values))


def _kind(values: NDArray[Any]) -> str:
    if values.dtype == bool:
        return "categorical"
    if values.dtype != object:
        return "numeric"
    present = (cell for cell in values.tolist() if cell is not None)
    return (
        "numeric"
        if all(isinstance(cell, (int, float)) and not isinstance(cell, bool) for cell in present)
        else "categorical"
    )


def _categories(values: NDArray[Any]) -> tuple[str, ...]:
    texts = Counter(text for text in map(category, values.tolist()) if text is not None)
    frequent = sorted(texts, key=lambda text: (-texts[text], text))[:MOST_CATEGORIES]
    return tuple(sorted(frequent, key=_place))


def _place(text: str) -> tuple[bool, float, str]:
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    return (True, 0.0, text) if np.isnan(number) else (False, number, text)
