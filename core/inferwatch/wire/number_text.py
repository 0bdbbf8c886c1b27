"""Numbers of JSON text into a buffer, none of them a Python object: by simdjson, or by Arrow where there is none.

simdjson has no wheel for every interpreter, and is twice as fast. Both read each number as a general parser does, to
the bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

try:
    from simdjson import Array, Parser
except ImportError:
    Array = Parser = None

__all__ = ["Array", "Parser", "numbers_of"]

_WHOLE: Final = (np.int64, np.uint64)
_CODES: Final[dict[type[np.number[Any]], str]] = {np.int64: "i", np.uint64: "u", np.float64: "d"}
_BLANKS: Final = b" \t\r\n"

_PART: Final = 65536
"""So much of a text, in bytes, a processor's cache holds many times; what tells of a spelling is at most four."""


def numbers_of(text: bytes, *, whole: bool) -> NDArray[Any] | None:
    """Return the numbers (n,) of a JSON array, nested or not, in which nothing else but numbers stands, row-major.

    They are float64; where all are written as whole ones, int64, or uint64. None where no such type holds all of them.
    None for what is no JSON, too; only whether lists end that begin, and at one level, is not seen by Arrow.
    """
    read = _by_arrow if Parser is None else _by_simdjson
    for dtype in _WHOLE if whole else (np.float64,):
        with suppress(ValueError, TypeError, RuntimeError, AttributeError):  # of either, for other texts
            return read(text, dtype)
    return None


def _by_simdjson(text: bytes, dtype: type[np.number[Any]]) -> NDArray[Any]:
    return np.frombuffer(Parser().parse(text).as_buffer(of_type=_CODES[dtype]), dtype)


def _by_arrow(text: bytes, dtype: type[np.number[Any]]) -> NDArray[Any]:
    """Split the text at its commas: Arrow rounds correctly, and takes a few spellings that JSON has not."""
    import pyarrow as pa  # takes 30 MiB, which who has simdjson need not have
    from pyarrow import compute

    if not all(map(_is_list, _parts(text.translate(None, _BLANKS)))):
        raise ValueError("no JSON")
    cells = compute.split_pattern(pa.array([text.translate(None, _BLANKS + b"[]")], pa.large_string()), ",").values
    if sum(map(_begun, _parts(text))) != len(cells):
        raise ValueError("two numbers without a comma")
    values: NDArray[Any] = cells.cast(pa.from_numpy_dtype(dtype)).to_numpy()
    if dtype is np.float64 and not np.isfinite(values).all():
        raise ValueError("a number is too large")
    return values


def _parts(text: bytes) -> Iterator[NDArray[np.uint8]]:
    """The bytes of a text, part by part, and of the next part those that may belong to what ends this one."""
    whole = np.frombuffer(text, np.uint8)
    return (whole[start : start + _PART + 3] for start in range(0, len(text), _PART))


def _is_list(dense: NDArray[np.uint8]) -> bool:
    """Whether, of what stands side by side without blanks, each may stand behind the other in lists of numbers."""
    opens, closes, comma = (dense == ord(mark) for mark in "[],")
    before = opens | comma
    wrong = before[:-1] & (closes | comma)[1:]
    wrong |= ~before[:-1] & opens[1:]
    wrong |= closes[:-1] & ~(closes | comma)[1:]
    return not wrong.any()


def _begun(spelt: NDArray[np.uint8]) -> int:
    """How many numbers begin in a part of a text. Raises `ValueError` for `+1`, `.5`, `1.` and `01`."""
    before = (spelt <= ord(" ")) | (spelt == ord(",")) | (spelt == ord("[")) | (spelt == ord("]"))
    begins = before[:-1] & ~before[1:]
    before[1:] |= (spelt[1:] == ord("-")) & before[:-1]
    first = before[:-1] & ~before[1:]
    digits = (spelt >= ord("0")) & (spelt <= ord("9"))
    has_digits = digits[1:] | ~(first | (spelt[:-1] == ord(".")))
    if not has_digits.all() or (first[:-1] & (spelt[1:-1] == ord("0")) & digits[2:]).any():
        raise ValueError("a number is spelt as in no JSON")
    return int(np.count_nonzero(begins[:_PART]))
