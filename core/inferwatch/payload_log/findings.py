"""The findings kept beside the payloads they are about, and the newest status of every detector."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass, fields
from typing import Any

import orjson

from inferwatch.events import Service
from inferwatch.finding import Finding
from inferwatch.status import DetectorStatus


@dataclass(frozen=True, slots=True)
class FindingFilter:
    """Which findings to list; times are the findings' own."""

    service: Service | None = None
    endpoint: str | None = None
    kind: str | None = None
    detector: str | None = None
    fired: bool | None = None
    since_ns: int | None = None
    until_ns: int | None = None
    payload_key: str | None = None

    def clauses(self) -> tuple[list[str], list[Any]]:
        """Return SQL conditions and their parameters."""
        pairs: list[tuple[str, Any]] = [
            ("namespace = ?", self.service.namespace if self.service else None),
            ("name = ?", self.service.name if self.service else None),
            ("endpoint = ?", self.endpoint),
            ("kind = ?", self.kind),
            ("detector = ?", self.detector),
            ("time_ns >= ?", self.since_ns),
            ("time_ns < ?", self.until_ns),
            ("payload_key = ?", self.payload_key),
        ]
        given = [(clause, value) for clause, value in pairs if value is not None]
        clauses, values = [clause for clause, _ in given], [value for _, value in given]
        if self.fired is not None:
            clauses.append(f"fired = {int(self.fired)}")  # spelt out, so that the partial index serves
        return clauses, values


def save_findings(connection: sqlite3.Connection, findings: Iterable[Finding]) -> None:
    """Keep the findings; one that is known by its id already stays as it is."""
    connection.executemany(
        "INSERT OR IGNORE INTO findings (id, namespace, name, endpoint, detector, kind, fired, time_ns, payload_key,"
        " document) VALUES (?,?,?,?,?,?,?,?,?,?)",
        [
            (
                finding.id,
                finding.namespace,
                finding.name,
                finding.endpoint,
                finding.detector,
                finding.kind,
                finding.fired,
                finding.time_ns,
                finding.key,
                orjson.dumps(finding.as_dict(), option=orjson.OPT_SERIALIZE_NUMPY),
            )
            for finding in findings
        ],
    )


def list_findings(
    connection: sqlite3.Connection, wanted: FindingFilter, *, before: int | None = None, limit: int = 100
) -> list[tuple[int, dict[str, Any]]]:
    """Return (number, finding as the public contract has it), newest first, below number `before`."""
    found = finding_documents(connection, wanted, before=before, limit=limit)
    return [(number, orjson.loads(document)) for number, document in found]


def finding_documents(
    connection: sqlite3.Connection, wanted: FindingFilter, *, before: int | None = None, limit: int = 100
) -> list[tuple[int, bytes]]:
    """Return what `list_findings` does, each finding as the JSON that is kept of it."""
    clauses, values = wanted.clauses()
    if before is not None:
        clauses.append("number < ?")
        values.append(before)
    where = f"WHERE {' AND '.join(clauses)}" if clauses else ""
    query = f"SELECT number, document FROM findings {where} ORDER BY number DESC LIMIT ?"  # noqa: S608 - clauses are constants
    return connection.execute(query, (*values, limit)).fetchall()


def save_statuses(connection: sqlite3.Connection, statuses: Iterable[DetectorStatus]) -> None:
    """Keep the newest status of each detector, and forget those of detectors that are no more."""
    connection.execute("DELETE FROM statuses")
    connection.executemany(
        "INSERT INTO statuses (namespace, name, endpoint, component, detector, document) VALUES (?,?,?,?,?,?)",
        [(s.namespace, s.name, s.endpoint, s.component, s.detector, status_document(s)) for s in statuses],
    )


def list_statuses(connection: sqlite3.Connection, service: Service | None = None) -> list[DetectorStatus]:
    """Return the newest status of every detector, of one service where given."""
    where, values = ("WHERE namespace = ? AND name = ?", tuple(service)) if service else ("", ())
    query = f"SELECT document FROM statuses {where} ORDER BY namespace, name, endpoint, component, detector"  # noqa: S608
    return [status_from(document) for (document,) in connection.execute(query, values)]


def status_document(status: DetectorStatus) -> bytes:
    """Return a status as JSON."""
    named = {field.name: getattr(status, field.name) for field in fields(status)}
    named["newest"] = status.newest and status.newest.as_dict()
    return orjson.dumps(named, option=orjson.OPT_SERIALIZE_NUMPY)


def status_from(document: bytes) -> DetectorStatus:
    """Return the status that `status_document` wrote."""
    named = orjson.loads(document)
    newest = named["newest"]
    return DetectorStatus(**{**named, "newest": newest and Finding.from_dict(newest), "notes": tuple(named["notes"])})
