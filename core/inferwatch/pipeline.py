"""Follows the journal: decodes each event once, joins it, has it judged, and keeps the outcome with the position.

Everything a step derives is committed in one transaction together with the journal offset it belongs to. So nothing is
judged twice and nothing is skipped, wherever the process dies; and what was derived is a function of the journal alone.
"""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol, runtime_checkable

from inferwatch.clock import NS_PER_S, Clock
from inferwatch.errors import PayloadLogError
from inferwatch.events import SENDER, CloudEvent, Role, Service, Stream
from inferwatch.exclusion import Exclusion
from inferwatch.explanation_event import ExplanationEvent
from inferwatch.finding import Finding
from inferwatch.payload_log.entry import Entry
from inferwatch.payload_log.explanations import save_explanations
from inferwatch.payload_log.findings import save_findings, save_statuses
from inferwatch.payload_log.index import PayloadWriter, open_payloads, recently_open
from inferwatch.payload_log.joiner import MOST_OPEN, Joiner, Payload, Sought
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.reader import JournalReader
from inferwatch.payload_log.state import State
from inferwatch.status import DetectorStatus
from inferwatch.wire.decode import Decoded, decode
from inferwatch.wire.metadata import request_id

logger = logging.getLogger(__name__)

REFERENCE_TYPE = "io.inferwatch.reference"
"""An event of the journal that is no payload: a saved reference, accepted for a service from its place on."""

BATCH_EVENTS = 2_000
BATCH_BYTES = 32 * 1024 * 1024
COMMIT_INTERVAL_S = 0.25
RETRY_S = 1.0
GATHER_S = 0.02
"""After a batch that was not full: many events at once cost a third of what few at a time do."""
JOIN_S = 3.0


class Item(NamedTuple):
    """One event of the journal on its way to the detectors.

    `time_ns` is the event's time to go by, `arrival_ns` when it came; `outcome` says what is known of its payload. An
    explanation has no `role` and no rows, and is no part of a payload.
    """

    event: CloudEvent
    stream: Stream
    role: Role | None
    time_ns: int
    decoded: Decoded
    payload_key: str
    excluded: str | None
    arrival_ns: int
    outcome: str


class Judge(Protocol):
    """Whatever looks at the decoded events in the order of the journal."""

    def judge(self, items: Sequence[Item], /) -> Sequence[Finding]:
        """Return what the items show."""
        ...

    def dump(self) -> Mapping[str, bytes | None]:
        """Return the states that changed since the last dump, by name; None for one that is gone."""
        ...

    def load(self, states: Mapping[str, bytes], /) -> None:
        """Forget everything and continue from the states of an earlier dump."""
        ...

    def statuses(self) -> Sequence[DetectorStatus]:
        """Return where every detector stands."""
        ...


@runtime_checkable
class Accepting(Protocol):
    """A judge that takes another reference where the journal says so."""

    def accept(self, service: Service, reference: bytes, /) -> None:
        """Compare the service's inputs with the saved reference from now on."""
        ...


class Watcher(Protocol):
    """Counts what passes; the metrics implement it."""

    def processed(self, items: Sequence[Item], joins: Mapping[str, int], pending: int) -> None:
        """Take note of events that were joined, of what the joiner says became of halves, and of how many are open."""
        ...


