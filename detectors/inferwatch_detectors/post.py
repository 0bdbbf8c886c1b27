"""One detector at its post: its rule, its window, the detector itself once it can be built, and what it said last."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Protocol

from inferwatch.clock import NS_PER_S
from inferwatch.errors import InferwatchError, InvalidOption, UnkeepablePromise
from inferwatch.events import Stream
from inferwatch.finding import Finding
from inferwatch.payload_log.findings import status_document, status_from
from inferwatch.protocols import Detector, Stateful
from inferwatch.reference import Reference
from inferwatch.rows import Batch
from inferwatch.settings import (
    AnyDetectorSettings,
    FalseAlarmSettings,
    OutlierSettings,
    QualitySettings,
    WindowSettings,
)
from inferwatch.status import DetectorStatus
from inferwatch_detectors.dependence import Dependence
from inferwatch_detectors.fleet import Fleet
from inferwatch_detectors.plugins import entry_for
from inferwatch_detectors.quality import Expectation
from inferwatch_detectors.registry import Asked
from inferwatch_detectors.window import Extent, LiveWindow, Marks

logger = logging.getLogger(__name__)

_NS_PER_MINUTE = 60 * NS_PER_S

Against = Callable[[Batch], "Reference | str"]
"""What a window is compared with in place of the reference; or why there is nothing."""


class RunObserver(Protocol):
    """Takes note of the runs of detectors; the metrics implement it."""

    def ran(self, method: str, seconds: float) -> None:
        """Count one run of a detector's method."""
        ...


@dataclass(frozen=True, slots=True)
class Beat:
    """Whose rows are judged: a stream, of a model version where references go by that, and a segment of it."""

    stream: Stream
    segment: str | None = None
    version: str | None = None
    assumption: str = ""
    """What a finding is to say about the reference, where it was learnt."""


