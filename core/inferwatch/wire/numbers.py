"""Large arrays of numbers in JSON, wherever they stand, lifted out of the text before it is parsed.

Stretches of numbers, nulls and flags are found by the bytes alone, `NaN` and `Infinity` too. Each that is one array,
nested to one shape, is read into a buffer (`number_text`), and a short list that nobody can have sent stands in its
place while the rest is parsed: no number of it becomes a Python object. Of lists of unequal length, each is an array of
its own. What no array holds as it was written (a text, or a flag, among numbers, whole numbers of 2^53 or more beside
fractions or nulls) stays in the text.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, repeat
from math import inf, nan, prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inferwatch.wire.number_text import Parser, numbers_of

MIN_NUMBERS: Final = 4096 if Parser is None else 256
"""Arrays of fewer numbers stay lists. Without simdjson, those of a few hundred would take six times as long."""

EXACT: Final = 2.0**53
"""Whole numbers below it are exact as fractions."""

MAX_RANK: Final = 64
"""Lists nested deeper are not read as an array: NumPy has none of more dimensions."""

_MIN_BYTES: Final = 2 * MIN_NUMBERS + 1
_INT64: Final = 2**63
_STRIDE: Final = 64
_WORDS: Final = {b"-Infinity": -inf, b"Infinity": inf, b"NaN": nan, b"null": nan, b"true": 1.0, b"false": 0.0}
_MARKS: Final = range(1, 1 + len(_WORDS))
"""What stands for each of the words: bytes that no JSON has."""

_NULL, _TRUE, _FALSE = _MARKS[-3:]
WHOLE: Final = ord(",")
"""What a number that is written as a whole one ends in."""

_NUMERIC: Final = b"+-.0123456789eE,[] \t\r\n" + b"".join(_WORDS)
_OTHER: Final = bytes(byte not in _NUMERIC for byte in range(256))
_NO_MARKS: Final = bytes(set(range(256)) - set(b"[,]"))
_NO_KINDS: Final = bytes(set(range(256)) - {*b".eE,", *_MARKS})
_WORDS_AS_ZERO: Final = bytes.maketrans(bytes(_MARKS), b"0" * len(_WORDS))
_LEVELS: Final = 8
"""How deep in lists that are no array other ones than the innermost are looked for."""


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """An array of JSON: `values` of its shape, float64, where a null is NaN, or int64, uint64 or bool.

    `kinds` tells which of float64 are written as whole numbers, and which are nulls; None where none is either.
    """

    values: NDArray[Any]
    kinds: NDArray[np.uint8] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Any]:
        """Go through the outermost list as a general parser gives it."""
        return iter(self.as_list())

    def as_list(self) -> list[Any]:
        """Return the lists as a general parser gives them."""
        if self.kinds is None:
            return list(self.values.tolist())
        cells, whole = self.values.astype(object), self.kinds == WHOLE
        cells[whole] = self.values[whole].astype(np.int64)
        cells[self.kinds == _NULL] = None
        return list(cells.tolist())

    def flat(self, *, floating: bool = False) -> NDArray[Any] | None:
        """Return the values (n,), row-major; None where numbers are to be fractions and some would be rounded."""
        values = self.values.ravel()
        if not floating:
            return _column(values, None if self.kinds is None else self.kinds.ravel())
        if values.dtype in (np.float64, np.bool_):
            return values
        return values.astype(np.float64) if np.abs(values.astype(np.float64)).max() < EXACT else None

    def columns(self) -> list[NDArray[Any]]:
        """Return the columns of lists in a list, each in the type of its own numbers."""
        kinds = repeat(None) if self.kinds is None else self.kinds.T
        return list(map(_column, self.values.T, kinds))


def _column(values: NDArray[Any], kinds: NDArray[np.uint8] | None) -> NDArray[Any]:
    """The numbers of a column (n,): whole ones as integers, beside nulls as objects; beside fractions a null is NaN."""
    if values.dtype == np.uint64 and values.max() < _INT64:
        return values.astype(np.int64)
    if kinds is None:
        return values
    whole = kinds == WHOLE
    if not (whole | (kinds == _NULL)).all():
        return values
    if whole.all():
        return values.astype(np.int64)
    cells = np.full(len(values), None)
    cells[whole] = values[whole].astype(np.int64)
    return cells


@dataclass(frozen=True, slots=True)
class Lifted:
    """The text without its large arrays, which `put_back` sets where they stood."""

    text: bytes
    arrays: Mapping[str, Numbers]
    spelt: Mapping[str, memoryview]
    """Each array as it stood in the text."""

    def put_back(self, body: Any, values: Mapping[str, Any] | None = None) -> Any:  # noqa: ANN401 - any JSON
        """Return the parsed text with the arrays in their places, or what `values` has for each."""
        values = self.arrays if values is None else values
        whole = {"": body}
        containers: list[Any] = [whole]
        while containers:
            container = containers.pop()
            for place, item in container.items() if type(container) is dict else enumerate(container):
                if type(item) is list and len(item) == 1 and type(item[0]) is str and item[0] in values:
                    container[place] = values[item[0]]
                elif type(item) is list or type(item) is dict:
                    containers.append(item)
        return whole[""]


def lift(data: bytes) -> Lifted | None:
    """Return the JSON without its large arrays; None where it has none. The cost is linear in the text."""
    if not _may_have(data):
        return None
    mark = secrets.token_hex(8)
    kept: list[bytes] = []
    arrays: dict[str, Numbers] = {}
    spelt: dict[str, memoryview] = {}
    position = 0
    stretches = list(_stretches(data))
    for start, stop, numbers in chain.from_iterable(_arrays(data, *stretch) for stretch in stretches):
        name = f"{mark}{len(arrays)}"
        arrays[name], spelt[name] = numbers, memoryview(data)[start:stop]
        kept += (data[position:start], b'["%b"]' % name.encode())
        position = stop
    return Lifted(b"".join((*kept, data[position:])), arrays, spelt) if arrays else None


def shape(data: bytes, start: int = 0) -> tuple[int, ...] | None:
    """Return the shape of the one array that the text has from `start` on, where no text stands.

    None where two lists of a level differ in length, or in level.
    """
    before = len(data[:start].translate(None, _NO_MARKS))
    marks = data.translate(None, _NO_MARKS)[before:]
    rank = len(marks) - len(marks.lstrip(b"["))
    sizes: list[int] = []
    first = b""  # the first list of a level, from the innermost outwards, if all are like the first within it
    for closed in range(1, rank + 1) if rank <= MAX_RANK else ():
        length = marks.find(b"]" * closed) + 2 * closed - rank
        sizes.insert(0, (length - 1) // (len(first) + 1))
        first = b"[%b]" % ((first + b",") * sizes[0])[:-1]
    return tuple(sizes) if sizes and first == marks else None


def endings(text: bytes) -> NDArray[np.uint8] | None:
    """What each number (n,) ends in: a comma where it is whole, a word's mark; None where all are fractions."""
    kinds = b",%b," % text.translate(None, _NO_KINDS)
    marks = np.frombuffer(kinds, np.uint8)
    if b",," not in kinds and marks.min() > _FALSE:
        return None
    return marks[np.flatnonzero(marks[1:] == ord(","))]