class Pipeline:
    """One thread between `start` and `stop`."""

    def __init__(
        self,
        journal: Journal,
        state: State,
        judge: Judge,
        *,
        pair_timeout_s: float,
        clock: Clock,
        watcher: Watcher | None = None,
        exclusion: Exclusion | None = None,
    ) -> None:
        self._journal = journal
        self._state = state
        self._judge = judge
        self._pair_timeout_s = pair_timeout_s
        self._clock = clock
        self._watcher = watcher
        self._exclusion = exclusion or Exclusion()
        self._thread = threading.Thread(target=self._run, name="inferwatch-pipeline", daemon=True)
        self._stopping = threading.Event()
        self._stop_at_s = float("inf")
        self._abandoned = False
        self._committed = threading.Condition()
        self._committed_offset = state.position()
        if self._committed_offset > journal.end():
            raise PayloadLogError(
                f"{journal.directory}: state.db goes on to offset {self._committed_offset} and log.db ends at"
                f" {journal.end()}, so they do not belong together; without state.db it is derived anew"
            )
        self.fault: str | None = None

    def start(self) -> None:
        """Begin to follow the journal."""
        self._thread.start()

    def stop(self, patience_s: float = 5.0) -> None:
        """Derive what the journal holds by now, as far as the patience goes, commit, and end the thread."""
        self._stop_at_s = time.monotonic() + patience_s
        self._stopping.set()
        self._journal.wake()
        self._thread.join(patience_s + JOIN_S)
        if self._thread.is_alive():
            self._abandoned = True
            logger.warning("stopped amidst what is being judged; the next start judges it again")

    def wait_for(self, offset: int, timeout_s: float) -> bool:
        """Return whether everything up to the journal offset is derived, waiting for it at most so long."""
        with self._committed:
            return self._committed.wait_for(lambda: self._committed_offset >= offset, timeout_s)

    def _run(self) -> None:
        while True:
            try:
                self._follow(_Step(self._state, self._judge, self._pair_timeout_s, self._watcher, self._exclusion))
            except Exception as fault:  # noqa: BLE001 - a thread that ended would leave everything unjudged, unseen
                if self._abandoned:  # and the state is closed
                    return
                self._failed(fault)
            if self._stopping.wait(RETRY_S if self.fault else 0):
                return

    def _follow(self, step: _Step) -> None:
        last_commit_s, commit_cost_s = 0.0, 0.0
        while True:
            stopping = self._stopping.is_set()
            entries = self._journal.read(step.position, BATCH_EVENTS, max_bytes=BATCH_BYTES)
            if entries:
                step.take(entries)
            pause_s = max(COMMIT_INTERVAL_S, 10 * commit_cost_s)
            late = time.monotonic() >= self._stop_at_s
            if step.dirty and (not entries or late or time.monotonic() - last_commit_s >= pause_s):
                started_s = time.monotonic()
                step.commit()
                last_commit_s = time.monotonic()
                commit_cost_s = last_commit_s - started_s
                self._announce(step.position)
                if late:
                    return
            elif not entries:
                self.fault = None
                if stopping:
                    return
                self._journal.wait(step.position, None, unless=self._stopping)
            elif len(entries) < BATCH_EVENTS:
                self._stopping.wait(GATHER_S)

    def _failed(self, fault: Exception) -> None:
        expected = isinstance(fault, PayloadLogError)
        text = str(fault) if expected else f"{type(fault).__name__}: {fault}"
        if text != self.fault:
            logger.error("the pipeline cannot go on, tries each %g s: %s", RETRY_S, text, exc_info=not expected)
        self.fault = text

    def _announce(self, offset: int) -> None:
        self.fault = None
        with self._committed:
            self._committed_offset = offset
            self._committed.notify_all()


def derive(
    log: JournalReader, state: State, judge: Judge, *, pair_timeout_s: float, exclusion: Exclusion | None = None
) -> None:
    """Derive in one go what a log holds by now, as the pipeline does that follows it. Raises `PayloadLogError`."""
    step = _Step(state, judge, pair_timeout_s, None, exclusion or Exclusion())
    end = log.end()
    while step.position < end and (entries := log.read(step.position, BATCH_EVENTS, max_bytes=BATCH_BYTES)):
        step.take(entries)
        step.commit()


