"""Large arrays of numbers in JSON, wherever they stand, lifted out of the text before it is parsed.

Stretches of numbers and nulls are found by the bytes alone. Each that is one array, nested to one shape, is copied by
simdjson into a buffer, and a short list that nobody can have sent stands in its place while the rest is parsed: no
number of it becomes a Python object. Of lists of unequal length, each is an array of its own. What no array holds as it
was written (a text or a boolean among numbers, whole numbers of 2^53 or more beside fractions or nulls, nulls alone)
stays in the text.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, repeat
from math import prod
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

try:
    from simdjson import Parser
except ImportError:  # there is no wheel for every interpreter
    Parser = None

MIN_NUMBERS: Final = 256
"""Arrays of fewer numbers stay lists."""

EXACT: Final = 2.0**53
"""Whole numbers below it are exact as fractions."""

MAX_RANK: Final = 8
"""Lists nested deeper are not read as an array."""

_MIN_BYTES: Final = 2 * MIN_NUMBERS + 1
_INT64: Final = 2**63
_TYPES: Final = {"i": np.int64, "u": np.uint64, "d": np.float64}
_STRIDE: Final = 64
_NUMERIC: Final = b"+-.0123456789eE,[] \t\r\nnul"
_OTHER: Final = bytes(byte not in _NUMERIC for byte in range(256))
_NO_MARKS: Final = bytes(set(range(256)) - set(b"[,]"))
_NO_KINDS: Final = bytes(set(range(256)) - set(b".eE,n"))


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """An array of JSON: `values` of its shape, float64, where NaN is null, or int64 or uint64.

    Those marked `whole` of float64 are written so. There are marks wherever there are nulls.
    """

    values: NDArray[Any]
    whole: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.values)

    def __iter__(self) -> Iterator[Any]:
        """Go through the outermost list as a general parser gives it."""
        return iter(self.as_list())

    def as_list(self) -> list[Any]:
        """Return the lists as a general parser gives them."""
        if self.whole is None:
            return list(self.values.tolist())
        cells = self.values.astype(object)
        cells[self.whole] = self.values[self.whole].astype(np.int64)
        cells[np.isnan(self.values)] = None
        return list(cells.tolist())

    def flat(self, *, floating: bool = False) -> NDArray[Any] | None:
        """Return the values (n,), row-major; None where they are to be fractions and some would be rounded."""
        values = self.values.ravel()
        if not floating:
            return _column(values, None if self.whole is None else self.whole.ravel())
        if values.dtype == np.float64:
            return values
        return values.astype(np.float64) if np.abs(values.astype(np.float64)).max() < EXACT else None

    def columns(self) -> list[NDArray[Any]]:
        """Return the columns of lists in a list, each in the type of its own numbers."""
        marks = repeat(None) if self.whole is None else self.whole.T
        return list(map(_column, self.values.T, marks))


def _column(values: NDArray[Any], whole: NDArray[np.bool_] | None) -> NDArray[Any]:
    """The numbers of a column (n,): whole ones as integers, beside nulls as objects; beside fractions a null is NaN."""
    if values.dtype == np.uint64 and values.max() < _INT64:
        return values.astype(np.int64)
    if whole is None or not (whole | np.isnan(values)).all():
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

    def put_back(self, body: Any) -> Any:  # noqa: ANN401 - any JSON
        """Return the parsed text with the arrays in their places."""
        whole = {"": body}
        containers: list[Any] = [whole]
        while containers:
            container = containers.pop()
            for place, item in container.items() if type(container) is dict else enumerate(container):
                if type(item) is list and len(item) == 1 and type(item[0]) is str and item[0] in self.arrays:
                    container[place] = self.arrays[item[0]]
                elif type(item) is list or type(item) is dict:
                    containers.append(item)
        return whole[""]


def lift(data: bytes) -> Lifted | None:
    """Return the JSON without its large arrays; None where it has none. The cost is linear in the text."""
    if Parser is None or not _may_have(data):
        return None
    mark = secrets.token_hex(8)
    kept: list[bytes] = []
    arrays: dict[str, Numbers] = {}
    position = 0
    stretches = list(_stretches(data))
    for start, stop, numbers in chain.from_iterable(_arrays(data, *stretch) for stretch in stretches):
        name = f"{mark}{len(arrays)}"
        arrays[name] = numbers
        kept += (data[position:start], b'["%b"]' % name.encode())
        position = stop
    return Lifted(b"".join((*kept, data[position:])), arrays) if arrays else None


def shape(data: bytes, start: int = 0) -> tuple[int, ...] | None:
    """Return the shape of the one array that the text has from `start` on, where no text stands.

    None where two lists of a level differ in length, or in level.
    """
    before = len(data[:start].translate(None, _NO_MARKS))
    marks = np.frombuffer(data.translate(None, _NO_MARKS), np.uint8)[before:]
    opens = marks == ord("[")
    level = np.cumsum(opens.view(np.int8) - (marks == ord("]")), dtype=np.int16)
    commas = np.where(marks == ord(","), level, 0)
    sizes: list[int] = []
    for depth in range(1, int(level.max()) + 1):
        begins = opens & (level == depth)
        lists = np.cumsum(begins, dtype=np.int32)
        lengths = np.bincount(lists[commas == depth], minlength=int(lists[-1]) + 1)[1:] + 1
        if len(lengths) != prod(sizes) or (lengths != lengths[0]).any() or depth > MAX_RANK:
            return None
        sizes.append(int(lengths[0]))
    return tuple(sizes)


def _may_have(data: bytes) -> bool:
    """Whether as many bytes on end may be of numbers, by every 64th byte."""
    if len(data) < _MIN_BYTES:
        return False
    return data[::_STRIDE].translate(_OTHER).find(bytes(_MIN_BYTES // _STRIDE)) >= 0


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
    surplus = data.count(b"[", start, stop) - data.count(b"]", start, stop) if 0 <= start < stop else 0
    for _ in range(min(surplus, MAX_RANK)):
        start = data.find(b"[", start + 1, stop)
    for _ in range(min(-surplus, MAX_RANK)):
        stop = data.rfind(b"]", start, stop - 1) + 1
    if start >= 0 and stop - start >= _MIN_BYTES:
        yield start, stop


def _arrays(data: bytes, start: int, stop: int, depth: int = 0) -> Iterator[tuple[int, int, Numbers]]:
    """Where the arrays of a stretch begin and end, the outermost that are of one shape, and what they hold."""
    if data.count(b",", start, stop) < MIN_NUMBERS - 1:
        return
    numbers = _read(data[start:stop])
    if numbers is not None:
        yield start, stop, numbers
    elif depth < MAX_RANK:
        for begin, end in _inner(np.frombuffer(data[start:stop], np.uint8)):
            yield from _arrays(data, start + begin, start + end, depth + 1)


def _inner(text: NDArray[np.uint8]) -> Iterator[tuple[int, int]]:
    """Where the long lists begin and end that stand in a list, or side by side."""
    brackets = np.flatnonzero((text == ord("[")) | (text == ord("]")))
    opens = text[brackets] == ord("[")
    level = np.cumsum(np.where(opens, 1, -1))
    outer = int(level[:-1].min() > 0)
    begins, ends = brackets[opens & (level == outer + 1)], brackets[~opens & (level == outer)] + 1
    both = np.stack([begins[: len(ends)], ends[: len(begins)]], axis=1)
    yield from both[both[:, 1] - both[:, 0] >= _MIN_BYTES].tolist()


def _read(text: bytes) -> Numbers | None:
    """Return one array of numbers; None for whatever else the text is."""
    is_whole = not any(mark in text for mark in (b".", b"e", b"E", b"n"))
    values = _buffer(text.replace(b"null", b"   0"), "iu" if is_whole else "d")  # no text becomes valid thereby
    if values is None:
        return None
    sizes = shape(text) if text.find(b"[", 1) > 0 else (len(values),)
    if sizes is None or prod(sizes) != len(values):
        return None
    kinds = None if is_whole else _kinds(text)
    if kinds is None:
        return Numbers(values.reshape(sizes))
    whole, null = kinds == ord(","), kinds == ord("n")
    if null.all() or np.abs(values, where=whole, out=np.zeros(len(values))).max() >= EXACT:
        return None
    return Numbers(np.where(null, np.nan, values).reshape(sizes), whole.reshape(sizes))


def _buffer(text: bytes, types: str) -> NDArray[Any] | None:
    """The numbers of JSON, flat, in the first of simdjson's types that holds all of them."""
    for kind in types:
        with suppress(ValueError, TypeError, RuntimeError, AttributeError):  # of simdjson, for other texts
            return np.frombuffer(Parser().parse(text).as_buffer(of_type=kind), _TYPES[kind])
    return None


def _kinds(text: bytes) -> NDArray[np.uint8] | None:
    """What each number (n,) ends in: "," where it is whole, "n" where it is null; None where all are fractions."""
    kinds = b",%b," % text.translate(None, _NO_KINDS)
    if b",," not in kinds and b"n" not in kinds:
        return None
    marks = np.frombuffer(kinds, np.uint8)
    return marks[np.flatnonzero(marks[1:] == ord(","))]
