"""Rows: what a payload decodes into, and the matrix of numbers that detectors and explainers work on.

A payload decodes into `Rows`: named columns whose cells keep the type they had on the wire. A `Schema` (the features of
a reference) turns those into one float64 matrix of shape (n, d): a numeric feature as it is, a categorical one as the
index of its category, an unseen category as the number of categories, and a missing value as NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from math import prod
from typing import Any, Literal, NamedTuple, overload

import numpy as np
from numpy.typing import NDArray

from inferwatch.cells import coding, numbers
from inferwatch.derived import arrays, columns_of, derivable, derived
from inferwatch.errors import InvalidRows
from inferwatch.listing import listed

Matrix = NDArray[np.float64]
"""A float64 array, (n, d) unless said otherwise."""

Places = slice | NDArray[np.intp]
"""Which rows: a range, or their places."""

Kind = Literal["numeric", "categorical"]


@dataclass(frozen=True, slots=True)
class Column:
    """One column as it came over the wire: `values` is (n,) of numbers, bool, or object.

    Numbers of JSON are float64, int64 or uint64; those of binary tensors have the tensor's own type. Object cells are
    text, bytes, None (missing), numbers that fit no common dtype without loss, arrays, or nested lists and objects, in
    which large arrays of numbers are arrays.
    """

    name: str
    values: NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Grid(Sequence[Column]):
    """Columns of numbers that lie in one matrix: `values` (n, d); those marked `whole` (d,) are int64, others float64.

    A column is made when it is asked for, so that a payload is decoded, matched and judged without any. Whole numbers
    are below 2^53, hence exact.
    """

    names: tuple[str, ...]
    values: Matrix
    whole: tuple[bool, ...]

    @overload
    def __getitem__(self, index: int) -> Column: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Column, ...]: ...
    def __getitem__(self, index: int | slice) -> Column | tuple[Column, ...]:
        """Return one column, or several."""
        if isinstance(index, slice):
            return tuple(self[place] for place in range(*index.indices(len(self))))
        values = self.values[:, index]
        return Column(self.names[index], values.astype(np.int64) if self.whole[index] else values)

    def __len__(self) -> int:
        """Return the number of columns."""
        return len(self.names)


class Block(NamedTuple):
    """Consecutive columns that are, row-major, the elements of one array a row: of a tensor, such as an image."""

    name: str
    start: int
    """The place of the first column."""
    shape: tuple[int, ...]
    """The shape of a row's array."""


