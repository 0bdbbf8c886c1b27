"""Records of a topic reach the payload log once, whatever they hold and whatever fails in between."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from inferwatch.clock import NS_PER_S, ManualClock, format_time
from inferwatch.errors import TransportError
from inferwatch.events import REQUEST_TYPE, CloudEvent
from inferwatch.payload_log.dead_letter import DeadLetter
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.positions import Positions
from inferwatch.redaction import Redaction
from inferwatch.transport.consumer import Follower, Record
from inferwatch.wire.kafka import to_kafka, to_kafka_structured
from inferwatch_logger.topic_reader import TopicReader
from tests.inferences import NOON, request, response
from tests.waiting import eventually

NOON_MS = NOON // 1_000_000


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look after the topic, and try everything again, at once."""
    for pause in ("inferwatch_logger.topic_reader._RETRY_S", "inferwatch_logger.topic_reader._LOOK_S"):
        monkeypatch.setattr(pause, 0.02)
    monkeypatch.setattr("inferwatch.payload_log.journal._RETRY_S", 0.02)


class Topic:
    """Records by partition; a consumer of it reads one record at a time, from where the follower stands."""

    def __init__(self) -> None:
        self.records: dict[int, list[Record]] = {}
        self.committed: dict[int, int] = {}
        self.commits = 0
        self.answering = True
        self.opened = 0
        self.unassigned = 0
        self.elsewhere: set[int] = set()
        self.fault: TransportError | None = None

    def put(self, *records: tuple[Sequence[tuple[str, bytes | None]], bytes | None], partition: int = 0) -> None:
        held = self.records.setdefault(partition, [])
        for headers, value in records:
            held.append(Record(partition, len(held), NOON_MS + len(held), headers, value))

    def events(self, *events: CloudEvent, partition: int = 0) -> None:
        for event in events:
            _, headers, value = to_kafka(event)
            self.put((headers, value), partition=partition)

    def open(self, follower: Follower) -> Reading:
        self.opened += 1
        if self.fault is not None:
            raise self.fault
        return Reading(self, follower)


class Reading:
    def __init__(self, topic: Topic, follower: Follower) -> None:
        self._topic = topic
        self._follower = follower
        self.ours = topic.records.keys() - topic.elsewhere if topic.opened > topic.unassigned else None
        self._next = {part: follower.position(part) or 0 for part in topic.records}

    def poll(self, timeout_s: float, /) -> Sequence[Record]:
        if self._topic.fault is not None:
            raise self._topic.fault
        held_by = {part: self._topic.records[part] for part in self.ours or ()}
        found = [held[self._next[part]] for part, held in held_by.items() if self._next[part] < len(held)]
        for record in found:
            self._next[record.partition] += 1
        if not found:
            time.sleep(min(timeout_s, 0.005))
        return found

    def commit(self, positions: Mapping[int, int], /) -> None:
        self._topic.commits += 1
        self._topic.committed.update(positions)

    @property
    def told(self) -> bool:
        return self._topic.answering or self._topic.commits == 0

    def reach(self) -> int:
        if self._topic.fault is not None:
            raise self._topic.fault
        return len(self._topic.records)

    def ends(self) -> Mapping[int, int]:
        return {part: len(held) for part, held in self._topic.records.items()}

    def close(self) -> None:
        self._follower.leave()


class Bench:
    def __init__(self, directory: Path, journal: Journal, topic: Topic, redact: Sequence[str] = ()) -> None:
        self.journal = journal
        self.topic = topic
        self.path = directory / "dead-letter.jsonl"
        clock, redaction = ManualClock(NOON + 3600 * NS_PER_S), Redaction(redact)
        self.reader = TopicReader(
            topic.open,
            journal,
            Positions(journal, "t"),
            DeadLetter(directory, clock=clock, redaction=redaction),
            max_body_bytes=1000,
            clock=clock,
            redaction=redaction,
        )

    def until(self, condition: Callable[[], bool]) -> None:
        eventually("the topic is read as expected", condition)

    def read(self, received: int) -> dict[str, Any]:
        """Wait until so much was received, and return the account."""
        self.until(lambda: self.journal.ledger().received >= received)
        return self.journal.ledger().as_dict()

    def letters(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.path.read_text().splitlines()]