class _Step:
    """What was derived since the last commit, on top of the committed state it began from."""

    def __init__(
        self,
        state: State,
        judge: Judge,
        pair_timeout_s: float,
        watcher: Watcher | None,
        exclusion: Exclusion,
    ) -> None:
        self._state = state
        self._judge = judge
        self._watcher = watcher
        self._exclusion = exclusion
        self.position = state.position()
        self.dirty = False
        self._payloads: dict[str, Payload] = {}
        self._fresh: dict[str, list[Payload]] = {}
        self._findings: list[Finding] = []
        self._explanations: list[tuple[int, ExplanationEvent]] = []
        self._counts: dict[Stream, tuple[int, int, int]] = {}
        with state.read() as connection:
            latest = connection.execute("SELECT max(last_event_ns) FROM streams").fetchone()[0] or 0
            still_open = recently_open(connection, latest - round(pair_timeout_s * NS_PER_S), MOST_OPEN)
            judge.load(dict(connection.execute("SELECT name, state FROM judges").fetchall()))
        with state.transaction() as connection:
            self._writer = PayloadWriter(connection)
            save_statuses(connection, judge.statuses())
        self._joiner = Joiner(pair_timeout_s, self._find_open)
        self._joiner.restore(still_open, latest)

    def take(self, entries: Sequence[Entry]) -> None:
        """Decode, join and judge the entries."""
        items: list[Item] = []
        judged = 0
        for entry in entries:
            if entry.event.type == REFERENCE_TYPE and isinstance(self._judge, Accepting):
                self._findings.extend(self._judge.judge(items[judged:]))
                judged = len(items)
                self._judge.accept(entry.event.stream.service, entry.event.data)
            elif (item := self._item(entry)) is not None:
                items.append(item)
        self._findings.extend(self._judge.judge(items[judged:]))
        if self._watcher is not None:
            payloads = [item for item in items if item.role is not None]
            self._watcher.processed(payloads, self._joiner.take_outcomes(), self._joiner.pending)
        self.position = entries[-1].offset
        self.dirty = True

    def commit(self) -> None:
        """Keep everything that was derived, with the position."""
        with self._state.transaction() as connection:
            self._writer.save(self._payloads.values())
            self._writer.count((stream, *numbers) for stream, numbers in self._counts.items())
            save_findings(connection, self._findings)
            save_explanations(connection, self._explanations)
            save_statuses(connection, self._judge.statuses())
            _save_states(connection, self._judge.dump())
            connection.execute("UPDATE position SET log_offset = ?", (self.position,))
        self._payloads.clear()
        self._fresh.clear()
        self._findings.clear()
        self._explanations.clear()
        self._counts.clear()
        self.dirty = False

    def _item(self, entry: Entry) -> Item | None:
        """Return the event with the payload that it belongs to; None where it is neither that nor an explanation."""
        event = entry.event
        role = event.role
        if role is None:
            return self._explanation(entry)
        stream, decoded = event.stream, _decoded(event, role)
        payload = self._joiner.join(
            _half(entry, role, stream, decoded, self._exclusion.reason(event, decoded.protocol))
        )
        if payload.key not in self._payloads:
            self._payloads[payload.key] = payload
            self._fresh.setdefault(payload.id, []).append(payload)
        self._count(stream, decoded.rows.count if decoded.rows is not None and role is Role.REQUEST else 0, entry)
        return Item(
            event,
            stream,
            role,
            entry.time_ns,
            decoded,
            payload.key,
            payload.excluded,
            entry.arrival_ns,
            payload.outcome,
        )

    def _explanation(self, entry: Entry) -> Item | None:
        told = ExplanationEvent.of(entry.event)
        if told is None:
            return None
        self._explanations.append((entry.offset, told))
        event, nothing = entry.event, Decoded("explanation")
        return Item(event, event.stream, None, entry.time_ns, nothing, told.id, None, entry.arrival_ns, "explanation")

    def _count(self, stream: Stream, brought: int, entry: Entry) -> None:
        events, rows, latest = self._counts.get(stream, (0, 0, 0))
        self._counts[stream] = (events + 1, rows + brought, max(latest, entry.time_ns))

    def _find_open(self, sought: Sought) -> Sequence[Payload]:
        """Return the open payloads of the index, as they are by now, and those that are not yet in it."""
        with self._state.read() as connection:
            kept = open_payloads(connection, sought)
        fresh = [payload for payload in self._fresh.get(sought.id, ()) if payload.stream == sought.stream]
        known = {payload.key for payload in fresh}
        return [*fresh, *(payload for payload in kept if payload.key not in known)]


def _save_states(connection: sqlite3.Connection, states: Mapping[str, bytes | None]) -> None:
    connection.executemany("DELETE FROM judges WHERE name = ?", [(name,) for name in states])
    connection.executemany(
        "INSERT INTO judges (name, state) VALUES (?, ?)",
        [(name, state) for name, state in states.items() if state is not None],
    )


def _decoded(event: CloudEvent, role: Role) -> Decoded:
    decoded = decode(event.data, role)
    if event.truncated and decoded.rows is None:
        return Decoded(decoded.protocol, None, "the body was cut at the size limit")
    return decoded


def _half(entry: Entry, role: Role, stream: Stream, decoded: Decoded, excluded: str | None) -> Payload:
    request = role is Role.REQUEST
    return Payload(
        key=urlsafe_b64encode(entry.key).rstrip(b"=").decode(),
        id=entry.event.inference_id,
        stream=stream,
        protocol=decoded.protocol,
        rows=decoded.rows.count if decoded.rows is not None else 0,
        request_offset=entry.offset if request else None,
        response_offset=None if request else entry.offset,
        request_time_ns=entry.time_ns if request else None,
        response_time_ns=None if request else entry.time_ns,
        status=_status(entry.event),
        truncated=entry.event.truncated,
        excluded=excluded,
        fault=decoded.fault,
        sender=entry.event.extensions.get(SENDER, ""),
        request_id=request_id(entry.event),
    )


def _status(event: CloudEvent) -> int | None:
    text = event.extensions.get("statuscode", "")
    return int(text) if text.isdecimal() and len(text) == 3 else None
