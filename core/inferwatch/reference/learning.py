"""Features learnt from the columns of a reference."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.cells import category
from inferwatch.derived import ARRAY, PROJECTIONS, TEXT, derived
from inferwatch.rows import Column, Feature

MOST_CATEGORIES = 256
"""How many categories are learnt for a feature, the most frequent ones; the others count together as unlisted."""

LEAST_TEXTS = 50
"""Different texts that a column of text has at least."""


def is_text(column: Column) -> bool:
    """Return whether a column holds texts rather than categories: 50 different ones, more than half of all cells.

    So categories that would hardly ever occur twice are texts too, as identifiers and times are.
    """
    if column.values.dtype != object:
        return False
    present = [cell for cell in column.values.tolist() if cell is not None]
    if not all(isinstance(cell, str) for cell in present):
        return False
    different = len(set(present))
    return different >= LEAST_TEXTS and 2 * different > len(present)


def measures_of(column: Column) -> Sequence[str]:
    """Return what stands for a column of texts or of arrays of numbers, of `inferwatch.derived`; nothing for others."""
    if is_text(column):
        return TEXT
    sizes = derived(column.values, "size") if column.values.dtype == object else np.empty(0)
    present = sum(cell is not None for cell in column.values.tolist()) if len(sizes) else 0
    if not present or (sizes > 0).sum() < present:
        return ()
    return ARRAY[: 2 + int(min(np.nanmax(sizes), PROJECTIONS))]


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
    texts: Counter[str] = Counter()
    for cell, count in _counted(values.tolist()):
        text = category(cell)
        if text is not None:
            texts[text] += count
    frequent = sorted(texts, key=lambda text: (-texts[text], text))[:MOST_CATEGORIES]
    return tuple(sorted(frequent, key=_place))


def _counted(cells: list[Any]) -> Iterable[tuple[Any, int]]:
    """Yield the distinct cells and how often each occurs; 1 and True, which Python holds for equal, apart."""
    try:
        typed = Counter(zip(map(type, cells), cells, strict=True))
    except TypeError:  # nested lists have no hash
        return ((cell, 1) for cell in cells)
    return ((cell, count) for (_, cell), count in typed.items())


def _place(text: str) -> tuple[bool, float, str]:
    try:
        number = float(text)
    except ValueError:
        number = np.nan
    return (True, 0.0, text) if np.isnan(number) else (False, number, text)
