"""A closed part of the journal as one Parquet file (zstd): an event a row, in order of the log, bodies as they came.

The columns stand in `COLUMNS`. pandas, DuckDB, Polars and Spark read the files as they are, several by `*.parquet`:

    SELECT name, date_trunc('minute', time), count(*) FROM 'segments/*.parquet' WHERE role = 'request' GROUP BY ALL

A file appears under its name when it is complete and on the disk, and is replaced at once where rows leave it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson

from inferwatch.errors import MissingExtra, PayloadLogError
from inferwatch.events import CloudEvent
from inferwatch.payload_log.database import sync_directory, translated
from inferwatch.payload_log.entry import Entry

if TYPE_CHECKING:
    import pyarrow as pa

COLUMNS = {
    "offset": "int64",
    "key": "binary",
    "time": "timestamp",
    "nanoseconds": "int16",
    "arrival_ns": "int64",
    "namespace": "category",
    "name": "category",
    "component": "category",
    "endpoint": "category",
    "role": "category",
    "id": "string",
    "source": "category",
    "type": "category",
    "sent": "string",
    "content_type": "category",
    "truncated": "bool",
    "extensions": "string",
    "data": "binary",
}
"""`time`: the event's in microseconds, or its arrival where that is absent or too far ahead; `nanoseconds`: what is
beyond them, 0 to 999. `sent`: empty where the event said that time, null where it said none, else what it said, in
nanoseconds since 1970. `extensions`: every further attribute, as JSON."""

COMPRESSION = "zstd"

GROUP_ROWS = 16_384
GROUP_BYTES = 8 * 1024 * 1024
"""A row group is read as a whole, so it is bounded in both; a scan costs twice as much in groups of a quarter."""

_RISING = ("offset", "time", "arrival_ns")
"""Columns that are kept as differences, which a scan reads in half the time."""

_CACHED_GROUPS = 4


@dataclass(frozen=True, slots=True)
class Contents:
    """How many rows a file holds, and the earliest time among them."""

    rows: int
    first_ns: int


def can_seal() -> bool:
    """Say whether what reads and writes Parquet is installed."""
    return find_spec("pyarrow") is not None


def require_store() -> None:
    """Raise `MissingExtra` where it is not."""
    if not can_seal():
        raise MissingExtra("a sealed payload log", "store")


def write_segment(path: Path, entries: Iterable[Entry]) -> Contents:
    """Write the entries to a file of that name and return what is in it; no file where there are none."""
    return _replace(path, (_table(group) for group in _groups(entries)))


def filter_segment(path: Path, keep: Callable[[pa.Table], Any]) -> Contents:
    """Leave the rows of a file for which `keep` gives true (a Boolean array a table), and return what is left.

    A file that loses nothing, or everything, stays as it is: the latter is for the caller to remove.
    """
    with Segment(path) as segment:
        tables = [segment.table(number) for number in range(segment.groups)]
    kept = [table.filter(keep(table)) for table in tables]
    if sum(table.num_rows for table in kept) == sum(table.num_rows for table in tables):
        return _contents(tables)
    return _replace(path, (table for table in kept if table.num_rows))


class Segment:
    """An open file. One thread at a time; raises `PayloadLogError` where it is gone or damaged."""

    def __init__(self, path: Path) -> None:
        require_store()
        import pyarrow.parquet as pq

        self._path = path
        with _readable(path):
            self.inode = path.stat().st_ino
            self._file = pq.ParquetFile(path)
            statistics = [self._file.metadata.row_group(n).column(0).statistics for n in range(self.groups)]
            self._ends = np.array([statistic.max for statistic in statistics], dtype=np.int64)
        self._cache: dict[int, tuple[pa.Table, Any]] = {}

    @property
    def groups(self) -> int:
        """The number of row groups."""
        return int(self._file.metadata.num_row_groups)

    def table(self, number: int) -> pa.Table:
        """Return a row group."""
        return self._group(number)[0]

    def get(self, offsets: Sequence[int]) -> list[Entry]:
        """Return the entries at these offsets, which ascend, as far as the file has them."""
        found: list[Entry] = []
        wanted = np.array(offsets, dtype=np.int64)
        places = np.searchsorted(self._ends, wanted)
        for number in np.unique(places[places < self.groups]).tolist():
            table, here = self._group(number)
            found += _entries(table.take(np.flatnonzero(np.isin(here, wanted[places == number]))))
        return found

    def read(self, after: int, limit: int, max_bytes: int) -> list[Entry]:
        """Return up to `limit` entries behind an offset, ending with the one that brings the sum to `max_bytes`."""
        entries: list[Entry] = []
        size_bytes = 0
        for number in range(int(np.searchsorted(self._ends, after, side="right")), self.groups):
            table, offsets = self._group(number)
            row = int(np.searchsorted(offsets, after, side="right"))
            for entry in _entries(table.slice(row, limit - len(entries))):
                entries.append(entry)
                size_bytes += len(entry.event.data)
                if size_bytes >= max_bytes:
                    return entries
            if len(entries) == limit:
                break
        return entries

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def __enter__(self) -> Segment:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _group(self, number: int) -> tuple[pa.Table, Any]:
        if number not in self._cache:
            while len(self._cache) >= _CACHED_GROUPS:
                del self._cache[next(iter(self._cache))]
            with _readable(self._path):
                table = self._file.read_row_group(number)
            self._cache[number] = table, table.column("offset").to_numpy()
        return self._cache[number]


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Raise `PayloadLogError`, which names the file, in place of what pyarrow raises for a damaged one."""
    from pyarrow import ArrowException

    with translated(path):
        try:
            yield
        except ArrowException as error:
            raise PayloadLogError(f"{path}: damaged, {' '.join(str(error).split())}") from error


