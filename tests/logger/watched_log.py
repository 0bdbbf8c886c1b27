"""A payload log in a directory with a judge that anybody can compute by hand, and requests without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import orjson

from inferwatch.clock import ManualClock, parse_time
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, CloudEvent, Role
from inferwatch.finding import FeatureFinding, Finding, Window
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.state import State
from inferwatch.pipeline import Item, Pipeline
from inferwatch.rows import Feature, Schema
from inferwatch.settings import DriftSettings, ModelSettings, OutlierSettings
from inferwatch.status import DetectorStatus
from inferwatch_logger.api import api_app
from inferwatch_logger.monitor import ConfiguredModel, Monitor
from inferwatch_logger.replies import ReferenceItem

START_NS = parse_time("2026-11-21T10:00:00Z")
SECOND_NS = 1_000_000_000

INCOME = ConfiguredModel(
    ModelSettings(
        name="income",
        reference=Path("income.csv"),
        detectors=(
            DriftSettings(kind="drift", method="histogram", name="inputs"),
            OutlierSettings(kind="outlier", method="mahalanobis"),
        ),
    ),
    Schema((Feature("age", "numeric"), Feature("class", "categorical", ("Private", "State-gov")))),
    ReferenceItem(id="abc", rows=5000, created="2026-11-01T00:00:00Z", autocorrelation=0.32),
)


def event(
    number: int,
    body: object,
    role: Role = Role.REQUEST,
    /,
    *,
    at_s: float | None = None,
    **extensions: str,
) -> CloudEvent:
    """Return a half of payload `id-<number>` of default/income, a second after the one before."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return CloudEvent(
        id=f"id-{number}",
        source="test",
        type=REQUEST_TYPE if role is Role.REQUEST else RESPONSE_TYPE,
        time_ns=START_NS + round((number if at_s is None else at_s) * SECOND_NS),
        content_type="application/json",
        extensions={"namespace": "default", "inferenceservicename": "income", "component": "predictor", **extensions},
        data=data,
    )


def pair(number: int, rows: Sequence[Any], predictions: Sequence[Any], **extensions: str) -> list[CloudEvent]:
    """Return both halves of a V1 inference."""
    return [
        event(number, {"instances": list(rows)}, Role.REQUEST, at_s=number, **extensions),
        event(number, {"predictions": list(predictions)}, Role.RESPONSE, at_s=number + 0.1, **extensions),
    ]


class FirstColumnJudge:
    """Judges requests by their first cell: one drift finding a request (its mean against 50), an outlier above 1000."""

    def __init__(self) -> None:
        self._statuses: dict[tuple[str, ...], DetectorStatus] = {}

    def judge(self, items: Sequence[Item], /) -> list[Finding]:
        """Return the findings of the requests with rows."""
        return [finding for item in items for finding in self._judge(item)]

    def dump(self) -> Mapping[str, bytes | None]:
        """Nothing outlasts a request."""
        return {}

    def load(self, states: Mapping[str, bytes], /) -> None:
        """Forget."""

    def statuses(self) -> list[DetectorStatus]:
        """Return the statuses so far."""
        return list(self._statuses.values())

    def _judge(self, item: Item) -> Iterator[Finding]:
        rows = item.decoded.rows
        if item.role is not Role.REQUEST or item.excluded or rows is None or not rows.columns:
            return
        cells = [cell for cell in rows.columns[0].values.tolist() if isinstance(cell, int | float) and cell == cell]
        if not cells:
            return
        mean = sum(cells) / len(cells)
        window = Window(item.time_ns, item.time_ns, len(cells))
        age = FeatureFinding("age", mean / 10, 0.5, 0.01, (mean - 40) / 10, (mean - 45) / 10, None, mean > 50)
        drift = Finding("drift", "histogram", mean / 10, 5.0, item.time_ns, window, 0.01, features=(age,), why="of age")
        drift = drift.at(item.stream, "inputs", "")
        status = DetectorStatus(*item.stream, "inputs", "drift", "histogram", window_rows=500, needs_rows=7)
        self._statuses[(*item.stream, "inputs")] = replace(
            status, state="alarm" if drift.fired else "ok", last_run_ns=item.time_ns, newest=drift, windows=1
        )
        yield drift
        for index, cell in enumerate(cells):
            if cell > 1000:
                outlier = Finding("outlier", "mahalanobis", 9.0, 3.0, item.time_ns, why="age is 31 sd away")
                outlier = replace(outlier, payload_id=item.event.id, key=item.payload_key, row=index)
                yield outlier.at(item.stream, "mahalanobis", "")


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP reply."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


class WatchedLog:
    """A journal, what is derived from it, and the application over both."""

    def __init__(self, directory: Path, models: Sequence[ConfiguredModel], pair_timeout_s: float) -> None:
        self.directory = directory
        self.clock = ManualClock(START_NS)
        self.journal = Journal.open(directory, clock=self.clock)
        self.state = State.open(directory)
        self.pipeline = Pipeline(
            self.journal, self.state, FirstColumnJudge(), pair_timeout_s=pair_timeout_s, clock=self.clock
        )
        self.monitor = Monitor(self.journal, self.state, models, pair_timeout_s=pair_timeout_s, clock=self.clock)
        self.app = api_app(self.monitor, self.journal, self.pipeline)

    def take(self, *events: CloudEvent) -> None:
        """Accept events and wait until they are derived."""
        offset = self.journal.append(events).result(timeout=30)
        assert self.pipeline.wait_for(offset, 120)

    def get(self, address: str, *, method: str = "GET", **headers: str) -> Reply:
        """Answer one request, without a socket."""
        return asyncio.run(self._get(address, method, headers))

    def page(self, address: str) -> Reply:
        """Answer one request of a browser."""
        return self.get(address, accept="text/html,application/xhtml+xml")

    async def _get(self, address: str, method: str, headers: Mapping[str, str]) -> Reply:
        path, _, query = address.partition("?")
        scope = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": unquote(path),
            "raw_path": path.encode(),
            "query_string": query.encode(),
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
            "server": ("test", 80),
            "client": ("test", 1),
        }
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await self.app(scope, receive, send)
        fields = {name.decode().lower(): value.decode() for name, value in sent[0]["headers"]}
        return Reply(sent[0]["status"], fields, b"".join(message.get("body", b"") for message in sent[1:]))


@contextmanager
def watched_log(
    directory: Path, models: Sequence[ConfiguredModel] = (INCOME,), *, pair_timeout_s: float = 60.0
) -> Iterator[WatchedLog]:
    """Yield a payload log with a running pipeline."""
    log = WatchedLog(directory, models, pair_timeout_s)
    log.pipeline.start()
    try:
        yield log
    finally:
        log.pipeline.stop()
        log.state.close()
        log.journal.close()