@dataclass(frozen=True, slots=True)
class Rows:
    """`count` rows as columns. `named` says whether the names came with the payload or merely state positions.

    `blocks` say which columns are the elements of one array.
    """

    columns: Sequence[Column]
    count: int
    named: bool = True
    blocks: tuple[Block, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The column names, in order."""
        if isinstance(self.columns, Grid):
            return self.columns.names
        return tuple(column.name for column in self.columns)

    @property
    def sources(self) -> tuple[str, ...]:
        """What a feature can be derived from: the names of the columns, then those of the blocks."""
        return (*self.names, *(block.name for block in self.blocks)) if self.blocks else self.names

    def arrays(self, block: Block) -> NDArray[Any]:
        """Return the array that each row has in a block (n,), in the type that the columns have in common."""
        columns = self.columns[block.start : block.start + prod(block.shape)]
        values = np.stack([column.values for column in columns], axis=1).reshape(self.count, *block.shape)
        return np.fromiter(values, dtype=object, count=self.count)

    def whole(self) -> Rows:
        """Return the rows with one column for each block, its cells the arrays."""
        columns = list(self.columns)
        for block in reversed(self.blocks):
            columns[block.start : block.start + prod(block.shape)] = [Column(block.name, self.arrays(block))]
        return Rows(tuple(columns), self.count, self.named)

    def slice(self, start: int, stop: int) -> Rows:
        """Return rows `start` to `stop`."""
        stop = min(stop, self.count)
        if isinstance(self.columns, Grid):
            return replace(
                self, columns=replace(self.columns, values=self.columns.values[start:stop]), count=stop - start
            )
        columns = tuple(Column(column.name, column.values[start:stop]) for column in self.columns)
        return replace(self, columns=columns, count=stop - start)

    @classmethod
    def concat(cls, parts: Sequence[Rows]) -> Rows:
        """Return the rows of all parts, in order; the parts have the same column names. Blocks stay that all have."""
        if len(parts) == 1:
            return parts[0]
        columns = zip(*(part.columns for part in parts), strict=True)
        return cls(
            tuple(Column(same[0].name, _joined([column.values for column in same])) for same in columns),
            sum(part.count for part in parts),
            parts[0].named,
            parts[0].blocks if len({part.blocks for part in parts}) == 1 else (),
        )


@dataclass(frozen=True, slots=True)
class Feature:
    """One input of a model. `categories` are texts, in the order of their codes; empty for numeric features."""

    name: str
    kind: Kind
    categories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Encoded:
    """Rows matched to a schema: `values` (n, d); the names of columns that were absent, and of those left over."""

    values: Matrix
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


class _Match(NamedTuple):
    """The place of each feature's column, None where there is none; the features without, the columns left over."""

    places: tuple[int | None, ...]
    missing: tuple[str, ...] = ()
    extra: tuple[str, ...] = ()


@lru_cache(maxsize=256)  # the payloads of a service have the same columns
def _match(features: tuple[str, ...], columns: tuple[str, ...], named: bool) -> _Match | None:
    by_name = {name: place for place, name in enumerate(columns)} if named else {}
    missing = tuple(name for name in features if name not in by_name)
    if len(missing) < len(features):
        known = set(features)
        extra = tuple(name for name in by_name if name not in known)
        return _Match(tuple(map(by_name.get, features)), missing, extra)
    return _Match(tuple(range(len(columns)))) if len(columns) == len(features) else None


@dataclass(frozen=True)
class Schema:
    """The features of a model in the order of the reference's columns."""

    features: tuple[Feature, ...]

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The feature names, in order."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def _encoders(self) -> Mapping[str, Callable[[NDArray[Any]], Matrix]]:
        return {
            feature.name: numbers if feature.kind == "numeric" else coding(feature.categories)
            for feature in self.features
        }

    @cached_property
    def _is_numeric(self) -> bool:
        return all(feature.kind == "numeric" for feature in self.features)

    def encode(self, rows: Rows) -> Encoded:
        """Return the rows as a matrix, columns matched by name, else by order, also where features are `derived`.

        A column the rows lack becomes NaN. Raises `InvalidRows` when neither names nor width fit, naming both.
        """
        rows = with_derived(rows, self.names)
        match = _match(self.names, rows.names, rows.named)
        if match is None:
            raise InvalidRows(_mismatch(self.names, rows))
        if isinstance(rows.columns, Grid) and self._is_numeric and None not in match.places:
            in_order = match.places == tuple(range(len(rows.columns)))
            values = rows.columns.values if in_order else rows.columns.values[:, np.array(match.places)]
            return Encoded(values, match.missing, match.extra)
        values = np.full((rows.count, len(self.features)), np.nan)
        for index, (name, place) in enumerate(zip(self.names, match.places, strict=True)):
            if place is not None:
                values[:, index] = self._encoders[name](rows.columns[place].values)
        return Encoded(values, match.missing, match.extra)

    def encode_all(self, parts: Sequence[Rows]) -> Encoded:
        """Return the rows of all parts, which have the same `sources`, as one matrix. Raises `InvalidRows`."""
        if len({part.blocks for part in parts}) > 1:  # arrays of several shapes
            encoded = [self.encode(part) for part in parts]
            return replace(encoded[0], values=np.concatenate([part.values for part in encoded]))
        grids = [part.columns for part in parts if isinstance(part.columns, Grid)]
        if len(grids) < len(parts):
            return self.encode(Rows.concat(parts))
        values = np.concatenate([grid.values for grid in grids])  # the same number, written whole or not, is one code
        whole = replace(grids[0], values=values)
        return self.encode(Rows(whole, len(values), parts[0].named, parts[0].blocks))

    def decode(self, values: Matrix) -> list[list[Any]]:
        """Return the rows of a matrix as plain values: numbers, category texts, None where missing."""
        columns = [_plain(feature, values[:, index]) for index, feature in enumerate(self.features)]
        return [list(row) for row in zip(*columns, strict=True)]


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of one stream in the order of the log, as a detector sees them.

    `values` (n, d) as a `Schema` encodes them; `times_ns` (n,) event times; `payload_ids`, `keys` (n,) text and `index`
    (n,) say which row of which request each one is. `since_ns` is the end of the window before; `again` of the rows
    were in an earlier window too, as windows that overlap have it. `share` in (0, 1] is the part of the promised false
    alarms that the window may spend.
    """

    values: Matrix
    times_ns: NDArray[np.int64]
    payload_ids: NDArray[np.object_]
    keys: NDArray[np.object_]
    index: NDArray[np.int32]
    since_ns: int
    again: int = 0
    share: float = 1.0

    def __len__(self) -> int:
        return len(self.values)

    @classmethod
    def of(cls, values: Matrix, *, times_ns: NDArray[np.int64] | None = None, since_ns: int = 0) -> Batch:
        """Return a batch of bare rows, for notebooks, benchmarks and tests: one row a payload, one second apart."""
        count = len(values)
        times = times_ns if times_ns is not None else (np.arange(count, dtype=np.int64) + 1) * 1_000_000_000
        labels = np.array([f"row-{number}" for number in range(count)], dtype=object)
        return cls(np.asarray(values, dtype=np.float64), times, labels, labels, np.zeros(count, np.int32), since_ns)

    @classmethod
    def concat(cls, parts: Sequence[Batch]) -> Batch:
        """Return the rows of all parts, in order."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.values for part in parts]),
            np.concatenate([part.times_ns for part in parts]),
            np.concatenate([part.payload_ids for part in parts]),
            np.concatenate([part.keys for part in parts]),
            np.concatenate([part.index for part in parts]),
            parts[0].since_ns,
        )

    def slice(self, start: int, stop: int) -> Batch:
        """Return rows `start` to `stop`."""
        return self.pick(slice(start, stop))

    def pick(self, places: Places) -> Batch:
        """Return the rows at some places, in the order of the places."""
        return Batch(
            self.values[places],
            self.times_ns[places],
            self.payload_ids[places],
            self.keys[places],
            self.index[places],
            self.since_ns,
        )


