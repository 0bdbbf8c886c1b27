"""Sealed or not, the log reads the same; what is past its retention is gone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

import inferwatch
from inferwatch.clock import NS_PER_S, ManualClock
from inferwatch.errors import PayloadLogError
from inferwatch.events import CloudEvent, Service
from inferwatch.payload_log import segment
from inferwatch.payload_log.database import connect
from inferwatch.payload_log.entry import Entry
from inferwatch.payload_log.erasure import WithValue, erase, with_id
from inferwatch.payload_log.index import PayloadFilter, list_payloads
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.reader import JournalReader
from inferwatch.payload_log.sealing import Sealer
from inferwatch.payload_log.state import State
from inferwatch.payload_log.views import count_services
from tests.core.payload_log.test_erasure import INCOME, PERSON, holding, take, traffic
from tests.core.pipeline.deriving import EVENING, content, derive, state_in
from tests.core.pipeline.deriving import traffic as mixed_traffic
from tests.inferences import NOON, request, response

DAY_NS = 86_400 * NS_PER_S
ODD = [
    CloudEvent("no time", "s", "org.kubeflow.serving.inference.request", data=b"\0\xff"),
    CloudEvent("year 1", "s", "org.kubeflow.serving.inference.response", -62_135_596_800 * NS_PER_S, "text/plain"),
    CloudEvent("ahead", "s", "org.kubeflow.serving.inference.request", EVENING + DAY_NS, extensions={"a": "\0ü"}),
    CloudEvent("to the ns", "s", "org.kubeflow.serving.inference.request", NOON + 1, data=b"", truncated=True),
    CloudEvent("../\0", "", "other", NOON, extensions={"namespace": "", "metadata": '{"A":["b"]}'}),
]


def sealer_of(journal: Journal, **options: Any) -> Sealer:
    settings = {"segment_bytes": 1 << 20, "segment_age_s": 3600.0, "retention_s": None, "clock": ManualClock(EVENING)}
    return Sealer(journal, **(settings | options))


@pytest.fixture
def journal(tmp_path: Path) -> Iterator[Journal]:
    with Journal.open(tmp_path, clock=ManualClock(EVENING)) as opened:
        yield opened


def entries(directory: Path) -> list[Entry]:
    with JournalReader(directory) as reader:
        return list(reader.entries())


def files(directory: Path) -> list[str]:
    return sorted(path.name for path in (directory / "segments").glob("*"))


def keys(directory: Path) -> list[int]:
    """Return the offsets of which the database has a row, emptied or not."""
    with closing(connect(directory / "log.db", read_only=True)) as log:
        return [offset for (offset,) in log.execute("SELECT offset FROM events ORDER BY offset")]


def raw_rows(directory: Path) -> int:
    """Return how many events lie in the database with their bodies."""
    with closing(connect(directory / "log.db", read_only=True)) as log:
        return int(log.execute("SELECT count(*) FROM events WHERE head <> x''").fetchone()[0])


@pytest.mark.parametrize("group_rows", [1, 3, 4096])
def test_every_event_comes_back_as_it_was(
    journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, group_rows: int
) -> None:
    monkeypatch.setattr(segment, "GROUP_ROWS", group_rows)
    journal.append([*ODD, *mixed_traffic()]).result()
    before = entries(tmp_path)
    sealed = sealer_of(journal).seal(everything=True)
    assert sealed is not None
    assert (sealed.first_offset, sealed.last_offset, sealed.rows) == (1, len(before), len(before))
    assert raw_rows(tmp_path) == 0
    assert entries(tmp_path) == before
    assert [journal.get(entry.offset) for entry in before] == before
    assert journal.get(len(before) + 1) is None
    with JournalReader(tmp_path) as reader:
        assert reader.read(3, 2) == before[3:5]
        assert reader.read(0, 99, max_bytes=1) == before[:1]


def test_the_log_goes_on_behind_what_is_sealed(journal: Journal, tmp_path: Path) -> None:
    sealer = sealer_of(journal)
    assert sealer.seal(everything=True) is None
    for part in range(3):
        journal.append([request(f"{part}-{number}", part, [[number]]) for number in range(4)]).result()
        if part < 2:
            sealer.seal(everything=True)
    assert files(tmp_path) == [f"{first:016d}.parquet" for first in (1, 5)]
    assert [entry.offset for entry in entries(tmp_path)] == list(range(1, 13))
    with JournalReader(tmp_path) as reader:
        assert [entry.offset for entry in reader.read(3, 99)] == [4]
        assert [entry.offset for entry in reader.read(8, 99)] == [9, 10, 11, 12]
    journal.append([request("0-0", 0, [[0]])]).result()
    assert (journal.ledger().stored, journal.ledger().duplicate) == (12, 1)


def test_size_and_age_say_when(tmp_path: Path) -> None:
    clock = ManualClock(EVENING)
    with Journal.open(tmp_path, clock=clock) as journal:
        sealer = sealer_of(journal, segment_bytes=10_000, segment_age_s=60, clock=clock)
        journal.append([request("small", 0, [[1]])]).result()
        assert sealer.seal() is None
        clock.advance(60)
        assert sealer.seal() is not None
        assert sealer.seal() is None
        for number in range(30):
            journal.append([request(f"{number}", 0, [[0] * 500])]).result()
        sizes = [part.rows for part in iter(sealer.seal, None)]
        assert sizes == [10, 10, 10]


def test_what_is_derived_from_sealed_events_is_the_same(journal: Journal, tmp_path: Path) -> None:
    journal.append(mixed_traffic()).result()
    with state_in(tmp_path / "before") as state:
        expected = derive(journal, state)
    sealer_of(journal, segment_bytes=1000).seal()
    with state_in(tmp_path / "half sealed") as state:
        assert derive(journal, state) == expected
    sealer_of(journal).seal(everything=True)
    with state_in(tmp_path / "sealed") as state:
        assert derive(journal, state) == expected
        assert content(state) == expected


def test_payloads_as_a_frame_are_the_same(tmp_path: Path) -> None:
    take(tmp_path, traffic())
    before = inferwatch.payloads("default/income", data=tmp_path)
    with Journal.open(tmp_path, clock=ManualClock(EVENING)) as journal:
        sealer_of(journal, segment_bytes=60).seal(everything=True)
        assert 0 < raw_rows(tmp_path) < 7
        assert inferwatch.payloads("default/income", data=tmp_path).equals(before)
        sealer_of(journal).seal(everything=True)
    assert inferwatch.payloads("default/income", data=tmp_path).equals(before)
    assert list(before["name"]) == ["Ann", PERSON, "Ann"]


def test_erasing_reaches_into_sealed_files(tmp_path: Path) -> None:
    take(tmp_path, traffic())
    with Journal.open(tmp_path, clock=ManualClock(EVENING)) as journal:
        sealer = sealer_of(journal)
        sealer.seal(everything=True)
        journal.append(ODD).result()
        sealer.seal(everything=True)
        assert erase_while_reading(tmp_path, journal) == [3, 4]
    assert erase(tmp_path, INCOME, WithValue("name", PERSON)) == 1
    assert [entry.offset for entry in entries(tmp_path)] == [1, 2, 5, 6, 7, 8, 9, 10, 11, 12]
    assert erase(tmp_path, INCOME, WithValue("name", "Ann")) == 2
    assert erase(tmp_path, Service("default", "other"), with_id("id-1")) == 1
    assert len(files(tmp_path)) == 1
    assert [entry.event for entry in entries(tmp_path)] == ODD


def erase_while_reading(directory: Path, journal: Journal) -> list[int]:
    with pytest.raises(PayloadLogError, match="in use"):
        erase(directory, INCOME, with_id("id-1"))
    return [entry.offset for entry in journal.read(0, 99) if entry.event.id == "id-1" and entry.offset < 7]


def test_nothing_of_an_erased_payload_is_left_in_any_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(segment, "COMPRESSION", "none")
    take(tmp_path, traffic())
    with Journal.open(tmp_path, clock=ManualClock(EVENING)) as journal:
        sealer_of(journal).seal(everything=True)
    assert [name for name in holding(tmp_path, PERSON) if name.endswith(".parquet")] != []
    erase(tmp_path, INCOME, with_id("id-1"))
    assert holding(tmp_path, PERSON) == []


def test_what_a_killed_process_left_is_tidied_up(tmp_path: Path) -> None:
    with Journal.open(tmp_path, clock=ManualClock(EVENING)) as journal:
        journal.append(traffic()).result()
        before = entries(tmp_path)
        sealer_of(journal).seal(everything=True)
        journal.run(lambda log: log.execute("UPDATE events SET head = x'01', data = x'01' WHERE offset > 5")).result()
        for name in ("0000000000000099.parquet", "0000000000000001.parquet.new"):
            (tmp_path / "segments" / name).write_bytes(b"half")
        sealer_of(journal).tidy()
        assert files(tmp_path) == ["0000000000000001.parquet"]
        assert raw_rows(tmp_path) == 0
        assert entries(tmp_path) == before


def test_a_sealed_file_that_is_gone_or_damaged_is_named(journal: Journal, tmp_path: Path) -> None:
    journal.append(traffic()).result()
    sealer_of(journal).seal(everything=True)
    path = tmp_path / "segments" / "0000000000000001.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(PayloadLogError, match=r"0000000000000001\.parquet: damaged"):
        entries(tmp_path)
    path.unlink()
    with pytest.raises(PayloadLogError, match=r"0000000000000001\.parquet: No such file"):
        entries(tmp_path)


def test_retention_counts_back_from_the_newest_event_of_the_service(tmp_path: Path) -> None:
    days = [request(f"{day}", day * 86_400, [[day]]) for day in range(-9, 1)]
    days += [response(f"{day}", day * 86_400 + 1, [day]) for day in range(-9, 1)]
    other = [request("old", -9 * 86_400, [[1]], inferenceservicename="other")]
    take(tmp_path, [*days, *other])
    with Journal.open(tmp_path, clock=ManualClock(EVENING)) as journal, State.open(tmp_path) as state:
        sealer = sealer_of(journal, retention_s=3.5 * 86_400)
        assert sealer.retain() == 6
        sealer.seal(everything=True)
        assert sealer.retain() == 0  # not due again
        sealer = sealer_of(journal, retention_s=3.5 * 86_400)
        assert sealer.retain() == 0
        left = {entry.event.id for entry in entries(tmp_path)}
        assert left == {"-3", "-2", "-1", "0", "old"}
        with state.read() as connection:
            assert {payload.id for _, payload in list_payloads(connection, PayloadFilter())} == left
            counts = {seen.service.name: (seen.events, seen.rows) for seen in count_services(connection)}
        assert counts == {"income": (8, 4), "other": (1, 1)}
        end = journal.end()
    assert end == 21


def test_a_file_past_its_retention_is_removed(tmp_path: Path) -> None:
    take(tmp_path, [request("old", -9 * 86_400, [[1]])])
    with Journal.open(tmp_path, clock=ManualClock(EVENING)) as journal:
        sealer_of(journal).seal(everything=True)
        assert len(files(tmp_path)) == 1
    take(tmp_path, [request("new", 0, [[1]])])
    with Journal.open(tmp_path, clock=ManualClock(EVENING)) as journal:
        sealer = sealer_of(journal, retention_s=86_400.0)
        assert sealer.retain() == 1
        assert files(tmp_path) == []
        assert [entry.event.id for entry in entries(tmp_path)] == ["new"]
        assert journal.get(1) is None


def test_the_keys_of_an_erased_file_go_with_those_of_the_next_one(tmp_path: Path) -> None:
    for number, day in enumerate((-9, -8, -7)):
        take(tmp_path, [request(f"{day}-{each}", day * 86_400, [[number, each]]) for each in range(3)])
        with Journal.open(tmp_path, clock=ManualClock(EVENING)) as journal:
            sealer_of(journal).seal(everything=True)
    for identity in ("-8-0", "-8-1", "-8-2"):
        erase(tmp_path, INCOME, with_id(identity))
    assert files(tmp_path) == ["0000000000000001.parquet", "0000000000000007.parquet"]
    assert keys(tmp_path) == list(range(1, 10)), "an erased event that is sent again is a duplicate"
    take(tmp_path, [request("new", -6 * 86_400, [[1]])])
    with Journal.open(tmp_path, clock=ManualClock(EVENING)) as journal:
        sealer_of(journal, retention_s=2.5 * 86_400).retain()
        assert keys(tmp_path) == list(range(4, 11)), "of the first file alone"
    take(tmp_path, [request("newer", 0, [[1]])])
    with Journal.open(tmp_path, clock=ManualClock(EVENING)) as journal:
        sealer_of(journal, retention_s=86_400.0).retain()
        assert files(tmp_path) == []
        assert keys(tmp_path) == [10, 11]


def test_the_thread_seals_and_ends(journal: Journal, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal.append(traffic()).result()
    sealer = sealer_of(journal, segment_bytes=100)
    monkeypatch.setattr("inferwatch.payload_log.sealing.EVERY_S", 0.01)
    sealer.start()
    while raw_rows(tmp_path):
        pass
    sealer.stop()
    assert sealer.fault is None
    assert [entry.event for entry in entries(tmp_path)] == traffic()


def test_other_tools_read_the_files_in_one_line(journal: Journal, tmp_path: Path) -> None:
    events = [request(f"{number}", 60 * (number // 4), [[number]], endpoint=f"e{number % 2}") for number in range(8)]
    for part in (events[:4], events[4:]):
        journal.append(part).result()
        sealer_of(journal).seal(everything=True)
    pattern = str(tmp_path / "segments" / "*.parquet")
    query = f"SELECT name, date_trunc('minute', time)::VARCHAR, count(*) FROM '{pattern}' GROUP BY ALL ORDER BY ALL"
    minutes = [(name, count) for name, _, count in duckdb.execute(query).fetchall()]
    assert minutes == [("income", 4), ("income", 4)]
    bodies = duckdb.execute(
        f"SELECT decode(data)::JSON->'$.instances[0][0]' FROM '{pattern}' ORDER BY \"offset\""
    ).fetchall()
    assert [int(body) for (body,) in bodies] == list(range(8))
    frame = pl.read_parquet(pattern).sort("offset")
    assert frame.columns == list(segment.COLUMNS)
    assert frame["id"].to_list() == [event.id for event in events]
    assert frame["data"].to_list() == [event.data for event in events]
    assert frame["time"].dt.epoch("ns").to_list() == [event.time_ns for event in events]  # whole seconds here