def _schema() -> pa.Schema:
    import pyarrow as pa

    kinds = {
        "int64": pa.int64(),
        "binary": pa.binary(),
        "timestamp": pa.timestamp("us", "UTC"),
        "int16": pa.int16(),
        "category": pa.dictionary(pa.int32(), pa.string()),
        "string": pa.string(),
        "bool": pa.bool_(),
    }
    return pa.schema([(name, kinds[kind]) for name, kind in COLUMNS.items()])


def _replace(path: Path, tables: Iterable[pa.Table]) -> Contents:
    """Write the tables as row groups of a file that takes its name when it is on the disk."""
    require_store()
    import pyarrow.parquet as pq

    draft = path.with_name(f"{path.name}.new")
    written: list[Contents] = []
    categories = [name for name, kind in COLUMNS.items() if kind == "category"]
    try:
        with _readable(path):
            writer: Any = None
            for table in tables:
                if writer is None:
                    writer = pq.ParquetWriter(
                        draft,
                        _schema(),
                        compression=COMPRESSION,
                        use_dictionary=categories,
                        column_encoding=dict.fromkeys(_RISING, "DELTA_BINARY_PACKED"),
                        write_statistics=["offset", "time", *categories],
                    )
                writer.write_table(table, row_group_size=table.num_rows)
                written.append(_contents([table]))
            if writer is not None:
                writer.close()
                _sync(draft)
                draft.replace(path)
                sync_directory(path.parent)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise
    return Contents(sum(part.rows for part in written), min((part.first_ns for part in written), default=0))


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _contents(tables: Sequence[pa.Table]) -> Contents:
    earliest = [int(times_of(table).min()) for table in tables if table.num_rows]
    return Contents(sum(table.num_rows for table in tables), min(earliest, default=0))


def _groups(entries: Iterable[Entry]) -> Iterator[list[Entry]]:
    group: list[Entry] = []
    size_bytes = 0
    for entry in entries:
        group.append(entry)
        size_bytes += len(entry.event.data)
        if len(group) == GROUP_ROWS or size_bytes >= GROUP_BYTES:
            yield group
            group, size_bytes = [], 0
    if group:
        yield group


def _table(entries: Sequence[Entry]) -> pa.Table:
    import pyarrow as pa

    return pa.table(dict(zip(COLUMNS, zip(*map(_row, entries), strict=True), strict=True)), schema=_schema())


def _row(entry: Entry) -> tuple[Any, ...]:
    event = entry.event
    sent = None if event.time_ns is None else "" if event.time_ns == entry.time_ns else str(event.time_ns)
    return (
        entry.offset,
        entry.key,
        *divmod(entry.time_ns, 1000),
        entry.arrival_ns,
        *event.stream,
        None if event.role is None else event.role.name.lower(),
        event.id,
        event.source,
        event.type,
        sent,
        event.content_type,
        event.truncated,
        orjson.dumps(dict(event.extensions)).decode(),
        event.data,
    )


def _entries(table: pa.Table) -> list[Entry]:
    whole = table.cast(_plain_schema())
    return [_entry(*row) for row in zip(*(column.to_pylist() for column in whole.columns), strict=True)]


def _plain_schema() -> pa.Schema:
    """Return the columns with the time as a number."""
    import pyarrow as pa

    schema = _schema()
    return schema.set(schema.get_field_index("time"), pa.field("time", pa.int64()))


def _entry(offset: int, key: bytes, *rest: Any) -> Entry:  # noqa: ANN401 - in the order of COLUMNS
    time_us, nanoseconds, arrival_ns, _, _, _, _, _, identity, source, kind, sent, *body = rest
    content_type, truncated, extensions, data = body
    time_ns = time_us * 1000 + nanoseconds
    event = CloudEvent(
        id=identity,
        source=source,
        type=kind,
        time_ns=None if sent is None else int(sent) if sent else time_ns,
        content_type=content_type,
        extensions=orjson.loads(extensions),
        data=data,
        truncated=truncated,
    )
    return Entry(offset, key, arrival_ns, time_ns, event)


def times_of(table: pa.Table) -> Any:  # noqa: ANN401 - a NumPy array of int64
    """Return the time of every row in nanoseconds since 1970."""
    return table.column("time").cast("int64").to_numpy() * 1000 + table.column("nanoseconds").to_numpy()
