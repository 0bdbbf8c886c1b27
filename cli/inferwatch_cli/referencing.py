"""The command `reference build`: a reference of a table, or of the requests that a payload log holds."""

from __future__ import annotations

from pathlib import Path

from inferwatch.clock import SystemClock
from inferwatch.errors import ConfigError, Fault
from inferwatch.events import Service
from inferwatch.payload_log.logged_rows import joined_rows, logged_rows
from inferwatch.payload_log.reader import JournalReader
from inferwatch.payload_log.views import StateReader
from inferwatch.reference import Reference, read_reference


def built_reference(
    source: Path | None, logged: str | None, last: int | None, data: Path | None, sample_rows: int
) -> Reference:
    """Return the reference that is asked for.

    Raises `ConfigError` for what is wrongly asked, `InvalidReference` for a table or a log without rows.
    """
    created_ns = SystemClock().now_ns()
    if (source is None) == (logged is None):
        raise ConfigError([Fault("--input", "a reference is made of either --input FILE or --logged NS/NAME")])
    if source is not None:
        if last is not None or data is not None:
            raise ConfigError([Fault("--last" if last is not None else "--data", "goes with --logged")])
        return read_reference(source, sample_rows=sample_rows, created_ns=created_ns)
    if data is None:
        raise ConfigError([Fault("--data", "is required with --logged")])
    namespace, _, name = (logged or "").partition("/")
    if not (namespace and name):
        raise ConfigError([Fault("--logged", f"{logged!r}: a model is named NS/NAME")])
    with JournalReader(data) as events, StateReader(data) as state, state.read() as connection:
        parts = logged_rows(events, connection, Service(namespace, name), last=last)
    rows = joined_rows(parts, f"{data}: {logged}")
    return Reference.build(rows, sample_rows=sample_rows, ordered=True, created_ns=created_ns)
