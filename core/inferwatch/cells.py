"""Cells: what one value of a payload is as a number, as a category, and as JSON."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WRONG_TYPE_BITS = 0x7FF8_0000_0000_0BAD
_WRONG_TYPE = float(np.array([_WRONG_TYPE_BITS], np.uint64).view(np.float64)[0])
"""A NaN that says by its payload bits that something was there and was no number: for all else a missing value."""


def objects(cells: Sequence[Any]) -> NDArray[Any]:
    """Return the cells as they are, in an array of objects (n,)."""
    return np.fromiter(cells, dtype=object, count=len(cells))


def numbers(values: NDArray[Any]) -> NDArray[np.float64]:
    """Return cells (n,) as numbers, NaN where one is missing or none; `is_wrong_type` tells the two apart."""
    if values.dtype != object:
        return values.astype(np.float64)
    return np.array([_number(cell) for cell in values.tolist()], dtype=np.float64)


def _number(cell: Any) -> float:  # noqa: ANN401 - any cell of any payload
    if isinstance(cell, (int, float)):
        try:
            return float(cell)
        except OverflowError:
            return np.inf if cell > 0 else -np.inf
    if isinstance(cell, (str, bytes)):
        try:
            return float(cell)
        except ValueError:
            return _WRONG_TYPE
    return np.nan if cell is None else _WRONG_TYPE


def is_wrong_type(column: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which cells (n,) of an encoded numeric column are NaN because what was sent is no number.

    >>> is_wrong_type(numbers(np.array([40, "forty", None], dtype=object))).tolist()
    [False, True, False]
    """
    return np.asarray(np.ascontiguousarray(column).view(np.uint64) == _WRONG_TYPE_BITS)


def category(value: Any) -> str | None:  # noqa: ANN401 - any cell of any table
    """Return the one text that stands for a cell as a category; None if it is missing, or an array.

    16, 16.0 and "16" are the same:

    >>> [category(cell) for cell in (16, 16.0, "16", True, 0.5, None, float("nan"))]
    ['16', '16', '16', 'true', '0.5', None, None]
    """
    if value is None or isinstance(value, np.ndarray) or value != value:
        return None
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (float, np.floating)) and float(value).is_integer():
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return str(value)


def coding(categories: Sequence[str]) -> Callable[[NDArray[Any]], NDArray[np.float64]]:
    """Return what turns cells (n,) into the places of their categories: their number if unseen, NaN if missing."""
    codes: dict[Any, float] = {}
    for code, text in enumerate(categories):
        codes[text] = float(code)
        for parse in (int, float):
            try:
                number = parse(text)
            except ValueError:
                continue
            if category(number) == text:
                codes.setdefault(number, float(code))
    for text, flag in (("true", True), ("false", False)):
        if text in codes:
            codes.setdefault(flag, codes[text])
    unseen = float(len(categories))

    def encode(values: NDArray[Any]) -> NDArray[np.float64]:
        cells = values.tolist()
        try:
            coded = [codes.get(cell, unseen) for cell in cells]
        except TypeError:  # a cell that cannot be hashed is a nested list: no category at all
            coded = [codes.get(cell, unseen) if isinstance(cell, Hashable) else unseen for cell in cells]
        result = np.array(coded, dtype=np.float64)
        if unseen in coded:
            for index in np.flatnonzero(result == unseen):
                text = category(cells[index])
                result[index] = np.nan if text is None else codes.get(text, unseen)
        return result

    return encode


def as_json(cell: Any, text: Callable[[bytes], Any]) -> Any:  # noqa: ANN401 - any cell
    """Return a cell as lists, objects and scalars, arrays within it too; bytes become what `text` makes of them.

    >>> as_json({"mask": np.array([[1, 0]]), "label": b"a"}, bytes.decode)
    {'mask': [[1, 0]], 'label': 'a'}
    """
    if isinstance(cell, bytes):
        return text(cell)
    if isinstance(cell, dict):
        return {key: as_json(item, text) for key, item in cell.items()}
    if isinstance(cell, np.ndarray):
        return as_json(list(cell), text) if cell.dtype == object else cell.tolist()
    return [as_json(item, text) for item in cell] if isinstance(cell, list) else cell