@contextmanager
def reading(directory: Path, topic: Topic, redact: Sequence[str] = ()) -> Iterator[Bench]:
    with Journal.open(directory, clock=ManualClock(NOON)) as journal:
        bench = Bench(directory, journal, topic, redact)
        bench.reader.start()
        try:
            yield bench
        finally:
            bench.reader.stop()


def test_events_are_read_whole_in_order_and_go_on_after_a_restart(tmp_path: Path) -> None:
    topic = Topic()
    sent = [request("a", 0, [[1]]), response("a", 1, [2]), request("b", 2, [[3]])]
    topic.events(*sent)
    with reading(tmp_path, topic) as bench:
        assert bench.read(3)["stored"] == 3
        assert [entry.event for entry in bench.journal.read(0, 10)] == sent
        bench.until(lambda: topic.committed == {0: 3})
        bench.until(lambda: bench.reader.fault is None)
        bench.until(lambda: dict(bench.reader.lags()) == {0: 0})
    topic.committed = {0: 0}  # the group forgot
    topic.events(request("c", 3, [[4]]))
    with reading(tmp_path, topic) as bench:
        account = bench.read(4)
        assert (account["received"], account["stored"], account["duplicate"]) == (4, 4, 0)


def test_the_group_is_told_one_thing_at_a_time_and_the_rest_on_leaving(tmp_path: Path) -> None:
    topic = Topic()
    topic.answering = False
    topic.events(*(request(str(number), number, [[1]]) for number in range(20)))
    with reading(tmp_path, topic) as bench:
        bench.read(20)
        bench.until(lambda: topic.commits == 1)
        assert topic.committed[0] < 20
    assert topic.committed == {0: 20}
    assert topic.commits == 2


def test_an_event_arrives_when_it_was_put_on_the_topic(tmp_path: Path) -> None:
    topic = Topic()
    topic.events(CloudEvent("a", "/s", REQUEST_TYPE, data=b"1"), CloudEvent("b", "/s", REQUEST_TYPE, data=b"2"))
    topic.records[0].append(topic.records[0][0]._replace(offset=2, timestamp_ms=-1, value=b"3"))
    topic.records[0].append(topic.records[0][0]._replace(offset=3, timestamp_ms=NOON_MS * 2, value=b"4"))
    with reading(tmp_path, topic) as bench:
        bench.read(4)
        now_ns = NOON + 3600 * NS_PER_S
        times = [entry.time_ns for entry in bench.journal.read(0, 10)]
        assert times == [NOON, NOON + 1_000_000, now_ns, now_ns]


def test_poison_goes_to_the_dead_letter_and_reading_goes_on(tmp_path: Path) -> None:
    topic = Topic()
    fields: list[tuple[str, bytes | None]] = [("ce_specversion", b"1.0"), ("ce_source", b"/s"), ("ce_id", b"1")]
    kind = ("ce_type", REQUEST_TYPE.encode())
    topic.put(
        ([], b"text"),
        ([], None),
        ([("ce_id", b"\xff\xfe"), ("CE_TYPE", None)], b"\xff"),
        ([*fields, kind, ("ce_time", b"soon"), ("ce_authorization", b"hunter2")], b"{}"),
        ([("content-type", b"application/cloudevents+json")], b'{"specversion": "1.0", "cookie": "hunter2"}'),
        ([("content-type", b"application/cloudevents-batch+json")], b"[1, {}"),
        ([*fields, ("ce_type", b"io.inferwatch.finding.drift")], b"{}"),
    )
    topic.events(request("good", 0, [[1]]))
    _, headers, value = to_kafka_structured(response("good", 1, [1]))
    topic.put((headers, value))
    with reading(tmp_path, topic) as bench:
        account = bench.read(9)
        assert account["stored"] == 2
        assert account["ignored"] == {"io.inferwatch.finding.drift": 1}
        assert account["malformed"] == {"bad_json": 1, "bad_time": 1, "missing_attribute": 4}
        letters = bench.letters()
        assert len(letters) == 6
        assert [letter["attributes"]["kafkaoffset"] for letter in letters] == list("012345")
        assert "hunter2" not in bench.path.read_text()


