"""Explanations as events: what was explained, of which call, so that the payload log can show them at the payload.

An explanation belongs to a payload of its model that has the event id or the `X-Request-Id` of the call that asked for
it, or an equal row. Rows are told by a mark, a hash of their cells, so that the event holds no inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from typing import Any, Final, Self

import orjson

from inferwatch.cells import as_json
from inferwatch.clock import format_time, parse_time
from inferwatch.events import EXPLANATION_TYPE, CloudEvent, Service
from inferwatch.redaction import Redaction
from inferwatch.rows import Rows

_SOURCE: Final = "/inferwatch/explain"
_PLAIN: Final = ("method", "target", "prediction", "features", "values", "base_value", "gap", "std_error", "exact")
_SPENT: Final = ("predictor_calls", "predictor_rows", "elapsed_s", "deadline_reached")


@dataclass(frozen=True, slots=True)
class ExplanationEvent:
    """The explanations of one request: `entries` as the native reply has them, `marks` one for each explained row.

    `payload_id` and `request_id` are the `Ce-Id` and the `X-Request-Id` of the request, None where it had none.
    `cached` says that the same was answered before.
    """

    id: str
    time_ns: int
    service: Service
    entries: Sequence[Mapping[str, Any]]
    marks: Sequence[str]
    payload_id: str | None = None
    request_id: str | None = None
    cached: bool = False

    def event(self) -> CloudEvent:
        """Return the event that tells of it."""
        body = {
            "id": self.id,
            "time": format_time(self.time_ns),
            **self.service._asdict(),
            "payload_id": self.payload_id,
            "request_id": self.request_id,
            "cached": self.cached,
            "rows": list(self.marks),
            "explanations": list(self.entries),
        }
        extensions = {"inferenceservicename": self.service.name, "namespace": self.service.namespace}
        return CloudEvent(
            id=self.id,
            source=_SOURCE,
            type=EXPLANATION_TYPE,
            time_ns=self.time_ns,
            content_type="application/json",
            extensions={**extensions, "component": "predictor", "endpoint": "default"},
            data=orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY),
        )

    @classmethod
    def of(cls, event: CloudEvent) -> Self | None:
        """Return what an event tells; None where it is no explanation, or cannot be read as one."""
        if event.type != EXPLANATION_TYPE or event.truncated:
            return None
        try:
            body = orjson.loads(event.data)
            entries, marks = body["explanations"], body["rows"]
            payload_id, request_id = body.get("payload_id"), body.get("request_id")
            time_ns = parse_time(body["time"])
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
        texts = [event.id, *marks] if isinstance(marks, list) else [None]
        texts += [text for text in (payload_id, request_id) if text is not None]
        if not all(isinstance(text, str) for text in texts) or not isinstance(entries, list):
            return None
        if not all(isinstance(entry, dict) for entry in entries):
            return None
        cached = body.get("cached") is True
        return cls(event.id, time_ns, event.stream.service, entries, marks, payload_id, request_id, cached)

    def without_rows(self) -> Self:
        """Return it without whatever may quote an input: marks, rules, nearby rows, and what other libraries say."""
        entries = [{name: entry[name] for name in (*_PLAIN, *_SPENT) if name in entry} for entry in self.entries]
        return replace(self, entries=entries, marks=[])


def keepable(event: CloudEvent, redaction: Redaction) -> CloudEvent | None:
    """Return the event of an explanation as it may be kept; None for an event that is none.

    Where rules take values out of bodies, nothing is kept that could quote an input.
    """
    told = ExplanationEvent.of(event)
    if told is None:
        return None
    if redaction.searches_bodies:
        event = replace(event, data=told.without_rows().event().data)
    kept = redaction.event(event)
    return kept if ExplanationEvent.of(kept) is not None else None


def row_marks(rows: Rows, names: Sequence[str]) -> list[str]:
    """Return a mark of each row, equal for rows of equal cells under the same names, in whatever protocol or order.

    Whole numbers and floats of one value are equal; texts, numbers and booleans are not.
    """
    order = sorted(range(len(names)), key=names.__getitem__)
    head = orjson.dumps([names[place] for place in order])
    columns = [rows.columns[place].values.tolist() for place in order]
    return [
        blake2b(head + orjson.dumps([_cell(column[row]) for column in columns], default=str), digest_size=8).hexdigest()
        for row in range(rows.count)
    ]


def _cell(cell: Any) -> Any:  # noqa: ANN401 - any cell
    if isinstance(cell, bool):
        return cell
    if isinstance(cell, int | float):
        return float(cell)
    cell = as_json(cell, lambda data: data.decode("utf-8", "replace"))
    return [_cell(part) for part in cell] if isinstance(cell, list) else cell