def count_of(byte: bytes, data: bytes, start: int = 0, stop: int | None = None) -> int:
    """Return how often a byte stands in a text: where that is often, in a tenth of the time of `bytes.count`."""
    return int(np.count_nonzero(np.frombuffer(data, np.uint8)[start:stop] == ord(byte)))


def _may_have(data: bytes) -> bool:
    """Whether as many bytes on end may be of numbers, by every 64th byte, and there are as many commas."""
    if len(data) < _MIN_BYTES or data[::_STRIDE].translate(_OTHER).find(bytes(_MIN_BYTES // _STRIDE)) < 0:
        return False
    return count_of(b",", data) >= MIN_NUMBERS - 1


def _stretches(data: bytes) -> Iterator[tuple[int, int]]:
    """Where long stretches of numbers that are in no text begin and end, to the outermost brackets."""
    other = data.translate(_OTHER)
    quotes = data.replace(rb"\\", b"__").replace(rb"\"", b"__") if b"\\" in data else data
    numeric, is_text, stop = bytes(_MIN_BYTES), False, 0
    while (start := other.find(numeric, stop)) >= 0:
        is_text ^= quotes.count(b'"', stop, start) % 2 == 1
        stop = other.find(b"\x01", start)
        stop = len(data) if stop < 0 else stop
        if not is_text:
            yield from _balanced(data, start, stop)


def _balanced(data: bytes, start: int, stop: int) -> Iterator[tuple[int, int]]:
    """Leave out the brackets of lists that begin before, or end after."""
    start, stop = data.find(b"[", start, stop), data.rfind(b"]", start, stop) + 1
    surplus = count_of(b"[", data, start, stop) - count_of(b"]", data, start, stop) if 0 <= start < stop else 0
    for _ in range(min(surplus, MAX_RANK)):
        start = data.find(b"[", start + 1, stop)
    for _ in range(min(-surplus, MAX_RANK)):
        stop = data.rfind(b"]", start, stop - 1) + 1
    if start >= 0 and stop - start >= _MIN_BYTES:
        yield start, stop


def _arrays(data: bytes, start: int, stop: int, depth: int = 0) -> Iterator[tuple[int, int, Numbers]]:
    """Where the arrays of a stretch begin and end, the outermost that are of one shape, and what they hold."""
    if count_of(b",", data, start, stop) < MIN_NUMBERS - 1:
        return
    numbers = _read(data[start:stop])
    if numbers is not None:
        yield start, stop, numbers
    elif depth <= _LEVELS:
        for begin, end in _inner(np.frombuffer(data, np.uint8)[start:stop], innermost=depth == _LEVELS):
            yield from _arrays(data, start + begin, start + end, depth + 1)


def _inner(text: NDArray[np.uint8], *, innermost: bool) -> Iterator[tuple[int, int]]:
    """Where the long lists begin and end that stand in a list, or side by side; or those without lists in them."""
    brackets = np.flatnonzero((text == ord("[")) | (text == ord("]")))
    opens = text[brackets] == ord("[")
    if innermost:
        begin = opens[:-1] & ~opens[1:]
        begins, ends = brackets[:-1][begin], brackets[1:][begin] + 1
    else:
        level = np.cumsum(np.where(opens, 1, -1))
        outer = int(level[:-1].min() > 0)
        begins, ends = brackets[opens & (level == outer + 1)], brackets[~opens & (level == outer)] + 1
    both = np.stack([begins[: len(ends)], ends[: len(begins)]], axis=1)
    yield from both[both[:, 1] - both[:, 0] >= _MIN_BYTES].tolist()


def _read(text: bytes) -> Numbers | None:
    """Return one array of numbers, or of flags; None for whatever else the text is."""
    coded = text
    for mark, word in zip(_MARKS, _WORDS, strict=True):
        if word.lstrip(b"-")[:1] in text:  # a byte is found faster than a word
            coded = coded.replace(word, b" %c " % mark)  # blanks, lest a text become valid: `1null`, `null.5`
    has_words = coded is not text
    is_whole = not has_words and not any(mark in text for mark in (b".", b"e", b"E"))
    values = numbers_of(coded.translate(_WORDS_AS_ZERO) if has_words else text, whole=is_whole)
    if values is None:
        return None
    is_flat = text.find(b"[", 1) < 0 and text.find(b"]") == len(text) - 1
    sizes = (len(values),) if is_flat else shape(text)
    if sizes is None or prod(sizes) != len(values):
        return None
    kinds = None if is_whole else endings(coded)
    return Numbers(values.reshape(sizes)) if kinds is None else _of_kinds(values, kinds, sizes)


def _of_kinds(values: NDArray[Any], kinds: NDArray[np.uint8], sizes: tuple[int, ...]) -> Numbers | None:
    """The array of float64 (n,), in which words are zeros, and kinds (n,); None where an array would change a value."""
    flags = (kinds == _TRUE) | (kinds == _FALSE)
    if flags.any():
        return Numbers((kinds == _TRUE).reshape(sizes)) if flags.all() else None
    whole = kinds == WHOLE
    if np.abs(values, where=whole, out=np.zeros(len(values))).max() >= EXACT:
        return None
    values = np.where(whole, values + 0.0, values)  # a whole -0 is 0
    for mark, number in zip(_MARKS, _WORDS.values(), strict=True):
        values[kinds == mark] = number
    return Numbers(values.reshape(sizes), kinds.reshape(sizes))
