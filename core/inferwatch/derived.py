"""Numbers that are derived from texts, images and other arrays, so that detectors can judge them.

A feature named after a column and one of `DERIVED`, such as `prompt.characters` or `image.mean`, is computed from the
cells of that column where the payload has no column of that very name. It is missing where a cell is of another kind.

    NAME.characters     of text, in any language
    NAME.bytes          of text in UTF-8, or of bytes
    NAME.words          of text, as white space separates them: for languages that write so
    NAME.distinct_words the share of words that are different ones, in any case
    NAME.digits         the share of its characters that are digits, of any script
    NAME.uppercase      the share of its letters that are capitals
    NAME.punctuation    the share of its characters that are neither letters, digits nor white space
    NAME.size           numbers in an array, such as an image, or in nested lists
    NAME.mean           their mean
    NAME.sd             their standard deviation (ddof 0)
    NAME.shape[0]       the sizes of its dimensions, to NAME.shape[3]: of an image in this order or that, as it was sent
    NAME.length         the length of an array as a vector
    NAME.projection_0   what that is along 16 random directions, to NAME.projection_15; of up to 16 numbers, themselves

All of text stand for a column of a reference that is text (`reference.learning`); size, length and projections, as many
as there are numbers, stand for one of arrays. A shift of the mean shows in each projection in proportion to its cosine
with the direction (Johnson and Lindenstrauss, 1984), hence in the largest of 16 nearly always. The directions follow
from the number of dimensions alone, so that they are the same in every process.

An array is what a cell holds whole, or what a tensor spreads over columns: with columns `image[0]` to `image[783]`
there is `image.mean`. Images that are encoded, as PNG and JPEG are, have `bytes`; they are not decoded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Container, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inferwatch.cells import objects
from inferwatch.products import product

_NAN: Final = float("nan")
_DIMENSIONS: Final = 4
_FOLDED: Final = 4_096


def derived(values: NDArray[Any], what: str) -> NDArray[np.float64]:
    """Return one of `DERIVED` of each cell (n,), NaN where the cell has none."""
    measure = DERIVED[what]
    with np.errstate(over="ignore", invalid="ignore"):
        return np.array([measure(cell) for cell in values], dtype=np.float64)


def arrays(values: NDArray[Any]) -> NDArray[Any]:
    """Return the cells (n,) with arrays for lists of numbers, so that not every measure reads the lists anew."""
    return objects([cell if (numbers := _numbers(cell)) is None else numbers for cell in values])


def projections(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return vectors (n, d) along 16 random directions (n, 16); of up to 16 numbers, themselves."""
    if values.shape[1] <= PROJECTIONS:
        return values
    folded = _folded(values)
    return product(folded, _directions(folded.shape[1]))