@dataclass(slots=True)
class Post:
    """One detector of one stream, or of a segment of it."""

    name: str
    settings: AnyDetectorSettings
    false_alarms: FalseAlarmSettings
    beat: Beat
    observer: RunObserver | None = None
    against: Against | None = None
    fleet: Fleet | None = None
    rule: str = field(init=False)
    """A text that changes whenever the detector would judge differently, but for the reference."""
    status: DetectorStatus = field(init=False)
    window: LiveWindow | None = field(init=False)
    detector: Detector | None = None
    dependence: Dependence | None = None
    kept: bytes | None = None
    """What a detector with a memory is to continue from, once it is built."""
    _reference_id: str = ""
    _planned: Reference | None = None
    """What the detector is to be built of once it is needed."""

    def __post_init__(self) -> None:
        among = () if self.fleet is None else (f"fleet {self.fleet.rate}",)
        self.rule = _hash(self.settings.model_dump_json(), self.false_alarms.model_dump_json(), *among)
        windowed = not isinstance(self.settings, OutlierSettings)
        self.window = None if isinstance(self.settings, OutlierSettings) else LiveWindow(_extent(self.settings.window))
        self.status = DetectorStatus(
            *self.beat.stream,
            detector=self.name,
            kind=self.settings.kind,
            method=self.settings.method,
            windowed=windowed,
            window_rows=None if isinstance(self.settings, OutlierSettings) else self.settings.window.full,
        )

    def man(self, reference: Reference, dependence: Dependence | None, *, now: bool = True) -> None:
        """Build the detector where that can be done by now, or let the first rows that it is to judge do so."""
        self._reference_id, self.dependence = reference.id, dependence
        if self.detector is not None or self.against is not None or (self.window is not None and dependence is None):
            return
        self._planned = reference
        if now:
            self._build()

    def _build(self) -> None:
        reference, self._planned = self._planned, None
        if reference is None:
            return
        try:
            self.detector = built_detector(self.settings, self.false_alarms, reference, self.dependence)
        except (UnkeepablePromise, InvalidOption) as fault:
            self.status = replace(self.status, state="waiting", notes=(str(fault),))
        self._remember()

    def relieve(self) -> None:
        """Begin anew, with another reference."""
        self.detector, self.kept, self._planned = None, None, None
        self.window = None if self.window is None else LiveWindow(self.window.extent)
        self.status = replace(self.status, state="waiting", newest=None, notes=())

    def renew(self, reference: Reference, dependence: Dependence | None) -> None:
        """Go on with another reference of the same columns: the window that is open stays, and so does a memory."""
        self.kept, self.detector = self._memory(), None
        self.man(reference, dependence, now=False)

    def judge_rows(self, batch: Batch) -> list[Finding]:
        """Return what a detector of rows says about them."""
        return self._run(batch) if self.window is None else []

    def judge(self, batch: Batch, marks: Marks, mark_ns: int, share: float) -> list[Finding]:
        """Return what a detector of windows says about those that the rows and the watermark complete."""
        if self.window is None:
            return []
        windows = [*self.window.add(batch, marks), *self.window.until(mark_ns)]
        return [finding for window in windows for finding in self._run(replace(window, share=share))]

    def _run(self, rows: Batch) -> list[Finding]:
        started_s = time.perf_counter()
        try:
            self._build()
            detector = self.detector if self.against is None else self._built_against(self.against(rows))
            if detector is None:
                return []
            found = detector.observe(rows)
        except Exception as fault:  # noqa: BLE001 - the service loop: a detector may be a user's own
            self._failed(fault)
            return []
        if self.observer is not None:
            self.observer.ran(self.status.method, time.perf_counter() - started_s)
        findings = [self._signed(finding, rows) for finding in found]
        if self.fleet is not None and self.window is not None:
            findings = [self.fleet.decided(finding, rows) for finding in findings]
        self._note(rows, findings)
        return findings

    def _built_against(self, other: Reference | str) -> Detector | None:
        if isinstance(other, str):
            self.status = replace(self.status, notes=(other,))
            return None
        try:
            return built_detector(self.settings, self.false_alarms, other, self.dependence)
        except UnkeepablePromise as fault:
            self.status = replace(self.status, notes=(str(fault),))
            return None

    def _signed(self, finding: Finding, rows: Batch) -> Finding:
        """Return the finding with all that its detector does not know."""
        told = replace(
            finding,
            method=self.settings.method,
            segment=self.beat.segment,
            version=self.beat.version,
            assumption="; ".join(filter(None, (finding.assumption, self.beat.assumption))),
        )
        last_row = (rows.keys[-1], int(rows.index[-1]))
        return told.at(self.beat.stream, self.name, _hash(self.rule, self._reference_id), last_row)

    def _failed(self, fault: Exception) -> None:
        if self.status.failures == 0:
            logger.error(
                "%s: detector %s failed: %s",
                self.beat.stream.service,
                self.name,
                fault,
                exc_info=not isinstance(fault, InferwatchError),
            )
        self.status = replace(
            self.status, failures=self.status.failures + 1, notes=(f"{type(fault).__name__}: {fault}",)
        )

    def _note(self, rows: Batch, findings: Sequence[Finding]) -> None:
        fired = sum(finding.fired for finding in findings)
        newest = findings[-1] if findings and self.window is not None else self.status.newest
        alarm = self.window is not None and newest is not None and newest.fired
        self.status = replace(
            self.status,
            state="alarm" if alarm else "ok",
            last_run_ns=int(rows.times_ns[-1]),
            windows=self.status.windows + 1,
            scored=self.status.scored + len(rows) - rows.again,
            flagged=self.status.flagged + (fired if self.window is None else 0),
            newest=newest,
            notes=(),
        )

    def standing(self, missing: int, notes: Sequence[str]) -> DetectorStatus:
        """Return where the detector stands; `missing` rows are wanted before its window begins."""
        told = replace(self.status, notes=(*self.status.notes, *notes))
        if self.window is None:
            return told
        needs = self.window.needs_rows
        return replace(told, needs_rows=None if needs is None else missing + needs, late=self.window.late)

    def dump(self) -> dict[str, bytes]:
        """Return everything that later findings depend on."""
        parts = {"status": status_document(self.status), "rule": self.rule.encode()}
        if self.window is not None:
            parts["window"] = self.window.dump()
        if (memory := self._memory()) is not None:
            parts["memory"] = memory
        return parts

    def load(self, parts: dict[str, bytes], width: int | None) -> None:
        """Continue from a dump. What was kept under another rule is left."""
        if parts.get("rule", b"").decode() != self.rule:
            return
        self.status = status_from(parts["status"])
        if self.window is not None and width is not None:
            self.window.load(parts["window"], width)
        self.kept = parts.get("memory")
        self._remember()

    def _remember(self) -> None:
        if self.kept is not None and isinstance(self.detector, Stateful):
            self.detector.load(self.kept)

    def _memory(self) -> bytes | None:
        if isinstance(self.detector, Stateful):
            return self.detector.dump()
        return self.kept


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
    return entry_for(settings.kind, settings.method).build(reference, asked)


def _expectations(settings: QualitySettings) -> dict[str, Expectation]:
    return {
        name: Expectation(declared.min, declared.max, declared.missing_at_most, declared.unseen_at_most)
        for name, declared in settings.expect.items()
    }


def _extent(window: WindowSettings) -> Extent:
    by_rows = window.full is not None
    return Extent(
        window.full,
        None if window.minutes is None else round(window.minutes * _NS_PER_MINUTE),
        slide_rows=int(window.slide) if by_rows and window.slide is not None else None,
        slide_ns=None if by_rows or window.slide is None else round(window.slide * _NS_PER_MINUTE),
    )


def _hash(*texts: str) -> str:
    return blake2b(" ".join(texts).encode(), digest_size=8).hexdigest()
