"""Files of logged payloads, told apart by what they hold."""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from inferwatch.errors import Fault, InvalidEvent, InvalidImport, MissingExtra
from inferwatch.events import CloudEvent, Service
from inferwatch.importing import blob_records, data_capture, plain_tables
from inferwatch.tables import read_table

Half = CloudEvent | InvalidEvent

_JSON: Final = (".json", ".jsonl", ".ndjson")
_TABLES: Final = (".csv", ".parquet", ".npy", ".npz")
_BATCH_ROWS: Final = 256
_LONGEST_HEADER: Final = 65536


def halves(path: Path, service: Service) -> Iterator[Half]:
    """Yield the events that a file holds, as of that service, and the fault of each record that is none.

    Raises `InvalidImport` for a file that cannot be read or holds something else, `InvalidReference` for a table that
    cannot, `MissingExtra` where pyarrow is needed.
    """
    suffix = path.suffix.lower()
    if suffix not in (*_JSON, *_TABLES):
        raise InvalidImport(f"{path} has an unknown ending; read are {', '.join(sorted((*_JSON, *_TABLES)))}")
    try:
        time_ns = path.stat().st_mtime_ns
        records = _json_records(path) if suffix in _JSON else _table_records(path)
    except OSError as error:
        raise InvalidImport(f"{path} cannot be read: {error.strerror or error}") from error
    if records is None:
        return _rows(path, service, time_ns)
    csv.field_size_limit(sys.maxsize)  # a field may hold a whole body
    return _events(path, records, service, time_ns)


def _rows(path: Path, service: Service, time_ns: int) -> Iterator[Half]:
    for row in plain_tables.events(read_table(path), service, path.name, time_ns):
        if isinstance(row, InvalidEvent):
            yield row
        else:
            yield from row


def _events(path: Path, records: Iterator[Any], service: Service, time_ns: int) -> Iterator[Half]:
    for number, record in enumerate(records):
        if not isinstance(record, dict):
            yield InvalidEvent([Fault(f"record {number}", "is no object")], "bad_json")
            continue
        try:
            if data_capture.is_line(record):
                yield from data_capture.events(record, service, time_ns + number)
            elif blob_records.is_record(record):
                yield blob_records.event(record, service, time_ns + number)  # later records are later
            else:
                raise InvalidImport(f"{path} holds neither KServe's records nor SageMaker's lines")
        except InvalidEvent as invalid:
            yield invalid


def _json_records(path: Path) -> Iterator[Any]:
    """Return the records of a JSON value, or of lines of JSON. Lines that are none are no objects."""
    data = path.read_bytes()
    try:
        whole = orjson.loads(data)
    except orjson.JSONDecodeError:
        return (_parsed(line) for line in data.splitlines() if line.strip())
    return iter(whole if isinstance(whole, list) else [whole])


def _parsed(line: bytes) -> Any:  # noqa: ANN401 - any JSON
    try:
        return orjson.loads(line)
    except orjson.JSONDecodeError:
        return None


def _table_records(path: Path) -> Iterator[Mapping[str, Any]] | None:
    """Return the records of a table of records; None for a table of anything else."""
    if path.suffix.lower() == ".csv":
        with path.open("rb") as file:
            names = file.readline(_LONGEST_HEADER).decode("utf-8", "replace").strip().replace('"', "").split(",")
        return _csv_records(path) if blob_records.is_table(names) else None
    return _parquet_records(path) if path.suffix.lower() == ".parquet" else None


def _csv_records(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            yield from csv.DictReader(file)
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidImport(f"{path} cannot be read: {error}") from error


def _parquet_records(path: Path) -> Iterator[Mapping[str, Any]] | None:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise MissingExtra("reading Parquet", "store") from error
    try:
        file = parquet.ParquetFile(path)
    except ArrowException as error:
        raise InvalidImport(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not blob_records.is_table(file.schema_arrow.names):
        return None
    return (record for batch in file.iter_batches(_BATCH_ROWS) for record in batch.to_pylist())
