"""Rows as bytes, cell for cell, so that what is gathered survives the process. Nothing is pickled."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.reference.archive import pack, unpack
from inferwatch.rows import Block, Column, Rows

_NAME = "rows.json"


def pack_rows(rows: Rows) -> bytes:
    """Return rows as bytes. Arrays in cells become nested lists."""
    numeric = {str(place): column.values for place, column in enumerate(rows.columns) if column.values.dtype != object}
    cells = {
        str(place): [_plain(cell) for cell in column.values.tolist()]
        for place, column in enumerate(rows.columns)
        if column.values.dtype == object
    }
    header = {"names": rows.names, "count": rows.count, "named": rows.named, "blocks": rows.blocks, "cells": cells}
    return pack(_NAME, header, numeric)


def unpack_rows(data: bytes) -> Rows:
    """Return the rows of `pack_rows`."""
    header, arrays = unpack(_NAME, data)
    columns = []
    for place, name in enumerate(header["names"]):
        key = str(place)
        columns.append(Column(name, arrays[key] if key in arrays else _objects(header["cells"][key])))
    blocks = tuple(Block(name, start, tuple(shape)) for name, start, shape in header["blocks"])
    return Rows(tuple(columns), header["count"], header["named"], blocks)


def _plain(cell: Any) -> Any:  # noqa: ANN401 - any cell
    if isinstance(cell, np.ndarray):
        return cell.tolist()
    return {"base64": b64encode(cell).decode()} if isinstance(cell, bytes) else cell


def _objects(cells: list[Any]) -> NDArray[np.object_]:
    values = np.empty(len(cells), dtype=object)
    for place, cell in enumerate(cells):
        values[place] = b64decode(cell["base64"]) if isinstance(cell, dict) else cell
    return values
