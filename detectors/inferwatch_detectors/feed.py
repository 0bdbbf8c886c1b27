"""Rows of one kind of a stream: matched to their reference, or gathered until there is one, and split into segments."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import groupby, pairwise
from typing import Protocol

import numpy as np
import orjson

from inferwatch.errors import InvalidRows
from inferwatch.finding import Finding
from inferwatch.listing import listed
from inferwatch.reference import Reference
from inferwatch.rows import Batch, Matrix, Rows, Schema
from inferwatch.status import DetectorStatus
from inferwatch_detectors.gathering import Gathering, Learning
from inferwatch_detectors.lane import Lane, Parts
from inferwatch_detectors.parts import Labels, Part
from inferwatch_detectors.segments import segment_reference
from inferwatch_detectors.window import Marks

logger = logging.getLogger(__name__)

_LONG_AGO = -(2**63)

NewLane = Callable[[str | None, Reference | None, Schema | None], Lane]
"""Makes the lane of a segment (None: of all rows), for a given reference, or a schema of which one is to be learnt."""


class Seen(Protocol):
    """Takes note of rows as they are encoded."""

    def add(self, batch: Batch, /) -> None:
        """Take the rows."""
        ...


class Feed:
    """Everything between the parts of payloads and the detectors of one kind of rows.

    Windows of time follow the feed's watermark: the latest event time among its rows so far, where an event that is
    ahead of its own arrival counts as of its arrival. So it is a function of the log, and a client whose clock is fast
    does not close the windows of the others.
    """

    def __init__(
        self,
        lane: NewLane,
        source: str,
        given: Reference | None,
        learning: Learning | None,
        absent: str = "",
        seen: Seen | None = None,
        borrowed: Callable[[], Reference | None] | None = None,
    ) -> None:
        self._lane = lane
        self._source = source
        self._gone: list[tuple[str | None, str]] = []
        self._absent = absent
        self._seen = seen
        self._borrowed = borrowed
        self._notes: tuple[str, ...] = ()
        self.note: str | None = None
        self._mark_ns = _LONG_AGO
        self._unfit = 0
        self._gathering = Gathering(learning) if learning is not None and given is None else None
        self._rolling = learning.rolling if learning is not None and given is None else None
        self.main = lane(None, given, None)
        self._segments: dict[str, Lane] = {}

    @property
    def reference(self) -> Reference | None:
        """What rows are compared with at present."""
        return self.main.reference

    def learn(self, rows: Sequence[Rows], created_ns: int) -> None:
        """Begin the reference with rows that were logged before; with enough of them it is there at once."""
        for part in rows if self._gathering is not None else ():
            if self.main.reference is None and self._gathering is not None:
                self._gathering.add(part, created_ns)
                learnt = self._gathering.learnt(created_ns)
                if learnt is not None:
                    self.main.enter(learnt.reference, learnt.dependence)

    def accept(self, reference: Reference) -> None:
        """Compare rows with another reference from now on; segments begin anew."""
        self.main.accept(reference)
        self._segments = {name: self._new_segment(name) for name in self._segments}

    def judge(self, parts: Sequence[Part]) -> list[Finding]:
        """Return what the detectors say about the parts' rows, in the order of the parts."""
        findings: list[Finding] = []
        for alike in _alike(parts):
            rest = self._gathered(alike) if self.main.schema is None else alike
            batch = self._matched(rest) if rest else None
            if batch is not None:
                if self._seen is not None:
                    self._seen.add(batch)
                before_ns, marks = self._mark_ns, self._marks(rest)
                findings.extend(self._rolled(batch, marks, _labels(rest), before_ns))
        return findings

    def _gathered(self, parts: Sequence[Part]) -> Sequence[Part]:
        """Gather the parts' rows, and return those that are left once there is a reference."""
        if self._gathering is None:
            reference = self._borrowed() if self._borrowed is not None else None
            if reference is not None:
                self.main.enter(reference)
            return parts if reference is not None else ()
        for place, part in enumerate(parts):
            taken = self._gathering.add(part.rows, part.time_ns)
            learnt = self._gathering.learnt(part.time_ns)
            if learnt is not None:
                if self._rolling is not None:
                    self.main.begin(learnt)
                else:
                    self.main.enter(learnt.reference, learnt.dependence)
                return [part.after(taken), *parts[place + 1 :]] if taken < part.rows.count else parts[place + 1 :]
        return ()

    def _matched(self, parts: Sequence[Part]) -> Batch | None:
        assert self.main.schema is not None  # noqa: S101 - rows are gathered before
        try:
            encoded = self.main.schema.encode_all([part.rows for part in parts])
        except InvalidRows as fault:
            self._notes = (str(fault),)
            self._unfit += sum(part.rows.count for part in parts)
            return None
        self._notes = (*_named("missing", encoded.missing), *_named("unknown to the reference", encoded.extra))
        return _batch(encoded.values, parts)

    def _marks(self, parts: Sequence[Part]) -> Marks:
        """Return the watermark at each row."""
        reached = np.array([min(part.time_ns, part.arrival_ns) for part in parts], np.int64)
        marks = np.maximum.accumulate(np.maximum(reached, self._mark_ns))
        self._mark_ns = int(marks[-1])
        return np.repeat(marks, [part.rows.count for part in parts])

    def _rolled(self, batch: Batch, marks: Marks, labels: Labels, before_ns: int) -> list[Finding]:
        """Judge the rows, a rolling reference being renewed where the watermark passes its moments."""
        if self._rolling is None:
            return self._judged(batch, marks, labels)
        moments = marks // self._rolling.slice_ns
        renewals = np.flatnonzero(np.diff(moments, prepend=before_ns // self._rolling.slice_ns)).tolist()
        findings: list[Finding] = []
        for start, stop in pairwise(sorted({0, *renewals, len(batch)})):
            if start in renewals:
                for lane in (self.main, *self._segments.values()):
                    lane.roll(int(moments[start]) * self._rolling.slice_ns)
            part = tuple(each[start:stop] for each in labels)
            findings += self._judged(batch.slice(start, stop), marks[start:stop], part)
        return findings

    def _judged(self, batch: Batch, marks: Marks, labels: Labels) -> list[Finding]:
        """Judge the rows together and segment by segment; a segment that is new counts from its first row on."""
        fresh = [
            (int(np.flatnonzero(each == name)[0]), name)
            for each in labels
            for name in dict.fromkeys(each.tolist())
            if name is not None and name not in self._segments
        ]
        if not fresh:
            return self._shared_out(batch, marks, labels)
        start, name = min(fresh)
        before = tuple(each[:start] for each in labels)
        findings = self._shared_out(batch.slice(0, start), marks[:start], before) if start else []
        self._segments[name] = self._new_segment(name)
        rest = tuple(each[start:] for each in labels)
        return findings + self._judged(batch.slice(start, len(batch)), marks[start:], rest)

    def _shared_out(self, batch: Batch, marks: Marks, labels: Labels) -> list[Finding]:
        share, mark_ns = 1 / (1 + len(self._segments)), int(marks[-1])
        findings = self.main.judge(batch, marks, mark_ns, share)
        for name, lane in self._segments.items():
            own = np.flatnonzero(np.any([each == name for each in labels], axis=0)) if labels else np.empty(0, np.intp)
            findings += lane.judge(batch.pick(own), marks[own], mark_ns, share)
        return findings

    def _new_segment(self, name: str) -> Lane:
        assert self.main.schema is not None  # noqa: S101 - segments appear in rows that were matched to it
        fixed = None if self._rolling is not None else self.main.reference
        given = segment_reference(fixed, name) if fixed is not None else None
        return self._lane(name, given, None if given is not None else self.main.schema)

    def standings(self) -> list[DetectorStatus]:
        """Return where each detector stands, over all rows and segments."""
        missing = self._gathering.needs_rows if self._gathering is not None and self.main.schema is None else 0
        notes = [*self._notes, *filter(None, [self.note, self.main.note])]
        if missing:
            learnt = "the reference is" if self._rolling is None else "columns of the reference are"
            notes.append(f"{learnt} learnt from the first rows; {missing:,} are missing")
        if self.main.reference is None and self._mark_ns == _LONG_AGO and self._absent:
            notes.append(self._absent)
        if self._gathering is not None and self._gathering.note is not None:
            notes.append(self._gathering.note)
        statuses = self.main.standings(notes, missing)
        return [self._overall(status) for status in statuses]

    def _overall(self, status: DetectorStatus) -> DetectorStatus:
        """Add what the segments' posts of the same name say."""
        found = [
            (name, each)
            for name, lane in self._segments.items()
            for each in lane.standings()
            if each.detector == status.detector
        ]
        loud = [f"segment {name}: {each.newest.why}" for name, each in found if each.state == "alarm" and each.newest]
        told = [f"segment {name}: {note}" for name, each in found for note in each.notes]
        return replace(
            status,
            state="alarm" if loud else status.state,
            windows=status.windows + sum(each.windows for _, each in found),
            failures=status.failures + sum(each.failures for _, each in found),
            late=status.late + sum(each.late for _, each in found),
            unfit=self._unfit,
            notes=(*status.notes, *loud, *told),
        )

    def dump(self) -> dict[tuple[str | None, str], bytes | None]:
        """Return everything that later findings depend on, by segment and part."""
        segments = list(self._segments)
        about = {"source": self._source, "mark_ns": self._mark_ns, "segments": segments, "unfit": self._unfit}
        parts: dict[tuple[str | None, str], bytes | None] = dict.fromkeys(self._gone)
        self._gone = []
        parts[None, "feed"] = orjson.dumps(about)
        gathered: Parts = self._gathering.dump() if self._gathering is not None else {}
        parts |= {(None, f"gathered {name}"): data for name, data in gathered.items()}
        for name, lane in ((None, self.main), *self._segments.items()):
            parts |= {(name, part): data for part, data in lane.dump().items()}
        return parts

    def load(self, parts: dict[tuple[str | None, str], bytes]) -> None:
        """Continue from a dump. What was kept under another reference or burn-in is dropped: judging starts anew."""
        about = orjson.loads(parts.get((None, "feed"), b"{}"))
        if about.get("source") != self._source:
            logger.info("%s: reference or burn-in changed, judging starts anew", self.main.beat.stream.service)
            self._gone = list(parts)
            return
        self._mark_ns, self._unfit = about["mark_ns"], about.get("unfit", 0)
        if self._gathering is not None:
            names = [part for segment, part in parts if segment is None and part.startswith("gathered ")]
            names.sort(key=lambda name: int(name.rpartition(" ")[2]))
            self._gathering.load([parts[None, name] for name in names])
        self.main.load(_of(parts, None))
        if self.main.schema is None:
            return
        for name in about["segments"]:
            lane = self._segments[name] = self._new_segment(name)
            lane.load(_of(parts, name))


def _of(parts: dict[tuple[str | None, str], bytes], segment: str | None) -> dict[str, bytes]:
    return {part: data for (name, part), data in parts.items() if name == segment}


def _alike(parts: Sequence[Part]) -> Iterator[list[Part]]:
    """Yield runs of parts with the same columns."""
    for _, group in groupby(parts, key=lambda part: (part.rows.named, part.rows.sources)):
        yield list(group)


def _labels(parts: Sequence[Part]) -> Labels:
    kinds = min((len(part.labels) for part in parts), default=0)
    return tuple(np.concatenate([part.labels[kind] for part in parts]) for kind in range(kinds))


def _batch(values: Matrix, parts: Sequence[Part]) -> Batch:
    counts = np.array([part.rows.count for part in parts])
    ends = np.cumsum(counts)
    first = np.array([part.start for part in parts]) - (ends - counts)
    return Batch(
        values,
        np.repeat(np.array([part.time_ns for part in parts], np.int64), counts),
        np.repeat(np.array([part.payload_id for part in parts], object), counts),
        np.repeat(np.array([part.key for part in parts], object), counts),
        (np.arange(ends[-1]) + np.repeat(first, counts)).astype(np.int32),
        since_ns=parts[0].time_ns,
    )


def _named(what: str, columns: Sequence[str]) -> tuple[str, ...]:
    if not columns:
        return ()
    return (f"columns {what}: {listed(columns)}",)
