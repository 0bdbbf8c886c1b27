"""Plain tables as inferences: a row each, with columns `id` and `time` where there are any.

Columns named `prediction` or `prediction_...` are the response; all others are the request. Without `id` a row is
called by its file and number; without `time` the file's time stands for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from inferwatch.clock import parse_time
from inferwatch.errors import Fault, InvalidEvent
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, CloudEvent, Service
from inferwatch.rows import Rows

_TIMES: Final = ("time", "timestamp", "request_time")


def events(table: Rows, service: Service, name: str, file_time_ns: int) -> Iterator[list[CloudEvent] | InvalidEvent]:
    """Yield the halves of each row of the table of that name, or its fault."""
    cells = {column.name: _cells(column.values) for column in table.columns}
    identities = cells.pop("id", None)
    times = next((cells.pop(given) for given in _TIMES if given in cells), None)
    outputs = {column: cells.pop(column) for column in list(cells) if _is_output(column)}
    for row in range(table.count):
        identity = f"{name}-{row}" if identities is None else str(identities[row])
        try:
            time_ns = file_time_ns + row if times is None else _time(times[row])
        except ValueError as error:
            yield InvalidEvent([Fault("time", f"of row {row}: {error}")], "bad_time")
            continue
        halves = [(REQUEST_TYPE, "instances", cells), (RESPONSE_TYPE, "predictions", outputs)]
        yield [
            CloudEvent(
                id=identity,
                source="import",
                type=kind,
                time_ns=time_ns,
                content_type="application/json",
                extensions={"namespace": service.namespace, "inferenceservicename": service.name},
                data=orjson.dumps({field: [{column: values[row] for column, values in columns.items()}]}),
            )
            for kind, field, columns in halves
            if columns
        ]


def _is_output(name: str) -> bool:
    return name == "prediction" or name.startswith("prediction_")


def _cells(values: NDArray[Any]) -> list[Any]:
    cells = values.tolist()
    return [None if isinstance(cell, float) and np.isnan(cell) else cell for cell in cells]


def _time(cell: Any) -> int:  # noqa: ANN401 - any cell of any table
    """Return the instant; a time without a zone is one in UTC, a date its beginning."""
    text = str(cell)
    if len(text) == len("2026-11-21"):
        text += "T00:00:00"
    try:
        return parse_time(text)
    except ValueError:
        return parse_time(f"{text}Z")
