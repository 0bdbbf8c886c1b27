"""An answered request as the event that tells of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from uuid import uuid4

from inferwatch.events import CloudEvent, Service
from inferwatch.explanation import Explanation
from inferwatch.explanation_event import ExplanationEvent, row_marks
from inferwatch.payload_log.views import column_names
from inferwatch.rows import Schema
from inferwatch_explainers.request import ExplainRequest

Record = Callable[[CloudEvent], None]
"""Takes the event of each answered request, on the event loop; it does not wait, and does not raise."""


def as_event(
    service: Service,
    schema: Schema,
    asked: ExplainRequest,
    explanation: Explanation,
    headers: Mapping[str, str],
    *,
    cached: bool,
) -> CloudEvent:
    """Return the event of an explanation: by whose `Ce-Id` and `X-Request-Id`, of which rows, and what was said."""
    return ExplanationEvent(
        id=str(uuid4()),
        time_ns=time.time_ns(),
        service=service,
        entries=explanation.as_dicts(),
        marks=row_marks(asked.rows, column_names(asked.rows, schema.names)),
        payload_id=headers.get("ce-id") or None,
        request_id=headers.get("x-request-id") or None,
        cached=cached,
    ).event()