def test_what_is_redacted_is_not_stored(tmp_path: Path) -> None:
    topic = Topic()
    topic.events(request("a", 0, [[1, 2]]))
    with reading(tmp_path, topic, ("$.instances[*][1]",)) as bench:
        bench.read(1)
        assert bench.journal.read(0, 1)[0].event.data == b'{"instances":[[1,null]]}'


def test_a_body_above_the_limit_is_stored_cut(tmp_path: Path) -> None:
    topic = Topic()
    topic.events(request("a", 0, b"x" * 1000), request("b", 0, b"x" * 1001))
    with reading(tmp_path, topic) as bench:
        bench.read(2)
        found = [(entry.event.data, entry.event.truncated) for entry in bench.journal.read(0, 10)]
        assert found == [(b"x" * 1000, False), (b"x" * 1000, True)]


def test_brokers_that_fail_are_asked_again_and_nothing_is_read_twice(tmp_path: Path) -> None:
    topic = Topic()
    topic.fault = TransportError("nobody is there")
    topic.events(*(request(str(number), number, [[number]]) for number in range(5)))
    with reading(tmp_path, topic) as bench:
        bench.until(lambda: topic.opened >= 2)
        assert bench.reader.fault == "nobody is there"
        topic.fault = None
        bench.read(5)
        topic.fault = TransportError("gone again")
        bench.until(lambda: bench.reader.fault == "gone again")
        topic.events(request("more", 9, [[9]]))
        topic.fault = None
        account = bench.read(6)
        assert (account["received"], account["stored"]) == (6, 6)
        bench.until(lambda: bench.reader.fault is None)


def test_a_group_that_assigns_nothing_is_joined_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inferwatch_logger.topic_reader._JOIN_S", 0.1)
    topic = Topic()
    topic.unassigned = 1
    topic.events(request("a", 0, [[1]]))
    with reading(tmp_path, topic) as bench:
        bench.until(lambda: "assigned no partitions" in (bench.reader.fault or ""))
        bench.read(1)
        assert topic.opened == 2
        bench.until(lambda: bench.reader.fault is None)


def test_partitions_that_others_read_are_told_of(tmp_path: Path) -> None:
    topic = Topic()
    for partition in range(4):
        topic.events(request("a", partition, [[1]]), partition=partition)
    topic.elsewhere = {0, 2, 3}
    with reading(tmp_path, topic) as bench:
        bench.until(lambda: "1 of 4 partitions" in (bench.reader.share.fault or ""))
        assert bench.read(1)["received"] == 1
        assert bench.reader.fault is None
        topic.elsewhere = set()
        topic.fault = TransportError("gone")
        bench.until(lambda: bench.reader.fault == "gone")
        topic.fault = None
        assert bench.read(4)["received"] == 4
        bench.until(lambda: bench.reader.share.fault is None)


def test_a_log_that_cannot_be_written_stops_reading_and_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = Topic()
    topic.events(request("a", 0, [[1]]))
    with reading(tmp_path, topic) as bench:
        bench.read(1)
        original = Journal._transaction

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(Journal, "_transaction", full)
        topic.events(*(request(str(number), number, [[number]]) for number in range(5)))
        bench.until(lambda: "No space left" in (bench.reader.fault or ""))
        monkeypatch.setattr(Journal, "_transaction", original)
        account = bench.read(6)
        assert (account["received"], account["stored"], account["refused"]) == (6, 6, {})
        assert format_time(bench.journal.read(0, 1)[0].time_ns) == "2026-11-21T12:00:00Z"
