"""Cells of a parsed JSON body to typed columns, without changing a value.

Whole numbers stay whole up to 64 bits; a column whose numbers fit no common type without loss, or that mixes kinds,
keeps its cells as they are (`object`). A null beside fractions is NaN, beside anything else None. `{"b64": ...}` is
bytes. Wide or sparse rows that would make a table far larger than the body stay whole, one nested cell a row, or one
array where they are numbers. A cell that is a large array of numbers (`numbers`) is that array.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from inferwatch.cells import objects
from inferwatch.errors import UndecodablePayload
from inferwatch.rows import Block, Column, Grid, Rows
from inferwatch.wire.numbers import Numbers

MAX_COLUMNS: Final = 4096
"""Rows wider than this stay one nested cell each."""

MAX_ALL_COLUMNS: Final = 65536
"""Bodies with more columns than this in all are not decoded: a column costs more than a cell."""

MAX_NAME: Final = 256
"""Names longer than this, in characters, are not repeated for several columns."""

MAX_DEPTH: Final = 128
"""Cells nested deeper than this are not decoded."""

NULLABLE: Final = frozenset({int, float, type(None)})
"""The types of cells that fractions can stand for, a null as NaN."""

_EXACT: Final = 2**53
_NESTED: Final = frozenset({list, dict, Numbers})
_SPARSE_CELLS: Final = 65536


def typed(cells: Sequence[Any] | Numbers, *, floating: bool = False) -> NDArray[Any]:
    """Return the cells (n,) as float64, int64, uint64, bool or object. `floating` reads whole numbers as fractions."""
    if isinstance(cells, Numbers):
        values = cells.flat(floating=floating)
        return objects(cells.values.ravel().tolist()) if values is None else values
    kinds = set(map(type, cells))
    kind = kinds.pop() if len(kinds) == 1 else None
    if kind is float:
        return np.array(cells, dtype=np.float64)
    if kind is str:
        return objects(cells)
    if kind is int:
        return _floats(cells) if floating else _integers(cells)
    if kind is bool:
        return np.array(cells, dtype=np.bool_)
    if kind in (None, type(None)) and kinds <= NULLABLE and (float in kinds or floating):
        return _floats(cells)
    if kind in _NESTED or kinds & _NESTED:
        return objects([_nested(cell) for cell in cells])
    return objects(cells)


def table(rows: Sequence[Any] | Numbers, names: Sequence[str], *, whole: str) -> Rows:
    """Return equally wide rows as columns. Rows that make no table are one column `whole` of nested cells."""
    if isinstance(rows, Numbers):
        return Rows(tuple(map(Column, names, rows.columns())), len(rows))
    if len(names) > MAX_COLUMNS or not rows:
        return single(rows, whole)
    kinds = set(map(type, chain.from_iterable(rows)))
    if len(kinds) == 1 and float in kinds:
        matrix = np.array(rows, dtype=np.float64).T
        return Rows(tuple(map(Column, names, matrix)), len(rows))
    return Rows(tuple(map(Column, names, map(typed, zip(*rows, strict=True)))), len(rows))


def records(rows: Sequence[dict[str, Any]], *, whole: str) -> Rows:
    """Return objects as columns named by their keys, in the order of appearance; an absent key is a null."""
    first = rows[0]
    names = first.keys()
    if any(row.keys() != names for row in rows):
        names = dict.fromkeys(chain.from_iterable(rows)).keys()
    if len(names) > MAX_COLUMNS or len(names) * len(rows) > 8 * sum(map(len, rows)) + _SPARSE_CELLS:
        return single(rows, whole)
    return Rows(tuple(Column(name, typed([row.get(name) for row in rows])) for name in names), len(rows))


def single(cells: Sequence[Any] | Numbers, name: str) -> Rows:
    """Return one column."""
    return Rows((Column(name, typed(cells)),), len(cells))


def joined(parts: Iterable[Rows]) -> Rows:
    """Return the columns of all parts side by side.

    Raises `UndecodablePayload` where their row counts differ, or as soon as there are too many.
    """
    whole: list[Rows] = []
    left = MAX_ALL_COLUMNS
    for part in parts:
        left -= len(part.columns)
        if left < 0:
            raise UndecodablePayload(f"the body has more than {MAX_ALL_COLUMNS} columns")
        whole.append(part)
    if len({part.count for part in whole}) > 1:
        shown = ", ".join(f"{part.columns[0].name[:64]}: {part.count}" for part in whole[:8] if part.columns)
        raise UndecodablePayload(f"columns have different numbers of rows ({shown})")
    if len(whole) == 1:
        return whole[0]
    blocks: list[Block] = []
    start = 0
    for part in whole:
        blocks += (block._replace(start=start + block.start) for block in part.blocks)
        start += len(part.columns)
    return Rows(_beside(whole), whole[0].count if whole else 0, blocks=tuple(blocks))


def _beside(parts: Sequence[Rows]) -> Sequence[Column]:
    grids = [part.columns for part in parts if isinstance(part.columns, Grid)]
    if not grids or len(grids) < len(parts):
        return tuple(chain.from_iterable(part.columns for part in parts))
    names = tuple(chain.from_iterable(grid.names for grid in grids))
    whole = tuple(chain.from_iterable(grid.whole for grid in grids))
    return Grid(names, np.hstack([grid.values for grid in grids]), whole)


@lru_cache(maxsize=64)
def positions(pattern: str, count: int) -> tuple[str, ...]:
    """Return `count` names, the position in place of the pattern's last `{}`.

    Raises `UndecodablePayload` beyond `MAX_NAME`.
    """
    if len(pattern) > MAX_NAME:
        raise UndecodablePayload(f"the name {pattern[:64]!r}... is longer than {MAX_NAME} characters")
    before, _, after = pattern.rpartition("{}")  # a sender names tensors: no format string
    return tuple(f"{before}{index}{after}" for index in range(min(count, MAX_COLUMNS + 1)))


def _integers(cells: Sequence[int]) -> NDArray[Any]:
    for dtype in (np.int64, np.uint64):
        try:
            return np.array(cells, dtype=dtype)
        except OverflowError:
            continue
    return objects(cells)


def _floats(cells: Sequence[Any]) -> NDArray[Any]:
    if any(type(cell) is int and not -_EXACT <= cell <= _EXACT for cell in cells):
        return objects(cells)
    return np.array(cells, dtype=np.float64)


def _nested(cell: Any) -> Any:  # noqa: ANN401 - any JSON
    if type(cell) is Numbers:
        return cell.values
    if type(cell) not in _NESTED:
        return cell
    if type(cell) is dict and cell.keys() == {"b64"} and isinstance(cell["b64"], str):
        try:
            return b64decode(cell["b64"], validate=True)
        except ValueError:
            return cell
    level = [cell]
    for _ in range(MAX_DEPTH):
        level = [item for outer in level for item in _inside(outer)]
        if not level:
            return cell
    raise UndecodablePayload(f"a value is nested more than {MAX_DEPTH} levels deep")


def _inside(outer: Any) -> list[Any]:  # noqa: ANN401 - a list or an object
    """Return the lists and objects in one, and set each array of numbers in it as an array."""
    places = outer.items() if type(outer) is dict else enumerate(outer)
    nested = [(place, item) for place, item in places if type(item) in _NESTED]
    for place, item in nested:
        if type(item) is Numbers:
            outer[place] = item.values
    return [item for _, item in nested if type(item) is not Numbers]
