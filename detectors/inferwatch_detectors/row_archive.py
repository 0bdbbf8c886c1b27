"""Rows as bytes, cell for cell, so that what is gathered survives the process. Nothing is pickled."""

from __future__ import annotations

from base64 import b64decode, b64encode
from typing import Any

import numpy as np
from numpy.typing import NDArray

from inferwatch.cells import as_json
from inferwatch.reference.archive import pack, unpack
from inferwatch.rows import Block, Column, Rows

_NAME = "rows.json"


def pack_rows(rows: Rows) -> bytes:
    """Return rows as bytes. Arrays in cells become nested lists, bytes in arrays objects with their `base64`."""
    numeric = {str(place): column.values for place, column in enumerate(rows.columns) if column.values.dtype != object}
    cells = {
        str(place): [_kept(cell) for cell in column.values.tolist()]
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


def _kept(cell: Any) -> Any:  # noqa: ANN401 - any cell
    plain = as_json(cell, lambda data: {"base64": b64encode(data).decode()})
    return {"object": plain} if isinstance(cell, dict) else plain


def _cell(kept: Any) -> Any:  # noqa: ANN401 - any JSON
    if not isinstance(kept, dict):
        return kept
    return kept["object"] if "object" in kept else b64decode(kept["base64"])


def _objects(cells: list[Any]) -> NDArray[np.object_]:
    values = np.empty(len(cells), dtype=object)
    for place, cell in enumerate(cells):
        values[place] = _cell(cell)
    return values
