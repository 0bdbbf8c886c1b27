"""Taking payloads out of the index, with what they brought to the counts of their streams."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

_COUNT_OFF = """
    UPDATE streams SET events = events - lost_events, rows = rows - lost_rows FROM (
        SELECT stream, count(request_offset) + count(response_offset) AS lost_events,
        sum(iif(request_offset IS NULL, 0, payloads.rows)) AS lost_rows
        FROM payloads WHERE number IN (SELECT number FROM forgotten) GROUP BY stream
    ) AS gone WHERE gone.stream = streams.number
"""
_FINDINGS = """
    DELETE FROM findings WHERE payload_key IN (
        SELECT key FROM payloads WHERE number IN (SELECT number FROM forgotten)
    )
"""


def forget_payloads(connection: sqlite3.Connection, numbers: Iterable[int], *, findings: bool = False) -> None:
    """Delete the payloads of these numbers, on request with the findings about them, in a transaction of the state."""
    connection.execute("CREATE TEMP TABLE IF NOT EXISTS forgotten (number INTEGER PRIMARY KEY)")
    connection.execute("DELETE FROM forgotten")
    connection.executemany("INSERT INTO forgotten VALUES (?)", ((number,) for number in numbers))
    connection.execute(_COUNT_OFF)
    if findings:
        connection.execute(_FINDINGS)
    connection.execute("DELETE FROM payloads WHERE number IN (SELECT number FROM forgotten)")
