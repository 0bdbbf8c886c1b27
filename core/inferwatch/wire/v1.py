"""The V1 protocol: `{"instances": [...]}` in, `{"predictions": [...]}` out; TensorFlow Serving's columns as well.

Instances and predictions are scalars, lists or objects. Objects name their columns; the columns of others are called
`instances[i]` (or `inputs[i]`) in requests, and `prediction`, or `prediction_0`, `prediction_1`, ... in responses.
Numbers, or flags, in lists that are nested to one shape are a tensor, as V2 has them. Lists of unequal length, and
mixed kinds of instances, are one column of whole cells.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from inferwatch.events import Role
from inferwatch.rows import Rows
from inferwatch.wire.columns import MAX_COLUMNS, joined, positions, records, single, table
from inferwatch.wire.numbers import Numbers
from inferwatch.wire.tensors import Head, array, columns

_FIELDS = {Role.REQUEST: ("instances", "inputs"), Role.RESPONSE: ("predictions", "outputs")}


def field(body: Mapping[str, Any], role: Role) -> str | None:
    """Return the name of the field that holds the rows; None where the body is not V1."""
    usual, columnar = _FIELDS[role]
    if usual in body:
        return usual
    return columnar if columnar in body else None


def rows(body: Mapping[str, Any], name: str, role: Role) -> Rows:
    """Return the rows of that field. Raises `UndecodablePayload`."""
    value = body[name]
    if isinstance(value, dict) and _columnar(value):
        return joined(_rows(cells, column, f"{column}[{{}}]", column) for column, cells in value.items())
    if not isinstance(value, (list, Numbers)):
        value = [value]
    if role is Role.RESPONSE:
        return _rows(value, "prediction", "prediction_{}", "prediction")
    found = _rows(value, name, f"{name}[{{}}]", f"{name}[0]")
    are_objects = isinstance(value, list) and set(map(type, value)) == {dict}
    return found if are_objects and not _encoded(value) else replace(found, named=False)


def _rows(cells: Sequence[Any] | Numbers, name: str, pattern: str, whole: str) -> Rows:
    """The pattern names the columns of lists, `whole` is the name where there is only one, `name` that of a tensor."""
    if not cells:
        return Rows((), 0)
    if isinstance(cells, Numbers):
        return _array(cells, name, pattern, whole)
    kinds = set(map(type, cells))
    if kinds <= {list, Numbers}:
        width = len(cells[0])
        if len(set(map(len, cells))) == 1:
            if Numbers in kinds:  # beside rows that no array holds
                cells = [list(cell) for cell in cells]
            if width > MAX_COLUMNS or (width and type(cells[0][0]) in (list, Numbers)):
                values = array(cells)
                if values is not None:
                    return columns(Head(name, "", values.shape), values.ravel(), pattern, whole=whole)
            return table(cells, positions(pattern, width) if width > 1 else (whole,) * width, whole=whole)
    elif kinds == {dict} and not _encoded(cells):
        return records(cells, whole=whole)
    return single(cells, whole)


def _array(cells: Numbers, name: str, pattern: str, whole: str) -> Rows:
    sizes = cells.values.shape
    if len(sizes) == 1:
        return single(cells, whole)
    if len(sizes) == 2 and sizes[1] <= MAX_COLUMNS:
        return table(cells, positions(pattern, sizes[1]) if sizes[1] > 1 else (whole,), whole=whole)
    return columns(Head(name, "", sizes), cells.values.ravel(), pattern, whole=whole)


def _columnar(value: Mapping[str, Any]) -> bool:
    return bool(value) and all(isinstance(cells, (list, Numbers)) for cells in value.values())


def _encoded(cells: Sequence[Mapping[str, Any]]) -> bool:
    return all(cell.keys() == {"b64"} for cell in cells)
