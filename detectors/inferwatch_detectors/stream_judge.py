"""Judges one stream: matches its rows to the reference, holds burn-in and windows, runs the detectors."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import groupby
from typing import Protocol

import numpy as np
import orjson

from inferwatch.clock import NS_PER_S
from inferwatch.errors import InferwatchError, InvalidRows, UnkeepablePromise
from inferwatch.events import Role, Stream
from inferwatch.finding import Finding
from inferwatch.payload_log.findings import status_document, status_from
from inferwatch.pipeline import Item
from inferwatch.protocols import Detector, Stateful
from inferwatch.reference import Reference
from inferwatch.rows import Batch
from inferwatch.settings import (
    AnyDetectorSettings,
    FalseAlarmSettings,
    ModelSettings,
    OutlierSettings,
    QualitySettings,
    WindowSettings,
)
from inferwatch.status import DetectorStatus
from inferwatch_detectors.burn_in import BurnIn
from inferwatch_detectors.dependence import Dependence
from inferwatch_detectors.quality import Expectation
from inferwatch_detectors.registry import DETECTORS, Asked
from inferwatch_detectors.window import Extent, LiveWindow, Marks

logger = logging.getLogger(__name__)

_NS_PER_MINUTE = 60 * NS_PER_S
_LONG_AGO = -(2**63)


class RunObserver(Protocol):
    """Takes note of the runs of detectors; the metrics implement it."""

    def ran(self, method: str, seconds: float) -> None:
        """Count one run of a detector's method."""
        ...


@dataclass(slots=True)
class _Post:
    """One detector at its post: the rule, the detector once it can be built, its window, what it said last."""

    settings: AnyDetectorSettings
    rule: str
    status: DetectorStatus
    window: LiveWindow | None
    detector: Detector | None = None
    kept: bytes | None = None
    """What a detector with a memory is to continue from, once it is built."""

    def remember(self) -> None:
        """Let the detector continue from what is kept."""
        if self.kept is not None and isinstance(self.detector, Stateful):
            self.detector.load(self.kept)

    def memory(self) -> bytes | None:
        """Return what the detector is to continue from; None where it has no memory."""
        if isinstance(self.detector, Stateful):
            return self.detector.dump()
        return self.kept


