"""The names of the models' features, kept beside what is derived: a notebook has the log and no configuration."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence

import orjson

from inferwatch.events import Service
from inferwatch.payload_log.state import State

_TABLE = """
    CREATE TABLE IF NOT EXISTS features (
        namespace TEXT NOT NULL, name TEXT NOT NULL, names BLOB NOT NULL, PRIMARY KEY (namespace, name)
    ) STRICT, WITHOUT ROWID
"""
_KEEP = "INSERT INTO features VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET names = excluded.names"
_IS_THERE = "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'features')"
_FIND = """
    SELECT names FROM features WHERE namespace IN (?, '*') AND name IN (?, '*')
    ORDER BY name = '*', namespace = '*' LIMIT 1
"""


def keep_feature_names(state: State, names: Mapping[Service, Sequence[str]]) -> None:
    """Keep the names of each model's features, in their order; `*` stands for models without any of their own.

    Those of models that are not named stay.
    """
    with state.transaction() as connection:
        connection.execute(_TABLE)
        connection.executemany(_KEEP, [(*service, orjson.dumps(list(given))) for service, given in names.items()])


def feature_names(connection: sqlite3.Connection, service: Service) -> tuple[str, ...]:
    """Return the names that were last kept of a model's features; none where nobody knows them."""
    if not connection.execute(_IS_THERE).fetchone()[0]:
        return ()
    row = connection.execute(_FIND, service).fetchone()
    return () if row is None else tuple(orjson.loads(row[0]))
