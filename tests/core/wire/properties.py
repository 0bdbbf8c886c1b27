"""What holds of the decoding of any bytes whatever."""

from __future__ import annotations

from typing import Any

import orjson

from inferwatch.errors import UndecodablePayload
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, CloudEvent, Role
from inferwatch.payload_log.entry import Entry
from inferwatch.rows import Feature, Rows, Schema
from inferwatch.wire import decode as decode_module
from inferwatch.wire import v1, v2
from inferwatch.wire.columns import MAX_ALL_COLUMNS
from inferwatch.wire.decode import decode
from inferwatch.wire.numeric import numeric
from inferwatch_logger.payload_view import decoded_table

PROTOCOLS = set(decode_module.PROTOCOLS) - {"health", "unknown"}
MOST_INFLATED_BYTES = 1 << 20


def as_columns(rows: Rows) -> tuple[Any, ...]:
    """Everything that two decodings must agree on, values by their bits."""
    columns = [(column.name, column.values.dtype.str, repr(column.values.tolist())) for column in rows.columns]
    return columns, rows.names, rows.count, rows.named, rows.blocks


def assert_holds(data: bytes, role: Role) -> str:
    """Assert what must hold of these bytes as either half of an inference, and return the protocol that they are of."""
    found = decode(data, role, max_inflated_bytes=MOST_INFLATED_BYTES)
    assert (found.protocol == "unknown") == bool(found.fault), found
    assert (found.rows is not None) == (found.protocol in PROTOCOLS), found
    assert found.protocol in PROTOCOLS | {"health", "unknown"}
    if found.rows is not None:
        _assert_consistent(found.rows, len(data))
        _assert_usable(found.rows, data, role)
    _assert_read_as_cell_by_cell(data, role)
    return found.protocol


def _assert_consistent(rows: Rows, size_bytes: int) -> None:
    assert len(rows.columns) <= MAX_ALL_COLUMNS
    assert len(rows.columns) * rows.count <= 8 * max(size_bytes, MOST_INFLATED_BYTES) + MAX_ALL_COLUMNS
    assert len(rows.names) == len(rows.columns)
    assert {column.values.shape for column in rows.columns} <= {(rows.count,)}


def _assert_usable(rows: Rows, data: bytes, role: Role) -> None:
    """Detectors get a matrix, and the API a table, of whatever was decoded."""
    if rows.columns:
        names = list(dict.fromkeys(rows.names))
        numbers = Schema(tuple(Feature(name, "numeric") for name in names))
        categories = Schema(tuple(Feature(name, "categorical", ("a", "1")) for name in names))
        for schema in (numbers, categories):
            assert schema.encode(rows).values.shape == (rows.count, len(names))
    kind = REQUEST_TYPE if role is Role.REQUEST else RESPONSE_TYPE
    entry = Entry(1, b"key", 0, 0, CloudEvent("1", "s", kind, data=data))
    asked = role is Role.REQUEST
    table = decoded_table(entry if asked else None, None if asked else entry, None)
    if table is not None:  # a body that only a lower bound of this test can inflate
        assert len(table.rows) == rows.count
        orjson.dumps(table.rows)
        orjson.dumps(table.columns)


def _assert_read_as_cell_by_cell(data: bytes, role: Role) -> None:
    quick = numeric(data, role)
    if quick is None:
        return
    protocol, rows = quick
    body = orjson.loads(data)
    try:
        slow = v2.rows(body, role) if protocol == "v2" else v1.rows(body, str(v1.field(body, role)), role)
    except UndecodablePayload as fault:
        raise AssertionError(f"read as {protocol}, and cell by cell it is none") from fault
    assert as_columns(rows) == as_columns(slow)