class StreamJudge:
    """Everything that is judged about one stream.

    Windows of time follow its watermark: the latest event time among the rows so far, where an event that is ahead of
    its own arrival counts as of its arrival. So it is a function of the log, and a client whose clock is fast does not
    close the windows of the others.
    """

    def __init__(
        self, stream: Stream, model: ModelSettings, reference: Reference, observer: RunObserver | None = None
    ) -> None:
        self._stream = stream
        self._model = model
        self._reference = reference
        self._observer = observer
        self._notes: tuple[str, ...] = ()
        self._mark_ns = _LONG_AGO
        self._burn_in = BurnIn(reference, model.burn_in_rows)
        self._posts = [
            self._post(name, settings)
            for name, settings in model.named_detectors()
            if settings.component == stream.component
        ]
        self._man()

    def judge(self, items: Sequence[Item]) -> list[Finding]:
        """Return what the detectors say about the items' rows, in the order of the items."""
        findings: list[Finding] = []
        for alike in _alike(items):
            batch = self._matched(alike)
            if batch is not None:
                findings.extend(self._judge(batch, self._marks(alike)))
        return findings

    def _judge(self, batch: Batch, marks: Marks) -> list[Finding]:
        after_burn_in = self._settle(batch)
        marks = marks[len(batch) - len(after_burn_in) :]
        findings: list[Finding] = []
        for post in self._posts:
            if post.window is None:
                findings.extend(self._run(post, batch))
            else:
                for window in post.window.add(after_burn_in, marks):
                    findings.extend(self._run(post, window))
        return findings

    def _marks(self, items: Sequence[Item]) -> Marks:
        """Return the watermark at each row."""
        reached = np.array([min(item.time_ns, item.arrival_ns) for item in items], np.int64)
        marks = np.maximum.accumulate(np.maximum(reached, self._mark_ns))
        self._mark_ns = int(marks[-1])
        return np.repeat(marks, [item.decoded.rows.count for item in items if item.decoded.rows is not None])

    def statuses(self) -> list[DetectorStatus]:
        """Return where each detector stands."""
        return [self._status(post) for post in self._posts]

    def dump(self) -> dict[str, bytes]:
        """Return everything that later findings depend on, in named parts."""
        dependence = self._burn_in.dependence
        parts = {"burn-in": self._burn_in.dump()}
        for post in self._posts:
            if post.window is not None:
                parts[f"window {post.status.detector}"] = post.window.dump()
            if (memory := post.memory()) is not None:
                parts[f"memory {post.status.detector}"] = memory
        about = {
            "reference": self._reference.id,
            "burn_in_rows": self._model.burn_in_rows,
            "dependence": dependence and dependence.as_dict(),
            "mark_ns": self._mark_ns,
            "rules": {post.status.detector: post.rule for post in self._posts},
            "statuses": {post.status.detector: orjson.Fragment(status_document(post.status)) for post in self._posts},
        }
        parts["about"] = orjson.dumps(about)
        return parts

    def load(self, parts: dict[str, bytes]) -> None:
        """Continue from a dump. What was kept under another reference or rule starts anew."""
        about = orjson.loads(parts["about"])
        if about["reference"] != self._reference.id or about["burn_in_rows"] != self._model.burn_in_rows:
            logger.info("%s: reference or burn-in changed, judging starts anew", self._stream.service)
            return
        kept = about["dependence"]
        self._burn_in.load(parts["burn-in"], kept and Dependence.from_dict(kept))
        self._mark_ns = about.get("mark_ns", _LONG_AGO)
        for post in self._posts:
            if about["rules"].get(post.status.detector) == post.rule:
                self._resume(post, parts, about["statuses"][post.status.detector])
        self._man()

    def _resume(self, post: _Post, parts: dict[str, bytes], status: object) -> None:
        name = post.status.detector
        post.status = replace(status_from(orjson.dumps(status)), windowed=post.window is not None)
        if post.window is not None:
            post.window.load(parts[f"window {name}"], len(self._reference.schema.features))
        post.kept = parts.get(f"memory {name}")
        post.remember()

    def _post(self, name: str, settings: AnyDetectorSettings) -> _Post:
        window = None if isinstance(settings, OutlierSettings) else LiveWindow(_extent(settings.window))
        promise = self._model.false_alarms
        text = f"{settings.model_dump_json()} {promise.model_dump_json()} {self._reference.id}"
        status = DetectorStatus(
            namespace=self._stream.namespace,
            name=self._stream.name,
            component=self._stream.component,
            endpoint=self._stream.endpoint,
            detector=name,
            kind=settings.kind,
            method=settings.method,
            windowed=window is not None,
            window_rows=None if isinstance(settings, OutlierSettings) else settings.window.full,
        )
        return _Post(settings, blake2b(text.encode(), digest_size=8).hexdigest(), status, window)

    def _settle(self, batch: Batch) -> Batch:
        """Return the rows that are past the burn-in; with its last row, the window detectors are built."""
        if self._burn_in.dependence is not None:
            return batch
        rest = self._burn_in.add(batch)
        if self._burn_in.dependence is not None:
            logger.info("%s: %s", self._stream.service, self._burn_in.dependence)
            self._man()
        return rest

    def _man(self) -> None:
        """Build the detectors that can be built by now."""
        for post in self._posts:
            if post.detector is None and (post.window is None or self._burn_in.dependence is not None):
                try:
                    post.detector = built_detector(
                        post.settings, self._model.false_alarms, self._reference, self._burn_in.dependence
                    )
                except UnkeepablePromise as fault:
                    post.status = replace(post.status, state="waiting", notes=(str(fault),))
                post.remember()

    def _matched(self, items: Sequence[Item]) -> Batch | None:
        parts = [item.decoded.rows for item in items if item.decoded.rows is not None]
        try:
            encoded = self._reference.schema.encode_all(parts)
        except InvalidRows as fault:
            self._notes = (str(fault),)
            return None
        self._notes = (*_named("missing", encoded.missing), *_named("unknown to the reference", encoded.extra))
        counts = np.array([part.count for part in parts])
        ends = np.cumsum(counts)
        return Batch(
            encoded.values,
            np.repeat(np.array([item.time_ns for item in items], np.int64), counts),
            np.repeat(np.array([item.event.inference_id for item in items], object), counts),
            np.repeat(np.array([item.payload_key for item in items], object), counts),
            (np.arange(ends[-1]) - np.repeat(ends - counts, counts)).astype(np.int32),
            since_ns=items[0].time_ns,
        )

    def _run(self, post: _Post, rows: Batch) -> list[Finding]:
        if post.detector is None:
            return []
        started_s = time.perf_counter()
        try:
            found = post.detector.observe(rows)
        except Exception as fault:  # noqa: BLE001 - the service loop: a detector may be a user's own
            self._failed(post, fault)
            return []
        if self._observer is not None:
            self._observer.ran(post.status.method, time.perf_counter() - started_s)
        last_row = (rows.keys[-1], int(rows.index[-1]))
        findings = [finding.at(self._stream, post.status.detector, post.rule, last_row) for finding in found]
        self._note(post, rows, findings)
        return findings

    def _failed(self, post: _Post, fault: Exception) -> None:
        if post.status.failures == 0:
            logger.error(
                "%s: detector %s failed: %s",
                self._stream.service,
                post.status.detector,
                fault,
                exc_info=not isinstance(fault, InferwatchError),
            )
        post.status = replace(
            post.status, failures=post.status.failures + 1, notes=(f"{type(fault).__name__}: {fault}",)
        )

    def _note(self, post: _Post, rows: Batch, findings: Sequence[Finding]) -> None:
        fired = [finding for finding in findings if finding.fired]
        newest = findings[-1] if findings and post.window is not None else post.status.newest
        alarm = post.window is not None and newest is not None and newest.fired
        post.status = replace(
            post.status,
            state="alarm" if alarm else "ok",
            last_run_ns=int(rows.times_ns[-1]),
            windows=post.status.windows + 1,
            scored=post.status.scored + len(rows),
            flagged=post.status.flagged + (len(fired) if post.window is None else 0),
            newest=newest,
            notes=(),
        )

    def _status(self, post: _Post) -> DetectorStatus:
        if post.window is None:
            return replace(post.status, notes=(*post.status.notes, *self._notes))
        missing = post.window.needs_rows
        return replace(
            post.status,
            needs_rows=None if missing is None else self._burn_in.needs_rows + missing,
            late=post.window.late,
            notes=(*post.status.notes, *self._notes),
        )


