"""Texts as rows: a schema of one feature, whose categories are the texts at hand."""

from __future__ import annotations

from collections.abc import Sequence

from inferwatch.errors import InvalidRows
from inferwatch.rows import Feature, Matrix, Rows, Schema


def texts_schema(rows: Rows) -> Schema:
    """Return the schema of rows that are a text each. Raises `InvalidRows` for several columns, or what is no text."""
    if len(rows.columns) != 1:
        raise InvalidRows(f"texts are explained one an instance, and an instance has {len(rows.columns)} columns")
    [column] = rows.columns
    cells = column.values.tolist()
    for place, cell in enumerate(cells):
        if not isinstance(cell, str):
            raise InvalidRows(f"instance {place} is {repr(cell)[:64]}; a text is needed")
    return schema_of(column.name if rows.named else "text", cells)


def schema_of(name: str, texts: Sequence[str]) -> Schema:
    """Return the schema of these texts, each once, under this name."""
    return Schema((Feature(name, "categorical", tuple(dict.fromkeys(texts))),))


def texts_of(rows: Matrix, schema: Schema) -> list[str]:
    """Return the texts that rows (n, 1) of such a schema stand for."""
    return [text for (text,) in schema.decode(rows)]
