"""Rows that are kept as bytes: cell for cell, whatever a cell is."""

from __future__ import annotations

import numpy as np

from inferwatch.rows import Block, Column, Rows
from inferwatch_detectors.row_archive import pack_rows, unpack_rows


def test_every_kind_of_cell_comes_back() -> None:
    image = np.arange(4.0).reshape(2, 2)
    cells = ["a", None, 2**63, b"\xff", [1, [None]], {"base64": "text"}, {"object": {"a": 1}}, {"deep": [image]}, image]
    columns = (Column("mixed", np.fromiter(cells, object)), Column("number", np.arange(9.0)))
    kept = unpack_rows(pack_rows(Rows(columns, 9, False, (Block("x", 0, (2,)),))))
    assert kept.columns[0].values.tolist() == [*cells[:7], {"deep": [image.tolist()]}, image.tolist()]
    assert kept.columns[1].values.tobytes() == columns[1].values.tobytes()
    assert (kept.count, kept.named, kept.blocks) == (9, False, (Block("x", 0, (2,)),))