def _extent(window: WindowSettings) -> Extent:
    by_rows = window.full is not None
    return Extent(
        window.full,
        None if window.minutes is None else round(window.minutes * _NS_PER_MINUTE),
        slide_rows=int(window.slide) if by_rows and window.slide is not None else None,
        slide_ns=None if by_rows or window.slide is None else round(window.slide * _NS_PER_MINUTE),
    )


def built_detector(
    settings: AnyDetectorSettings,
    false_alarms: FalseAlarmSettings,
    reference: Reference,
    dependence: Dependence | None,
) -> Detector:
    """Return the detector that the settings ask for. Raises `UnkeepablePromise` and `InvalidOption`."""
    asked = Asked(
        window_rows=0 if isinstance(settings, OutlierSettings) else settings.window.size,
        promise=false_alarms.promise(),
        smallest_effect=false_alarms.smallest_effect,
        dependence=dependence,
        false_alarm_rate=settings.false_alarm_rate if isinstance(settings, OutlierSettings) else 0.0,
        report_all=isinstance(settings, OutlierSettings) and settings.report == "all",
        expect=_expectations(settings) if isinstance(settings, QualitySettings) else {},
    )
    return DETECTORS[settings.kind, settings.method].build(reference, asked)


def _expectations(settings: QualitySettings) -> dict[str, Expectation]:
    return {
        name: Expectation(declared.min, declared.max, declared.missing_at_most, declared.unseen_at_most)
        for name, declared in settings.expect.items()
    }


def _alike(items: Sequence[Item]) -> Iterator[list[Item]]:
    """Yield the requests that are to be judged, runs of the same columns together."""
    judged = [
        item
        for item in items
        if item.role is Role.REQUEST
        and item.excluded is None
        and item.decoded.rows is not None
        and item.decoded.rows.count > 0
    ]
    for _, group in groupby(
        judged, key=lambda item: item.decoded.rows and (item.decoded.rows.named, item.decoded.rows.sources)
    ):
        yield list(group)


def _named(what: str, columns: Sequence[str]) -> tuple[str, ...]:
    if not columns:
        return ()
    shown = ", ".join(columns[:8]) + (", ..." if len(columns) > 8 else "")
    return (f"columns {what}: {shown}",)
