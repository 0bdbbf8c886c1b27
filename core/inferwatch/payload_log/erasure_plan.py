"""What is to be erased, written down before anything is touched, so that an erasure which is cut short gets finished.

From the moment that a plan is on the disk, whoever opens the log to write carries it out before anything else. Every
step of it may be done again, and the plan goes last.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from inferwatch.errors import PayloadLogError
from inferwatch.events import Service
from inferwatch.payload_log import dead_letter, reader, state
from inferwatch.payload_log.database import Schema, open_database, replace_file, translated
from inferwatch.payload_log.explanations import forget_doomed_explanations
from inferwatch.payload_log.reader import JournalReader
from inferwatch.payload_log.removal import forget_payloads
from inferwatch.payload_log.segment import filter_segment
from inferwatch.payload_log.segments import DIRECTORY, Segments, note_contents, remove_unnamed

FILE_NAME = "erasure.json"

_EMPTY = "UPDATE events SET head = x'', data = x'' WHERE offset IN (SELECT offset FROM doomed)"
_NEW_KEY = "UPDATE events SET key = randomblob(16) WHERE offset = ?"
_PAYLOADS = """
    SELECT payloads.number, request_offset, response_offset FROM payloads JOIN streams ON streams.number = stream
    WHERE namespace = ? AND name = ?
    AND (request_offset IN (SELECT offset FROM doomed) OR response_offset IN (SELECT offset FROM doomed))
"""


@dataclass(frozen=True, slots=True)
class Plan:
    """The events to erase, those among them whose key is a hash of their body, and how many payloads they are.

    Dead letters of the service with the event id `identity` go too, where there is one.
    """

    service: Service
    identity: str | None
    offsets: Collection[int]
    untimed: Collection[int]
    payloads: int


def begin(directory: Path, plan: Plan) -> None:
    """Write a plan down; from now on it will be carried out."""
    fields = (*plan.service, plan.identity, sorted(plan.offsets), sorted(plan.untimed), plan.payloads)
    replace_file(directory / FILE_NAME, orjson.dumps(fields))


def finish(directory: Path) -> Plan | None:
    """Carry out the plan that lies in a directory, and return it; None where there is none.

    The caller holds the directory's lock. Raises `PayloadLogError`; the plan then stays.
    """
    path = directory / FILE_NAME
    plan = _read(path)
    if plan is None:
        return None
    if plan.offsets:
        with opened(directory / reader.FILE_NAME, reader.SCHEMA, plan.offsets) as log:
            _erase_events(directory, log, plan)
        with opened(directory / state.FILE_NAME, state.SCHEMA, plan.offsets) as derived:
            numbers = [number for number, _, _ in indexed(derived, plan.service)]
            forget_payloads(derived, numbers, findings=True)
            forget_doomed_explanations(derived)
    with JournalReader(directory) as log_reader:
        remove_unnamed(directory, log_reader.sealed())
    if plan.identity is not None:
        for name in (dead_letter.FILE_NAME, f"{dead_letter.FILE_NAME}.1"):
            _erase_letters(directory / name, plan.service, plan.identity)
    with translated(path):
        path.unlink()
    return plan


@contextmanager
def opened(path: Path, schema: Schema, offsets: Collection[int] = ()) -> Iterator[sqlite3.Connection]:
    """Yield a database within a transaction, with the offsets in a table `doomed`; then empty its write-ahead log."""
    with closing(open_database(path, schema)) as connection, translated(path):
        connection.execute("PRAGMA secure_delete = ON")
        connection.execute("PRAGMA temp_store = MEMORY")
        connection.execute("CREATE TEMP TABLE doomed (offset INTEGER PRIMARY KEY)")
        connection.executemany("INSERT INTO doomed VALUES (?)", ((offset,) for offset in offsets))
        connection.execute("BEGIN IMMEDIATE")
        yield connection
        connection.execute("COMMIT")
        (busy, _, _) = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        if busy:
            raise PayloadLogError(f"{path}: another process is reading it, so not all could be erased; try again")


def indexed(derived: sqlite3.Connection, service: Service) -> list[tuple[int, int | None, int | None]]:
    """Return the payloads of a service with a half in the table `doomed`: number, both offsets."""
    return derived.execute(_PAYLOADS, service).fetchall()


def _read(path: Path) -> Plan | None:
    if not path.exists():
        return None
    with translated(path):
        text = path.read_bytes()
    try:
        namespace, name, *rest = orjson.loads(text)
        return Plan(Service(namespace, name), *rest)
    except (ValueError, TypeError) as error:
        raise PayloadLogError(f"{path}: damaged, this is no plan of an erasure") from error


def _erase_events(directory: Path, log: sqlite3.Connection, plan: Plan) -> None:
    log.execute(_EMPTY)
    log.executemany(_NEW_KEY, ((offset,) for offset in plan.untimed))
    for part in Segments(directory, log).all():
        inside = [offset for offset in plan.offsets if part.first_offset <= offset <= part.last_offset]
        if inside:
            contents = filter_segment(directory / DIRECTORY / part.file, partial(_is_kept, inside))
            note_contents(log, part, contents)


def _is_kept(erased: Sequence[int], table: Any) -> Any:  # noqa: ANN401 - tables and arrays of pyarrow
    return ~np.isin(table.column("offset").to_numpy(), erased)


def _erase_letters(path: Path, service: Service, identity: str) -> None:
    if not path.exists():
        return
    with translated(path):
        lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if not _is_letter_of(line, service, identity)]
    if len(kept) < len(lines):
        replace_file(path, b"".join(kept))


def _is_letter_of(line: bytes, service: Service, identity: str) -> bool:
    try:
        attributes = orjson.loads(line)["attributes"]
    except (orjson.JSONDecodeError, KeyError):
        return False  # the last line of a file whose writer was killed
    name = attributes.get("inferenceservicename", service.name)
    return bool(attributes.get("id") == identity and name == service.name)
