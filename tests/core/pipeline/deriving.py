"""A pipeline whose judge counts rows, its traffic, and what it leaves in the state."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson

from inferwatch.clock import NS_PER_S, ManualClock
from inferwatch.events import CloudEvent, Role, Stream
from inferwatch.finding import Finding, Window
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.state import State
from inferwatch.pipeline import Item, Pipeline
from inferwatch.status import DetectorStatus
from tests.inferences import NOON, request, response

TABLES = ("position", "streams", "payloads", "findings", "judges", "statuses")
WAIT_S = 120.0
EVENING = NOON + 6 * 3600 * NS_PER_S


class RowCounter:
    """Finds something in every third row of a stream, and remembers how many there were."""

    def __init__(self) -> None:
        self.counts: dict[Stream, int] = {}

    def judge(self, items: Sequence[Item], /) -> list[Finding]:
        return [finding for item in items if item.role is Role.REQUEST for finding in self._count(item)]

    def _count(self, item: Item) -> Iterator[Finding]:
        rows = item.decoded.rows
        for row in range(rows.count if rows is not None and item.excluded is None else 0):
            seen = self.counts[item.stream] = self.counts.get(item.stream, 0) + 1
            if seen % 3 == 0:
                window = Window(item.time_ns, item.time_ns, seen)
                found = Finding("drift", "count", float(seen), 3.0, item.time_ns, window, row=row)
                yield found.at(item.stream, "count", "each third row", (item.payload_key, row))

    def dump(self) -> Mapping[str, bytes | None]:
        return {orjson.dumps([*stream]).decode(): str(count).encode() for stream, count in self.counts.items()}

    def load(self, states: Mapping[str, bytes], /) -> None:
        self.counts = {Stream(*orjson.loads(name)): int(count) for name, count in states.items()}

    def statuses(self) -> list[DetectorStatus]:
        return [DetectorStatus(*stream, "count", "drift", "count", scored=n) for stream, n in self.counts.items()]


def traffic() -> list[CloudEvent]:
    """40 events: pairs in both orders, a reused id, two streams, probes, explainers' calls, and noise."""
    events: list[CloudEvent] = []
    for number in range(9):
        endpoint = "canary" if number % 4 == 3 else "default"
        pair = [
            request(f"{number % 5}", number * 100, [[1.5, number]] * (number % 3 + 1), endpoint=endpoint),
            response(f"{number % 5}", number * 100 + 1, [0] * (number % 3 + 1), endpoint=endpoint, statuscode="200"),
        ]
        events += pair[:: -1 if number % 2 else 1]
        events.append(request(f"lonely {number}", number * 100 + 2, [[0.5, 1]]))
    events += [response("lonely 1", 103, b""), response("late", 50, [1]), request("late", 49, [[1, 2]])]
    events += [request("inferwatch-explain-1", 950, [[1, 2]] * 50), request("probe", 950, b"")]
    events += [request("noise", 951, b"\xff\xfe"), request("other", 952, [[1]], inferenceservicename="other")]
    events += [response("again", 953 + number, [number]) for number in range(6)]
    return events


def pipeline_of(journal: Journal, state: State, judge: RowCounter, **options: Any) -> Pipeline:
    return Pipeline(journal, state, judge, pair_timeout_s=60, clock=ManualClock(NOON), **options)


def content(state: State) -> dict[str, list[tuple[Any, ...]]]:
    with state.read() as connection:
        return {table: connection.execute(f"SELECT * FROM {table} ORDER BY 1, 2").fetchall() for table in TABLES}


def derive(journal: Journal, state: State, judge: RowCounter | None = None) -> dict[str, list[tuple[Any, ...]]]:
    """Follow the journal to its end and return everything that was derived."""
    pipeline = pipeline_of(journal, state, judge or RowCounter())
    with running(pipeline):
        assert pipeline.wait_for(journal.end(), WAIT_S)
    return content(state)


@contextmanager
def running(pipeline: Pipeline) -> Iterator[None]:
    pipeline.start()
    try:
        yield
    finally:
        pipeline.stop()


@contextmanager
def state_in(directory: Path, kind: type[State] = State) -> Iterator[Any]:
    directory.mkdir(exist_ok=True)
    state = kind.open(directory)
    try:
        yield state
    finally:
        state.close()
