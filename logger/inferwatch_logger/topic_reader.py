"""Reads a topic into the payload log, each record once: the position is committed with the events before it.

What is no event goes to the dead letter, and reading goes on. Where the brokers or the log fail, reading begins again
from what the log has, for as long as it takes.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Final

from inferwatch.aliases import Aliases
from inferwatch.clock import Clock
from inferwatch.errors import ConfigError, InvalidEvent, PayloadLogError, TransportError
from inferwatch.events import CloudEvent
from inferwatch.payload_log.dead_letter import DeadLetter
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.positions import Positions
from inferwatch.redaction import Redaction
from inferwatch.transport.consumer import Consumer, Follower, Record
from inferwatch.wire.kafka import from_kafka
from inferwatch_logger.received import bury, sorted_out

logger = logging.getLogger(__name__)

_POLL_S: Final = 0.2
_RETRY_S: Final = 0.5
_LOOK_S: Final = 2.0
_JOIN_S: Final = 20.0
"""A group that has assigned nothing for so long, more than a session, is joined anew."""
_NS_PER_MS: Final = 1_000_000


@dataclass(slots=True)
class Share:
    """How much of a topic its reader has."""

    fault: str | None = None
    """What is to be known where others read a part of it; None where all of it is ours."""


@dataclass(slots=True)
class _Batch:
    """What some records hold, when each event arrived, and where each partition goes on behind them."""

    events: list[CloudEvent] = field(default_factory=list)
    arrivals_ns: list[int] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    malformed: list[str] = field(default_factory=list)
    offsets: dict[int, int] = field(default_factory=dict)


class TopicReader:
    """One thread between `start` and `stop`. An event arrives when it was put on the topic, not when it is read.

    `open_consumer` is called again after every failure of a consumer.
    """

    def __init__(
        self,
        open_consumer: Callable[[Follower], Consumer],
        journal: Journal,
        positions: Positions,
        dead_letter: DeadLetter,
        *,
        max_body_bytes: int,
        clock: Clock,
        redaction: Redaction | None = None,
        aliases: Aliases | None = None,
    ) -> None:
        self._open_consumer = open_consumer
        self._journal = journal
        self._positions = positions
        self._dead_letter = dead_letter
        self._max_body_bytes = max_body_bytes
        self._clock = clock
        self._redaction = redaction or Redaction()
        self._aliases = aliases or Aliases()
        self._consumer: Consumer | None = None
        self._under_way: tuple[Future[int], dict[int, int]] | None = None
        self._untold: dict[int, int] = {}
        self._looked_s = 0.0
        self._assigned_s = 0.0
        self._lags: Mapping[int, int] = {}
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="inferwatch-topic-reader", daemon=True)
        self.fault: str | None = "no broker has answered yet"
        self.share = Share()

    def start(self) -> None:
        """Begin to read."""
        self._thread.start()

    def stop(self, patience_s: float = 4.0) -> None:
        """Commit what was read, leave the group, and end the thread, as far as the patience goes."""
        self._stopping.set()
        self._thread.join(patience_s)

    def lags(self) -> Mapping[int, int]:
        """Return how many records of each of our partitions were not read when that was last looked at."""
        return self._lags

    def position(self, partition: int, /) -> int | None:
        """Return what the log has of a partition."""
        return self._positions.get(partition)

    def leave(self) -> None:
        """Wait for the commit under way and tell the group, before partitions go to another member of it."""
        with suppress(PayloadLogError):  # then the position is where it was
            self._settle()
        self._tell()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._follow()
            except (TransportError, PayloadLogError, ConfigError) as error:
                self._failed(str(error))
            except Exception as error:
                logger.exception("reading the topic failed")
                self._failed(f"{type(error).__name__}: {error}")
            while not self._stopping.wait(_RETRY_S) and self._journal.fault is not None:
                self._failed(self._journal.fault)

    def _failed(self, fault: str) -> None:
        if fault != self.fault:
            logger.warning("the topic is not read at present: %s", fault)
        self.fault = fault

    def _follow(self) -> None:
        self._under_way = None
        self._untold.clear()
        self._assigned_s = time.monotonic()
        self._consumer = self._open_consumer(self)
        try:
            while not self._stopping.is_set():
                self._look()
                records = self._consumer.poll(_POLL_S)
                batch = self._read(records)
                self._settle()
                if records:
                    self._append(batch)
                if self._consumer.told:
                    self._tell()
            self.leave()
        finally:
            self._consumer.close()
            self._consumer = None

    def _look(self) -> None:
        """See from time to time how the brokers are, and how far behind we are."""
        if self._consumer is None or time.monotonic() < self._looked_s + (_RETRY_S if self.fault else _LOOK_S):
            return
        try:
            partitions = self._consumer.reach()
        except TransportError as error:
            self._assigned_s = time.monotonic()
            self._failed(str(error))
        else:
            self.fault = self._unassigned(self._consumer)
            self._compare(self._consumer.ours, partitions)
            ends = self._consumer.ends()
            self._lags = {part: max(0, end - (self._positions.get(part) or 0)) for part, end in ends.items()}
        self._looked_s = time.monotonic()

    def _unassigned(self, consumer: Consumer) -> str | None:
        """Return that the group has assigned nothing yet. Raises `TransportError` where that takes too long."""
        now_s = time.monotonic()
        if consumer.ours is not None:
            self._assigned_s = now_s
            return None
        fault = "the group has assigned no partitions yet"
        if now_s > self._assigned_s + _JOIN_S:
            raise TransportError(fault)
        return fault

    def _compare(self, ours: Collection[int] | None, partitions: int) -> None:
        if ours is None:
            return
        shared = (
            f"{len(ours)} of {partitions} partitions are read here, into this log; the others elsewhere in the group"
        )
        told = shared if len(ours) < partitions else None
        if told not in (None, self.share.fault):
            logger.warning(told)
        self.share.fault = told

    def _read(self, records: Sequence[Record]) -> _Batch:
        batch = _Batch()
        now_ns = self._clock.now_ns()
        for record in records:
            received = sorted_out(from_kafka(record.headers, record.value), self._redaction, self._aliases)
            if received.faults:
                self._bury(record, received.faults)
            arrival_ns = min(record.timestamp_ms * _NS_PER_MS, now_ns) if record.timestamp_ms > 0 else now_ns
            batch.events += map(self._cut, received.events)
            batch.arrivals_ns += [arrival_ns] * len(received.events)
            batch.ignored += received.ignored
            batch.malformed += received.malformed
            batch.offsets[record.partition] = record.offset + 1
        return batch

    def _append(self, batch: _Batch) -> None:
        done = self._journal.append(
            batch.events,
            ignored=batch.ignored,
            malformed=batch.malformed,
            arrivals_ns=batch.arrivals_ns,
            also=self._positions.keeping(batch.offsets),
        )
        self._under_way = done, batch.offsets

    def _settle(self) -> None:
        """Wait for the commit under way."""
        if self._under_way is None:
            return
        (done, offsets), self._under_way = self._under_way, None
        done.result()
        self._positions.kept(offsets)
        self._untold |= offsets

    def _tell(self) -> None:
        """Tell the group how far the log is."""
        if self._untold and self._consumer is not None:
            self._consumer.commit(self._untold)
            self._untold = {}

    def _cut(self, event: CloudEvent) -> CloudEvent:
        if len(event.data) <= self._max_body_bytes:
            return event
        return replace(event, data=event.data[: self._max_body_bytes], truncated=True)

    def _bury(self, record: Record, faults: Sequence[tuple[int, InvalidEvent]]) -> None:
        headers = {name.lower(): (value or b"").decode("utf-8", "replace") for name, value in record.headers}
        kind = headers.get("content-type", "").lower()
        attributes = {name.removeprefix("ce_"): value for name, value in headers.items()}
        place = {"kafkapartition": str(record.partition), "kafkaoffset": str(record.offset)}
        envelope = kind.startswith("application/cloudevents")
        body = record.value or b""
        bury(self._dead_letter, faults, attributes | place, body, envelope=envelope, batch="batch" in kind)
