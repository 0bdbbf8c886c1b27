"""Tells an event that came again from another one that bears its id and time: a client that uses ids again loses none.

A key covers id and time, not the body. Where a key is taken, the bodies are compared: an equal one is the same event,
another one is stored under a key that covers its body. Of what is sealed or erased the body is not at hand, and such a
key stands for the same event; what bears one time comes about one time.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from hashlib import blake2b

from inferwatch.payload_log.entry import Row

_FIND = "SELECT offset, head, data FROM events WHERE key = ?"
_INSERT = "INSERT INTO events (key, arrival_ns, head, data) VALUES (?, ?, ?, ?)"


def told_apart(cursor: sqlite3.Cursor, rows: Sequence[Row], end: int) -> list[bool]:
    """Return of each row whether it is new, and insert those that are and whose key was another's.

    The rows were inserted as far as their keys were free, at offsets beyond `end`.
    """
    claimed: set[int] = set()
    return [_is_new(cursor, row, end, claimed) for row in rows]


def _is_new(cursor: sqlite3.Cursor, row: Row, end: int, claimed: set[int]) -> bool:
    key, arrival_ns, head, data = row
    own = blake2b(key + data, digest_size=16).digest()
    for candidate in (key, own):
        found = cursor.execute(_FIND, (candidate,)).fetchone()
        if found is None:
            cursor.execute(_INSERT, (candidate, arrival_ns, head, data))
            claimed.add(int(cursor.lastrowid or 0))
            return True
        offset, kept_head, kept_data = found
        if not kept_head or kept_data == data:
            break
    is_first = offset > end and offset not in claimed
    claimed.add(offset)
    return is_first
