"""A payload log whose judge has a finding for each request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pandas as pd

import inferwatch
from inferwatch.clock import ManualClock, parse_time
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE, CloudEvent
from inferwatch.finding import FeatureFinding, Finding, Window
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.state import State
from inferwatch.pipeline import Item, Pipeline
from inferwatch.status import DetectorStatus

START_NS = parse_time("2026-11-21T10:00:00Z")
SECOND_NS = 1_000_000_000


class EveryRequest:
    """Gives one finding a request; the second of a log fires."""

    def judge(self, items: Sequence[Item], /) -> list[Finding]:
        found = []
        for number, item in enumerate(item for item in items if item.role == 0):
            window = Window(item.time_ns - SECOND_NS, item.time_ns, 5)
            features = (FeatureFinding("age", 2.0, 0.5, 0.01, 0.6),)
            finding = Finding("drift", "histogram", float(number), 0.5, item.time_ns, window, features=features)
            found.append(finding.at(item.stream, "inputs", ""))
        return found

    def dump(self) -> Mapping[str, bytes | None]:
        return {}

    def load(self, states: Mapping[str, bytes], /) -> None:
        pass

    def statuses(self) -> list[DetectorStatus]:
        return []


def half(kind: str, payload_id: str, second: int, body: object, **extensions: str) -> CloudEvent:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    return CloudEvent(payload_id, "test", kind, START_NS + second * SECOND_NS, "application/json", extensions, data)


def asked(payload_id: str, second: int, body: object, **extensions: str) -> CloudEvent:
    return half(REQUEST_TYPE, payload_id, second, body, **extensions)


def answered(payload_id: str, second: int, body: object, **extensions: str) -> CloudEvent:
    return half(RESPONSE_TYPE, payload_id, second, body, **extensions)


class Log:
    """A payload log in a directory, as one model sees it."""

    def __init__(self, directory: Path, name: str = "income") -> None:
        self.directory = directory
        self.model = f"default/{name}"
        self._name = name
        self._journal = Journal.open(directory, clock=ManualClock(START_NS))
        self.state = State.open(directory)
        self._pipeline = Pipeline(
            self._journal, self.state, EveryRequest(), pair_timeout_s=60, clock=ManualClock(START_NS)
        )
        self._pipeline.start()

    def of(self, name: str) -> Log:
        """Return the log as another model sees it."""
        log = copy(self)
        log._name, log.model = name, f"default/{name}"
        return log

    def take(self, *events: CloudEvent) -> None:
        """Store the events as the model's, and wait until they are derived."""
        own = [replace(it, extensions={**it.extensions, "inferenceservicename": self._name}) for it in events]
        assert self._pipeline.wait_for(self._journal.append(own).result(120), 120)

    def payloads(self, **options: Any) -> pd.DataFrame:
        return inferwatch.payloads(self.model, data=self.directory, **options)

    def findings(self, **options: Any) -> pd.DataFrame:
        return inferwatch.findings(self.model, data=self.directory, **options)

    def explanations(self, **options: Any) -> pd.DataFrame:
        return inferwatch.explanations(self.model, data=self.directory, **options)

    def close(self) -> None:
        self._pipeline.stop()
        self.state.close()
        self._journal.close()
