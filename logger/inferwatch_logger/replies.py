"""What the API answers: the shapes of its JSON, as `/openapi.json` documents them."""

from __future__ import annotations

from typing import Any, Generic, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from inferwatch.rows import Kind

Item = TypeVar("Item")

ModelState = Literal["ok", "alarm", "waiting", "stale", "silent"]
Outcome = Literal["paired", "request_only", "response_only"]


class Reply(BaseModel):
    """A JSON object of the API."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)


class Page(Reply, Generic[Item]):
    """A part of a list."""

    items: list[Item]
    next: str | None
    """The `cursor` of the next part; null at the end."""


class Fault(Reply):
    """A request that could not be answered."""

    error: str
    """What was wrong, in one sentence."""


class ModelItem(Reply):
    """A served model, over all its components and endpoints."""

    namespace: str
    name: str
    state: ModelState
    """`alarm`: a detector is in alarm; `silent`: no event for an hour; `ok`: at least one has judged; `stale`: those
    that have, did so a day before the newest event; `waiting`: not enough rows yet."""
    events: int
    """Stored events."""
    rows: int
    """Rows of stored requests."""
    last_event_time: str | None
    """RFC 3339; null before the first event."""
    alarms: int
    """Detectors in alarm at present."""


class FeatureItem(Reply):
    """An input of a model, as the reference has it."""

    name: str
    kind: Kind
    categories: list[str]
    """Of a categorical feature, in the order of their codes."""


class ReferenceItem(Reply):
    """The data that live traffic is compared with."""

    id: str
    """The hash of its content."""
    rows: int
    created: str
    """RFC 3339."""
    autocorrelation: float | None
    """The largest lag-1 autocorrelation of a feature; null where the rows are not known to be in the order of time."""


class DetectorItem(Reply):
    """Where a detector stands."""

    name: str
    kind: str
    method: str
    endpoint: str
    component: str
    state: ModelState
    windowed: bool
    """Whether windows are judged, or single rows."""
    window_rows: int | None
    """Rows that are judged together; null for a detector of single rows, and where time alone closes a window."""
    needs_rows: int | None
    """Rows missing for the next verdict; null where every row gets one, or time decides."""
    last_run: str | None
    """The event time of the last judged row, RFC 3339."""
    score: float | None
    """The newest window's; above `threshold` is an alarm."""
    threshold: float | None
    windows: int
    """Runs so far."""
    scored: int
    """Rows judged so far."""
    flagged: int
    """Single rows that fired so far."""
    failures: int
    """Runs that failed."""
    late: int
    """Rows that came when their window was closed, and are judged by none."""
    unfit: int
    """Rows of another width than the reference's, or of none of its columns, which are judged by none."""
    notes: list[str]


class Unpaired(Reply):
    """Halves of payloads whose other half did not come in time."""

    requests: int
    responses: int


class ModelDetail(ModelItem):
    """A served model with everything that is watched about it."""

    features: list[FeatureItem]
    reference: ReferenceItem | None
    detectors: list[DetectorItem]
    unpaired: Unpaired
    notes: list[str]
    """What a person should know about it."""


class PayloadItem(Reply):
    """One inference: a request, a response, or both."""

    key: str
    """Ours, unique and URL-safe."""
    id: str
    """The id of the events."""
    namespace: str
    name: str
    component: str
    endpoint: str
    request_time: str | None
    response_time: str | None
    outcome: Outcome
    protocol: str
    rows: int
    status: int | None
    """The HTTP status of the response, where the events tell."""
    truncated: bool
    """A body was larger than is kept."""
    excluded: str | None
    """Why it is not judged."""
    fault: str | None
    """Why a body could not be decoded."""
    request_id: str | None
    """The request's `X-Request-Id`, where it is logged; the steps of a graph share it."""


class Half(Reply):
    """An event as it came."""

    attributes: dict[str, str]
    content_type: str | None
    body: Any
    """The JSON, or `{"base64": ...}` where the bytes are none."""


class Decoded(Reply):
    """The rows of a payload."""

    columns: list[str]
    """The request's, then the response's."""
    rows: list[list[Any]]
    """One list an instance."""


class FeatureFindingItem(Reply):
    """What a finding says about one feature."""

    name: str
    score: float | None
    statistic: float | None
    p_value: float | None
    effect: float | None
    """Shift of the mean in reference standard deviations; of categories, the total variation."""
    effect_low: float | None
    effect_high: float | None
    fired: bool


class WindowItem(Reply):
    """The rows that were judged together, by the event times of the first and the last."""

    from_: str = Field(alias="from")
    to: str
    rows: int


class FindingItem(Reply):
    """A verdict."""

    id: str
    time: str
    namespace: str
    name: str
    endpoint: str
    version: str | None
    component: str
    segment: str | None
    detector: str
    kind: str
    method: str
    fired: bool
    """`score > threshold`."""
    score: float | None
    threshold: float | None
    p_value: float | None
    statistic: float | None
    features: list[FeatureFindingItem]
    """Worst first."""
    window: WindowItem | None
    payload_id: str | None
    key: str | None
    row: int | None
    assumption: str
    why: str


class ExplanationItem(BaseModel):
    """What an explainer said of one row, under the names of the native reply; the newest explanations come first."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    id: str
    """The id of its event."""
    time: str
    row: int | None
    """The place of the explained row in the payload; null where none of its rows equals it."""
    method: str


class PayloadDetail(PayloadItem):
    """One inference with its bodies."""

    steps: list[PayloadItem]
    """What other models, components or endpoints were asked under its id or request id about then, oldest first."""

    request: Half | None
    response: Half | None
    decoded: Decoded | None
    """Null where no half could be decoded."""
    findings: list[FindingItem]
    explanations: list[ExplanationItem]
    """Those that were asked for under its id or request id, or of a row equal to one of its own."""


class IngestLedger(Reply):
    """received = stored + duplicate + all ignored + all malformed + all refused, at every moment."""

    received: int
    stored: int
    duplicate: int
    ignored: dict[str, int]
    """By event type."""
    malformed: dict[str, int]
    """By reason."""
    refused: dict[str, int]
    """By reason."""
    clamped: int
    """Stored events whose time was too far ahead of their arrival."""


class CaptureLedger(Reply):
    """captured = delivered + spooled + in_flight + all dropped, of the events that this process captured itself."""

    captured: int = 0
    delivered: int = 0
    spooled: int = 0
    """Waiting in the queue."""
    in_flight: int = 0
    """Sent and not acknowledged."""
    dropped: dict[str, int] = {}
    """By reason."""


class LedgerReply(Reply):
    """The account of every event."""

    ingest: IngestLedger
    capture: CaptureLedger = CaptureLedger()
    """All zero where the process takes events and captures none."""