def _joined(parts: Sequence[NDArray[Any]]) -> NDArray[Any]:
    """Arrays of one type stay what they are; of several, each cell keeps its own, so that no value changes."""
    alike = len({part.dtype for part in parts}) == 1
    return np.concatenate(parts if alike else [part.astype(object) for part in parts])


def with_derived(rows: Rows, features: tuple[str, ...]) -> Rows:
    """Return the rows with a column for each feature that can be derived from one of theirs (`inferwatch.derived`).

    They stand in place of the column, or the block of columns, that they are derived from, unless that is a feature.
    Columns that match no feature by name are matched by order, where they are as many as the features come from.
    """
    found = derivable(features, rows.sources)
    if not found:
        names = _in_order(features, rows.names, rows.named)
        if names is None:
            return rows
        named = tuple(Column(name, each.values) for name, each in zip(names, rows.columns, strict=True))
        return with_derived(Rows(named, rows.count), features)
    cells = {place: arrays(_cells(rows, place)) for place in {place for _, place, _ in found}}
    columns = [Column(name, derived(cells[place], what)) for name, place, what in found]
    used = {column for _, place, _ in found for column in _places(rows, place)}
    kept = [column for place, column in enumerate(rows.columns) if place not in used or column.name in features]
    return Rows((*kept, *columns), rows.count)


@lru_cache(maxsize=256)  # the payloads of a service have the same columns
def _in_order(features: tuple[str, ...], names: tuple[str, ...], named: bool) -> tuple[str, ...] | None:
    columns = columns_of(features)
    fits = len(names) == len(columns) != len(features)
    return columns if fits and not (named and {*columns, *features} & set(names)) else None


def _cells(rows: Rows, place: int) -> NDArray[Any]:
    """Return the cells of the column, or the arrays of the block, at a place of `Rows.sources`."""
    block = place - len(rows.columns)
    return rows.columns[place].values if block < 0 else rows.arrays(rows.blocks[block])


def _places(rows: Rows, place: int) -> range:
    """Return the places of the columns that a place of `Rows.sources` means."""
    if place < len(rows.columns):
        return range(place, place + 1)
    block = rows.blocks[place - len(rows.columns)]
    return range(block.start, block.start + prod(block.shape))


def _plain(feature: Feature, values: Matrix) -> list[Any]:
    if feature.kind == "numeric":
        return [None if np.isnan(cell) else cell for cell in values.tolist()]
    names = (*feature.categories, "(unseen)")
    return [None if np.isnan(cell) else names[int(cell)] for cell in values.tolist()]


def _mismatch(names: Sequence[str], rows: Rows) -> str:
    had, known = f"rows have {len(rows.columns)} columns", f"{len(names)}: {listed(names)}"
    if not rows.named:
        return f"{had} without names, the reference has {known}"
    return f"{had} ({listed(rows.names)}), none of which the reference has; it has {known}"
