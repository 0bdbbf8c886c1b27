"""Large arrays of numbers in JSON, wherever they stand, lifted out of the text before it is parsed.

Stretches of numbers are found by the bytes alone. Each that is one array, nested to one shape, is copied by simdjson
into a buffer, and a short list that nobody can have sent stands in its place while the rest is parsed: no number of it
becomes a Python object. What is irregular (lists of unequal length, a null or a text among the numbers, whole numbers
beyond what the array's type holds) stays in the text.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
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
_STRIDE: Final = 64
_NUMERIC: Final = b"+-.0123456789eE,[] \t\r\n"
_OTHER: Final = bytes(byte not in _NUMERIC for byte in range(256))
_NO_MARKS: Final = bytes(set(range(256)) - set(b"[,]"))
_NO_KINDS: Final = bytes(set(range(256)) - set(b".eE,"))


@dataclass(frozen=True, slots=True, eq=False)
class Numbers:
    """An array of JSON: `values` float64 or int64, of its shape; those marked `whole` of float64 are written so."""

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
        return list(cells.tolist())

    def flat(self, *, floating: bool = False) -> NDArray[Any] | None:
        """Return the values (n,), row-major; None where they are to be fractions and some would be rounded."""
        values = self.values.ravel()
        if not floating or values.dtype == np.float64:
            return values
        return values.astype(np.float64) if np.abs(values.astype(np.float64)).max() < EXACT else None

    def columns(self) -> list[NDArray[Any]]:
        """Return the columns of lists in a list; those that are written whole throughout are int64."""
        if self.whole is None:
            return list(self.values.T)
        kinds = zip(self.values.T, np.all(self.whole, axis=0).tolist(), strict=True)
        return [column.astype(np.int64) if is_whole else column for column, is_whole in kinds]


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
    for start, stop in list(_stretches(data)):
        numbers = _read(data[start:stop])
        if numbers is not None:
            name = f"{mark}{len(arrays)}"
            arrays[name] = numbers
            kept += (data[position:start], b'["%b"]' % name.encode())
            position = stop
    return Lifted(b"".join((*kept, data[position:])), arrays) if arrays else None


def plain(value: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return a value, nested to a bounded depth, with each array as the lists that it was."""
    if type(value) is Numbers:
        return value.as_list()
    if type(value) is dict:
        return {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if type(value) is list else value


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


def _read(text: bytes) -> Numbers | None:
    """Return one array of numbers; None for whatever else the text is."""
    is_whole = not any(mark in text for mark in (b".", b"e", b"E"))
    try:
        buffer = Parser().parse(text).as_buffer(of_type="i" if is_whole else "d")
    except (ValueError, TypeError, RuntimeError, AttributeError):  # of simdjson, for other texts
        return None
    values: NDArray[Any] = np.frombuffer(buffer, np.int64 if is_whole else np.float64)
    sizes = shape(text) if text.find(b"[", 1) > 0 else (len(values),)
    if sizes is None or prod(sizes) != len(values) or len(values) < MIN_NUMBERS:
        return None
    written_whole = None if is_whole else _written_whole(text)
    if written_whole is None:
        return Numbers(values.reshape(sizes))
    exact = np.abs(values[written_whole]).max() < EXACT
    return Numbers(values.reshape(sizes), written_whole.reshape(sizes)) if exact else None


def _written_whole(text: bytes) -> NDArray[np.bool_] | None:
    """Which numbers (n,) have neither a fraction nor an exponent; None where each has one."""
    kinds = b",%b," % text.translate(None, _NO_KINDS)
    if b",," not in kinds:
        return None
    marks = np.frombuffer(kinds[1:], np.uint8)
    is_end = marks == ord(",")
    follows_end: NDArray[np.bool_] = is_end[np.flatnonzero(is_end) - 1]
    return follows_end
