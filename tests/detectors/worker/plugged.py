"""Small detectors, the rows that they see, and a worker that goes on from another."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from inferwatch.clock import NS_PER_S
from inferwatch.events import CloudEvent
from inferwatch.finding import Finding, Window
from inferwatch.rows import Batch
from inferwatch.status import DetectorStatus
from inferwatch_detectors.worker import MonitoredModel, Worker
from tests.detectors.watched import items
from tests.inferences import NOON, request

SEEN = {"kind": "drift", "method": "seen", "window": {"rows": 4}}
EACH = {"kind": "outlier", "method": "each"}


class Seen:
    """Finds in each window what it saw; raises for a number that it is told to fear."""

    def __init__(self, feared: float = np.inf, alarm: float = 1e9) -> None:
        self._feared = feared
        self._alarm = alarm

    def observe(self, batch: Batch, /) -> list[Finding]:
        first = batch.values[:, 0]
        if (first == self._feared).any():
            raise ZeroDivisionError("no such number")
        window = Window(int(batch.times_ns[0]), int(batch.times_ns[-1]), len(batch))
        why = f"{first.tolist()} since {(batch.since_ns - NOON) / NS_PER_S:g}"
        return [Finding("drift", "seen", float(first.max()), self._alarm, window.to_ns, window, why=why)]


class Each:
    """Finds something in each row above 100."""

    def observe(self, batch: Batch, /) -> list[Finding]:
        return [
            Finding("outlier", "each", value, 100.0, time_ns, payload_id=payload, key=key, row=row)
            for value, time_ns, payload, key, row in zip(
                batch.values[:, 0].tolist(),
                batch.times_ns.tolist(),
                batch.payload_ids,
                batch.keys,
                batch.index.tolist(),
                strict=True,
            )
            if value > 100
        ]


Plug = Callable[..., None]


def numbers(*values: float, second: float = 0, identity: str = "a", **extensions: str) -> CloudEvent:
    return request(identity, second, [[value, "clerk"] for value in values], **extensions)


def status(worker: Worker, detector: str = "seen") -> DetectorStatus:
    (found,) = [status for status in worker.statuses() if status.detector == detector]
    return found


def restarted(worker: Worker, *models: MonitoredModel) -> Worker:
    """Return a worker of these models that continues from what the other dumps."""
    again = Worker(models)
    again.load({name: data for name, data in worker.dump().items() if data is not None})
    return again


def status_of(worker: Worker, events: list[CloudEvent]) -> tuple[str, int | None]:
    worker.judge(items(events))
    return status(worker).state, status(worker).needs_rows
