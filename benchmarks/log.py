"""The payload log: events sealed a second, bytes an event before and after, and a scan by model and minute.

Sealing is timed as `up` does it, with the rows emptied afterwards in steps of their own; the peer of its size is the
database that the events came from. The scan is put to DuckDB on the sealed files, and on a table of DuckDB's own that
holds nothing but the three columns it asks for, and to SQLite on the database that the events came from. A minute is a
number: `date_trunc` of a time with a zone takes DuckDB several times as long as all the rest. Events are those of
KServe's agent with a JSON body of random numbers, over ten models and a day.
"""

from __future__ import annotations

import platform
import sqlite3
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import duckdb
import numpy as np
import orjson

from inferwatch.clock import NS_PER_S, ManualClock
from inferwatch.events import REQUEST_TYPE, CloudEvent
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.sealing import Sealer

SIZES = {"100 B": (100_000, 4), "1 KiB": (50_000, 53), "10 KiB": (10_000, 540)}
"""Events, and numbers in a body (19 bytes each)."""

SCANNED = 1_000_000
BATCH = 1000
START_NS = 1_795_262_400 * NS_PER_S
DAY_NS = 86_400 * NS_PER_S
LATER = ManualClock(START_NS + DAY_NS)

SCAN = 'SELECT name, epoch_us(time) // 60000000, count(*), max("offset") FROM {source} GROUP BY ALL'
TABLE = "CREATE TABLE scanned AS SELECT name, time, \"offset\" FROM '{path}'"
SQLITE = """
    SELECT json_extract(CAST(head AS TEXT), '$[6].inferenceservicename'),
    CAST(json_extract(CAST(head AS TEXT), '$[3]') AS INTEGER) / 60000000000, count(*), max(offset)
    FROM events GROUP BY 1, 2
"""


def events(count: int, numbers: int) -> Iterator[list[CloudEvent]]:
    """Yield batches of events, evenly over a day."""
    random = np.random.default_rng(5)
    for first in range(0, count, BATCH):
        bodies = random.random((min(BATCH, count - first), numbers))
        yield [
            CloudEvent(
                id=random.bytes(16).hex(),
                source="http://localhost:9081/",
                type=REQUEST_TYPE,
                time_ns=START_NS + (first + row) * DAY_NS // count,
                content_type="application/json",
                extensions={"namespace": "default", "inferenceservicename": f"model-{(first + row) % 10}"},
                data=orjson.dumps({"instances": [body]}, option=orjson.OPT_SERIALIZE_NUMPY),
            )
            for row, body in enumerate(bodies)
        ]


def fill(journal: Journal, count: int, numbers: int) -> float:
    """Append the events; seconds that this took, without making them."""
    taken = 0.0
    for batch in events(count, numbers):
        began = time.perf_counter()
        journal.append(batch).result()
        taken += time.perf_counter() - began
    return taken


def seal(journal: Journal) -> float:
    """Seal everything; seconds that this took."""
    clock = ManualClock(START_NS)
    sealer = Sealer(journal, segment_bytes=64 << 20, segment_age_s=3600, retention_s=None, clock=clock)
    began = time.perf_counter()
    while sealer.seal(everything=True) is not None:
        pass
    return time.perf_counter() - began


def database_bytes(directory: Path) -> int:
    """Return the bytes of pages in use, which later events can have when rows are emptied."""
    with sqlite3.connect(directory / "log.db") as log:
        pages, free, size = (
            log.execute(f"PRAGMA {name}").fetchone()[0] for name in ("page_count", "freelist_count", "page_size")
        )
    return int((pages - free) * size)


def timed(question: Callable[[], object]) -> tuple[float, float, float]:
    """Return the lowest, the median and the highest milliseconds of seven runs."""
    took = []
    for _ in range(7):
        began = time.perf_counter()
        question()
        took.append(1e3 * (time.perf_counter() - began))
    took.sort()
    return took[0], took[3], took[-1]


def report_sealing() -> None:
    """Print a row a size of body."""
    print("| body | events | appended/s | sealed/s | bytes an event: database | sealed: file | + emptied row |")
    print("|---|---|---|---|---|---|---|")
    for name, (count, numbers) in SIZES.items():
        with tempfile.TemporaryDirectory() as folder, Journal.open(folder, clock=LATER) as journal:
            directory = Path(folder)
            appended_s = fill(journal, count, numbers)
            before = database_bytes(directory) / count
            sealed_s = seal(journal)
            files = sum(path.stat().st_size for path in (directory / "segments").iterdir()) / count
            left = database_bytes(directory) / count
        print(
            f"| {name} | {count:,} | {count / appended_s:,.0f} | {count / sealed_s:,.0f} | {before:,.0f} |"
            f" {files:,.0f} | {left:,.0f} |"
        )


def report_scan() -> None:
    """Print how long one question about every event takes, of the files and of the database."""
    with tempfile.TemporaryDirectory() as folder:
        with Journal.open(folder, clock=LATER) as journal:
            fill(journal, SCANNED, 4)
            with sqlite3.connect(Path(folder) / "log.db") as log:
                began = time.perf_counter()
                groups = len(log.execute(SQLITE).fetchall())
                database_ms = 1e3 * (time.perf_counter() - began)
            seal(journal)
        connection = duckdb.connect(config={"threads": 1})
        files = f"{folder}/segments/*.parquet"
        connection.execute(TABLE.format(path=files))
        sources = {"the sealed files": f"'{files}'", "a table of its own": "scanned"}
        took = {}
        for name, source in sources.items():
            query = SCAN.format(source=source)
            assert len(connection.execute(query).fetchall()) == groups
            took[f"DuckDB, one thread, on {name}"] = timed(partial(connection.execute, query))
    print(f"\nCount by model and minute over {SCANNED:,} events, {groups:,} groups:\n")
    print("| | ms (lowest to highest) | SQLite's time / its own |")
    print("|---|---|---|")
    for name, (low, middle, high) in took.items():
        print(f"| {name} | {middle:,.0f} ({low:,.0f} to {high:,.0f}) | {database_ms / middle:.0f} |")
    print(f"| SQLite, on the database before | {database_ms:,.0f} | 1 |")


def main() -> None:
    """Print both tables."""
    print(f"{platform.machine()}, Python {platform.python_version()}, duckdb {duckdb.__version__}\n")
    report_sealing()
    report_scan()


if __name__ == "__main__":
    main()
