"""The payload log as DataFrames. `inferwatch.frames` is the door to it that needs no pandas to be imported."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from inferwatch.clock import format_time
from inferwatch.events import Service
from inferwatch.explanation import LoggedExplanation
from inferwatch.explanation_event import ExplanationEvent
from inferwatch.finding import FeatureFinding
from inferwatch.payload_log.entry import Entry
from inferwatch.payload_log.explanations import list_explanations
from inferwatch.payload_log.feature_names import feature_names
from inferwatch.payload_log.findings import FindingFilter, list_findings
from inferwatch.payload_log.index import PayloadFilter, newest_payloads
from inferwatch.payload_log.joiner import Payload
from inferwatch.payload_log.reader import JournalReader
from inferwatch.payload_log.views import StateReader, column_names, rows_of
from inferwatch.rows import Column, Rows

FINDING_COLUMNS = (
    *("id", "time", "namespace", "name", "endpoint", "version", "component", "segment", "detector", "kind", "method"),
    *("fired", "score", "threshold", "p_value", "statistic", "features", "window", "payload_id", "key", "row"),
    *("assumption", "why"),
)
PAYLOAD_COLUMNS = (
    *("id", "key", "row", "request_time", "response_time", "component", "endpoint", "outcome", "status", "excluded"),
    "request_id",
)
EXPLANATION_COLUMNS = ("id", "time", "row", "payload_id", "request_id", "method", "target", "prediction", "explanation")
_FEATURE_FIELDS = tuple(field.name for field in fields(FeatureFinding))
_NAME_OF = {name: "feature" if name == "name" else f"feature_{name}" for name in _FEATURE_FIELDS}
FLAT_COLUMNS = (
    *(name for name in FINDING_COLUMNS if name not in ("features", "window")),
    *("window_from", "window_to", "window_rows"),
    *_NAME_OF.values(),
)

_TIME = "datetime64[ns, UTC]"
_PAYLOAD_TYPES = {
    **dict.fromkeys(PAYLOAD_COLUMNS, "string"),
    "row": "int64",
    "request_time": _TIME,
    "response_time": _TIME,
    "status": "Int64",
}
_FINDING_TYPES = {
    **dict.fromkeys(FINDING_COLUMNS, "string"),
    "time": _TIME,
    "fired": "bool",
    "row": "Int64",
    "features": "object",
    "window": "object",
    **dict.fromkeys(("score", "threshold", "p_value", "statistic"), "float64"),
}
_EXPLANATION_TYPES = {
    **dict.fromkeys(("id", "payload_id", "request_id", "method"), "string"),
    "time": _TIME,
    "row": "Int64",
    "prediction": "float64",
    **dict.fromkeys(("target", "explanation"), "object"),
}
_FLAT_TYPES = {
    **_FINDING_TYPES,
    **dict.fromkeys(_NAME_OF.values(), "float64"),
    "window_from": _TIME,
    "window_to": _TIME,
    "window_rows": "Int64",
    "feature": "string",
    "feature_fired": "boolean",
}

_PAGE = 1000
_EXACT = 2**53
_NO_TIME = -(2**63)
_NOTHING = Rows((), 0)


@dataclass(frozen=True, slots=True)
class _Instances:
    """The rows of one payload: both halves have as many."""

    position: int
    payload: Payload
    request: Rows
    response: Rows


def payload_frame(
    directory: Path, wanted: PayloadFilter, features: Sequence[str] | None = None, *, tensors: bool = False
) -> pd.DataFrame:
    """Return one row an instance of the wanted payloads, in the order of the log, as `inferwatch.payloads` documents.

    `features` name the columns of requests that name none; where None, as the model's configuration did last.
    `tensors` leaves arrays whole. Raises `PayloadLogError`. Memory is linear in the rows.
    """
    with StateReader(directory) as state, state.read() as connection:
        found = list(newest_payloads(connection, wanted))[::-1]
        if features is None:
            features = feature_names(connection, wanted.service) if wanted.service else ()
    groups: dict[tuple[tuple[str, ...], ...], list[_Instances]] = {}
    with JournalReader(directory) as events:
        for position, (payload, asked, answered) in enumerate(_with_halves(events, found)):
            instances = _instances(position, payload, _half(asked, tensors), _half(answered, tensors), features)
            if instances.request.count:
                groups.setdefault((instances.request.names, instances.response.names), []).append(instances)
    if not groups:
        return _typed(pd.DataFrame(columns=list(PAYLOAD_COLUMNS)), _PAYLOAD_TYPES)
    frame = pd.concat([_frame(group) for group in groups.values()])
    return _typed(_inferred(frame.sort_index(kind="stable").reset_index(drop=True)), _PAYLOAD_TYPES)


def finding_frame(directory: Path, wanted: FindingFilter, *, flat: bool = False) -> pd.DataFrame:
    """Return one row a wanted finding, or where `flat` a feature of it, as `inferwatch.findings` documents.

    Raises `PayloadLogError`.
    """
    with StateReader(directory) as state, state.read() as connection:
        found = [finding for _, finding in list_findings(connection, wanted, limit=-1)][::-1]
    if flat:
        cells = [line for finding in found for line in _flat(finding)]
        return _typed(pd.DataFrame(cells, columns=list(FLAT_COLUMNS)), _FLAT_TYPES)
    for finding in found:
        if (window := finding["window"]) is not None:
            window.update({end: pd.Timestamp(window[end]) for end in ("from", "to")})
    return _typed(pd.DataFrame(found, columns=list(FINDING_COLUMNS)), _FINDING_TYPES)


def explanation_frame(
    directory: Path, service: Service, since_ns: int | None = None, until_ns: int | None = None
) -> pd.DataFrame:
    """Return one row an explained row of a service, as `inferwatch.explanations` documents.

    Raises `PayloadLogError`.
    """
    with StateReader(directory) as state, state.read() as connection:
        offsets = list_explanations(connection, service, since_ns, until_ns)
    cells: list[dict[str, Any]] = []
    with JournalReader(directory) as events:
        for first in range(0, len(offsets), _PAGE):
            told = [ExplanationEvent.of(entry.event) for entry in events.get_all(offsets[first : first + _PAGE])]
            cells += [cell for each in told if each is not None for cell in _explained(each)]
    return _typed(pd.DataFrame(cells, columns=list(EXPLANATION_COLUMNS), dtype=object), _EXPLANATION_TYPES)


def _explained(told: ExplanationEvent) -> Iterator[dict[str, Any]]:
    about = {
        "id": told.id,
        "time": format_time(told.time_ns),
        "payload_id": told.payload_id,
        "request_id": told.request_id,
    }
    of_all = told.marks and len(told.marks) != len(told.entries)
    for row, entry in enumerate(told.entries):
        yield {**entry, **about, "row": None if of_all else row, "explanation": LoggedExplanation(entry)}


def _flat(finding: dict[str, Any]) -> Iterator[dict[str, Any]]:
    window = {f"window_{name}": value for name, value in (finding["window"] or {}).items()}
    for feature in finding["features"] or [{}]:
        yield finding | window | {_NAME_OF[name]: feature[name] for name in _FEATURE_FIELDS if name in feature}


def _typed(frame: pd.DataFrame, types: Mapping[str, str]) -> pd.DataFrame:
    """Return the frame with the named columns in their type, whatever it holds."""
    there = {name: kind for name, kind in types.items() if name in frame}
    for name, kind in there.items():
        if kind == _TIME:
            frame[name] = pd.to_datetime(frame[name], utc=True, format="ISO8601")
    return frame.astype(there)


def _with_halves(
    events: JournalReader, payloads: Sequence[Payload]
) -> Iterator[tuple[Payload, Entry | None, Entry | None]]:
    """Yield the payloads with their request and their response; many are read at once, which sealed files ask for."""
    for first in range(0, len(payloads), _PAGE):
        page = payloads[first : first + _PAGE]
        offsets = [offset for payload in page for offset in (payload.request_offset, payload.response_offset)]
        found = events.get_all(offset for offset in offsets if offset is not None)
        entries: dict[int | None, Entry] = {entry.offset: entry for entry in found}
        for payload in page:
            yield payload, entries.get(payload.request_offset), entries.get(payload.response_offset)


def _half(entry: Entry | None, tensors: bool) -> Rows | None:
    rows = rows_of(entry)
    return rows.whole() if rows is not None and tensors else rows


def _instances(
    position: int, payload: Payload, asked: Rows | None, answered: Rows | None, features: Sequence[str]
) -> _Instances:
    if asked is not None and features:
        named = zip(column_names(asked, features), asked.columns, strict=True)
        asked = replace(asked, columns=tuple(Column(name, column.values) for name, column in named))
    asked, answered = _exact(asked or _NOTHING), _exact(answered or _NOTHING)
    count = max(asked.count, answered.count)
    return _Instances(position, payload, _padded(asked, count), _padded(answered, count))


def _exact(rows: Rows) -> Rows:
    """Return the rows with integers that a float cannot hold as objects, so that no missing value rounds them."""
    wide = [_is_wide(column.values) for column in rows.columns]
    if not any(wide):
        return rows
    columns = [
        Column(column.name, column.values.astype(object)) if is_wide else column
        for column, is_wide in zip(rows.columns, wide, strict=True)
    ]
    return replace(rows, columns=tuple(columns))


def _inferred(frame: pd.DataFrame) -> pd.DataFrame:
    """Return columns of objects as what they hold, but for integers that a float beside a missing value would round."""
    inferred = frame.infer_objects()
    wide = [
        name
        for name in frame.columns
        if frame[name].dtype == object
        and inferred[name].dtype.kind == "f"
        and any(type(cell) is int and abs(cell) > _EXACT for cell in frame[name])
    ]
    inferred[wide] = frame[wide]
    return inferred


def _is_wide(values: NDArray[Any]) -> bool:
    return values.dtype.kind in "iu" and bool(np.any((values > _EXACT) | (values < -_EXACT)))


def _padded(rows: Rows, count: int) -> Rows:
    """Return the rows with missing values at the end, up to `count`."""
    if rows.count == count:
        return rows
    blank = np.full(count - rows.count, None, dtype=object)
    padded = tuple(Column(column.name, np.concatenate([column.values, blank])) for column in rows.columns)
    return Rows(padded, count, rows.named)


def _frame(group: Sequence[_Instances]) -> pd.DataFrame:
    """Return the rows of payloads whose halves have the same columns; the index says which payload each is of."""
    counts = np.array([instances.request.count for instances in group])
    columns = _about([instances.payload for instances in group], counts)
    for half in ("request", "response"):
        for column in Rows.concat([getattr(instances, half) for instances in group]).columns:
            columns[_free(column.name, half, columns)] = column.values
    return pd.DataFrame(columns, index=np.repeat([instances.position for instances in group], counts))


def _about(payloads: Sequence[Payload], counts: NDArray[np.int64]) -> dict[str, Any]:
    """Return `PAYLOAD_COLUMNS`, each payload's values once a row of it."""

    def repeated(values: Sequence[Any], dtype: Any = object) -> Any:  # noqa: ANN401 - any array that pandas takes
        return pd.array(np.array(values, dtype=object), dtype=dtype).repeat(counts)

    def times(instants: Sequence[int | None]) -> pd.DatetimeIndex:
        known = np.array([_NO_TIME if instant is None else instant for instant in instants], dtype=np.int64)
        return pd.DatetimeIndex(np.repeat(known, counts).view("datetime64[ns]")).tz_localize("UTC")

    ends = np.cumsum(counts)
    return {
        "id": repeated([payload.id for payload in payloads]),
        "key": repeated([payload.key for payload in payloads]),
        "row": np.arange(ends[-1]) - np.repeat(ends - counts, counts),
        "request_time": times([payload.request_time_ns for payload in payloads]),
        "response_time": times([payload.response_time_ns for payload in payloads]),
        "component": repeated([payload.stream.component for payload in payloads]),
        "endpoint": repeated([payload.stream.endpoint for payload in payloads]),
        "outcome": repeated([payload.outcome for payload in payloads]),
        "status": repeated([payload.status for payload in payloads], "Int64"),
        "excluded": repeated([payload.excluded for payload in payloads]),
        "request_id": repeated([payload.request_id for payload in payloads]),
    }


def _free(name: str, half: str, taken: dict[str, Any]) -> str:
    """Return the name, or where a column has it already, one that says which half it is of."""
    chosen, number = name, 1
    while chosen in taken:
        chosen = f"{half}.{name}" if number == 1 else f"{half}.{name}.{number}"
        number += 1
    return chosen