def _folded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors (n, d) of at most 4,096 numbers: longer ones in pieces added up, lest directions outgrow what comes."""
    count, dimension = values.shape
    pieces = -(-dimension // _FOLDED)
    if pieces == 1:
        return values
    padded = np.zeros((count, pieces * _FOLDED))
    padded[:, :dimension] = values
    return np.asarray(padded.reshape(count, pieces, _FOLDED).sum(axis=1) / math.sqrt(pieces))


@lru_cache(maxsize=16)
def _directions(dimension: int) -> NDArray[np.float64]:
    found = np.random.default_rng(dimension).normal(size=(dimension, PROJECTIONS))
    return np.asfortranarray(found / np.sqrt((found**2).sum(axis=0)))  # each direction in one piece


@lru_cache(maxsize=256)  # the payloads of a service have the same columns
def derivable(features: tuple[str, ...], columns: tuple[str, ...]) -> Sequence[tuple[str, int, str]]:
    """Return the features that are no columns and can be derived from one: name, place of the column, and what."""
    places = {name: place for place, name in enumerate(columns)}
    parts = [(name, *name.rpartition(".")[::2]) for name in features if name not in places]
    return [(name, places[column], what) for name, column, what in parts if what in DERIVED and column in places]


TEXT: Final = ("characters", "bytes", "words", "distinct_words", "digits", "uppercase", "punctuation")
"""What stands for a column of text, in any language."""


PROJECTIONS: Final = 16
ARRAY: Final = ("size", "length", *(f"projection_{place}" for place in range(PROJECTIONS)))
"""What stands for a column of arrays; where none has 16 numbers, as many projections as there are numbers."""


def column_of(feature: str, features: Container[str]) -> str | None:
    """Return the column of texts or arrays that a feature stands for together with others; None for any other."""
    column, _, what = feature.rpartition(".")
    for measures, least in ((TEXT, len(TEXT)), (ARRAY, 3)):
        if what in measures and all(f"{column}.{each}" in features for each in measures[:least]):
            return column
    return None


@lru_cache(maxsize=256)
def columns_of(features: tuple[str, ...]) -> tuple[str, ...]:
    """Return the columns that features are, with one in place of all that stand for a column of texts or arrays."""
    known = set(features)
    return tuple(dict.fromkeys(column_of(feature, known) or feature for feature in features))


def _characters(cell: Any) -> float:  # noqa: ANN401 - any cell
    return float(len(cell)) if isinstance(cell, str) else _NAN


def _bytes(cell: Any) -> float:  # noqa: ANN401 - any cell
    if isinstance(cell, str):
        return float(len(cell.encode("utf-8", "replace")))
    return float(len(cell)) if isinstance(cell, bytes) else _NAN


def _words(cell: Any) -> float:  # noqa: ANN401 - any cell
    return float(len(cell.split())) if isinstance(cell, str) else _NAN


def _distinct_words(cell: Any) -> float:  # noqa: ANN401 - any cell
    words = cell.lower().split() if isinstance(cell, str) else ()
    return len(set(words)) / len(words) if words else _NAN


def _digits(cell: Any) -> float:  # noqa: ANN401 - any cell
    return _share(cell, str.isdigit)


def _uppercase(cell: Any) -> float:  # noqa: ANN401 - any cell
    return _share("".join(filter(str.isalpha, cell)), str.isupper) if isinstance(cell, str) else _NAN


def _punctuation(cell: Any) -> float:  # noqa: ANN401 - any cell
    return _share(cell, lambda character: not (character.isalnum() or character.isspace()))


def _share(cell: Any, holds: Callable[[str], bool]) -> float:  # noqa: ANN401 - any cell
    """The share of a text's characters of which something holds; nothing of an empty text."""
    return sum(map(holds, cell)) / len(cell) if isinstance(cell, str) and cell else _NAN


def _numbers(cell: Any) -> NDArray[np.float64] | None:  # noqa: ANN401 - any cell
    if not isinstance(cell, (list, np.ndarray)):
        return None
    try:
        numbers = np.asarray(cell, dtype=np.float64)
    except (TypeError, ValueError):  # of unequal length, or no numbers
        return None
    return numbers if numbers.size else None


def _size(cell: Any) -> float:  # noqa: ANN401 - any cell
    numbers = _numbers(cell)
    return _NAN if numbers is None else float(numbers.size)


def _mean(cell: Any) -> float:  # noqa: ANN401 - any cell
    numbers = _numbers(cell)
    return _NAN if numbers is None else float(numbers.mean())


def _sd(cell: Any) -> float:  # noqa: ANN401 - any cell
    numbers = _numbers(cell)
    return _NAN if numbers is None else float(numbers.std())


def _length(cell: Any) -> float:  # noqa: ANN401 - any cell
    numbers = _numbers(cell)
    return _NAN if numbers is None else float(np.sqrt((numbers**2).sum()))


def _projection(cell: Any, place: int) -> float:  # noqa: ANN401 - any cell
    numbers = _numbers(cell)
    if numbers is None or place >= numbers.size:
        return _NAN
    if numbers.size <= PROJECTIONS:
        return float(numbers.ravel()[place])
    (vector,) = _folded(numbers.reshape(1, -1))
    return float(vector @ _directions(vector.size)[:, place])


def _dimension(cell: Any, axis: int) -> float:  # noqa: ANN401 - any cell
    numbers = _numbers(cell)
    return _NAN if numbers is None or axis >= numbers.ndim else float(numbers.shape[axis])


DERIVED: Final[Mapping[str, Callable[[Any], float]]] = {
    "characters": _characters,
    "bytes": _bytes,
    "words": _words,
    "distinct_words": _distinct_words,
    "digits": _digits,
    "uppercase": _uppercase,
    "punctuation": _punctuation,
    "size": _size,
    "mean": _mean,
    "sd": _sd,
    **{f"shape[{axis}]": partial(_dimension, axis=axis) for axis in range(_DIMENSIONS)},
    "length": _length,
    **{f"projection_{place}": partial(_projection, place=place) for place in range(PROJECTIONS)},
}
"""What can be derived of a cell."""
