"""Erased payloads are gone from every file, others are not, and the log goes on as before."""

from __future__ import annotations

import shutil
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from inferwatch.aliases import Aliases
from inferwatch.clock import ManualClock
from inferwatch.errors import Fault, InvalidEvent, PayloadLogError
from inferwatch.events import CloudEvent, Service, Stream
from inferwatch.finding import Finding
from inferwatch.payload_log.dead_letter import DeadLetter
from inferwatch.payload_log.erasure import Wanted, WithValue, erase, with_id
from inferwatch.payload_log.erasure_plan import FILE_NAME
from inferwatch.payload_log.feature_names import keep_feature_names
from inferwatch.payload_log.findings import FindingFilter, list_findings, save_findings
from inferwatch.payload_log.index import PayloadFilter, list_payloads
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.reader import JournalReader
from inferwatch.payload_log.state import State
from inferwatch.payload_log.views import count_services
from inferwatch.pipeline import Pipeline
from tests.core.pipeline.deriving import EVENING, RowCounter
from tests.inferences import NOON, request, response

INCOME = Service("default", "income")
PERSON = "Jane Roe of Elm Street"


def traffic() -> list[CloudEvent]:
    """Three payloads of income, one of another model; the second names somebody."""
    events = []
    for number, name in enumerate(["Ann", PERSON, "Ann"]):
        events += [
            request(f"id-{number}", number, [{"age": 30 + number, "name": name}]),
            response(f"id-{number}", number + 0.5, [{"class": number}]),
        ]
    return [*events, request("id-1", 9, [{"age": 31, "name": "Ann"}], inferenceservicename="other")]


def take(directory: Path, events: list[CloudEvent], *, derive: bool = True) -> list[str]:
    """Append the events, derive what they are where wanted, and return the ids in the index, newest first."""
    clock = ManualClock(EVENING)
    with Journal.open(directory, clock=clock) as journal, State.open(directory) as state:
        journal.append(events).result()
        if derive:
            pipeline = Pipeline(journal, state, RowCounter(), pair_timeout_s=60, clock=clock)
            pipeline.start()
            assert pipeline.wait_for(journal.end(), 120)
            pipeline.stop()
        with state.read() as connection:
            return [payload.id for _, payload in list_payloads(connection, PayloadFilter())]


def stored(directory: Path) -> list[str]:
    with JournalReader(directory) as journal:
        return [entry.event.id for entry in journal.entries()]


def holding(directory: Path, text: str) -> list[str]:
    return [path.name for path in directory.rglob("*") if path.is_file() and text.encode() in path.read_bytes()]


def test_the_key_of_a_reused_id_does_not_tell_what_the_body_was(tmp_path: Path) -> None:
    twice = [request("a", 0, [{"age": age}]) for age in (30, 31)]
    take(tmp_path, twice)
    with JournalReader(tmp_path) as journal:
        keys = {entry.key for entry in journal.entries()}
    assert erase(tmp_path, INCOME, with_id("a"), "a") == 2
    with sqlite3.connect(tmp_path / "log.db") as log:
        left = {key for (key,) in log.execute("SELECT key FROM events")}
    log.close()
    assert left & keys == {twice[0].key()}


@pytest.mark.parametrize("derive", [True, False])
@pytest.mark.parametrize("identity", ["a", "b", "q"])
def test_events_of_another_sender_go_by_their_own_id_and_by_what_both_share(
    tmp_path: Path, identity: str, derive: bool
) -> None:
    seldon = {"modelid": "income", "requestid": "q"}
    asked = replace(request("a", 0, [{"age": 1}], **seldon), type="io.seldon.serving.inference.request")
    answered = replace(response("b", 1, [0], **seldon), type="io.seldon.serving.inference.response")
    take(tmp_path, [*map(Aliases().event, (asked, answered)), *traffic()], derive=derive)
    assert erase(tmp_path, INCOME, with_id(identity), identity) == 1
    assert stored(tmp_path) == [event.id for event in traffic()]


@pytest.mark.parametrize("derive", [True, False])
@pytest.mark.parametrize(
    "wanted",
    [
        with_id("id-1"),
        WithValue("name", PERSON),
        WithValue("age", "31"),
        WithValue("age", "31.0"),
        WithValue("class", "1"),
    ],
)
def test_both_halves_go_and_nothing_else(tmp_path: Path, wanted: Wanted, derive: bool) -> None:
    take(tmp_path, traffic(), derive=derive)
    assert "log.db" in holding(tmp_path, PERSON)
    assert erase(tmp_path, INCOME, wanted) == 1
    assert holding(tmp_path, PERSON) == []
    assert stored(tmp_path) == ["id-0", "id-0", "id-2", "id-2", "id-1"]
    assert take(tmp_path, []) == ["id-1", "id-2", "id-0"]
    assert erase(tmp_path, INCOME, wanted) == 0


def test_positions_have_the_names_that_the_model_was_configured_with(tmp_path: Path) -> None:
    take(tmp_path, [request("a", 1, [[30, PERSON]]), request("b", 2, [[30, "Ann"]]), response("c", 3, [[30, PERSON]])])
    with State.open(tmp_path) as state:
        keep_feature_names(state, {INCOME: ["age", "name"]})
    assert erase(tmp_path, INCOME, WithValue("name", PERSON)) == 1
    assert stored(tmp_path) == ["b", "c"]


@pytest.mark.parametrize(
    ("value", "chosen"),
    [("9007199254740993", "big"), ("9007199254740992", "even"), ("1e300", "huge"), ("2.0", "two"), ("text", "text")],
)
def test_a_value_is_that_very_value(tmp_path: Path, value: str, chosen: str) -> None:
    cells = {"big": 2**53 + 1, "even": 2**53, "huge": 1e300, "two": 2, "text": "text", "array": [0.5] * 300}
    take(tmp_path, [request(name, at, [{"x": cell}]) for at, (name, cell) in enumerate(cells.items())])
    assert erase(tmp_path, INCOME, WithValue("x", value)) == 1
    assert stored(tmp_path) == [name for name in cells if name != chosen]


def test_counts_and_findings_follow(tmp_path: Path) -> None:
    take(tmp_path, traffic())
    with State.open(tmp_path) as state:
        with state.transaction() as connection:
            found = {payload.id: payload.key for _, payload in list_payloads(connection, PayloadFilter(service=INCOME))}
            about = [Finding("outlier", "m", 2.0, 1.0, NOON, key=key, payload_id=name) for name, key in found.items()]
            save_findings(
                connection, [finding.at(Stream(*INCOME, "p", "e"), "m", finding.key or "") for finding in about]
            )
        erase(tmp_path, INCOME, with_id("id-1"))
        with state.read() as connection:
            left = [finding["payload_id"] for _, finding in list_findings(connection, FindingFilter(kind="outlier"))]
            counts = {seen.service.name: (seen.events, seen.rows) for seen in count_services(connection)}
    assert sorted(left) == ["id-0", "id-2"]
    assert counts == {"income": (4, 2), "other": (1, 1)}


def test_the_end_stays_where_it_was_and_offsets_are_not_given_again(tmp_path: Path) -> None:
    take(tmp_path, traffic())
    erase(tmp_path, Service("default", "other"), with_id("id-1"))
    assert take(tmp_path, [request("new", 10, [[1]])])[0] == "new"
    with Journal.open(tmp_path) as journal:
        assert journal.end() == 8
        assert journal.get(7) is None


def test_the_index_can_be_computed_again(tmp_path: Path) -> None:
    take(tmp_path, traffic())
    erase(tmp_path, INCOME, WithValue("name", PERSON))
    for path in tmp_path.glob("state.db*"):
        path.unlink()
    assert take(tmp_path, []) == ["id-1", "id-2", "id-0"]


def test_a_repeated_event_does_not_come_back(tmp_path: Path) -> None:
    take(tmp_path, traffic())
    erase(tmp_path, INCOME, with_id("id-1"))
    assert take(tmp_path, traffic()) == ["id-1", "id-2", "id-0"]
    with JournalReader(tmp_path) as journal:
        assert journal.ledger().duplicate == 7


def test_dead_letters_of_the_id_go(tmp_path: Path) -> None:
    take(tmp_path, traffic())
    letters = DeadLetter(tmp_path)
    for identity, name in [("id-1", "income"), ("id-1", "other"), ("id-2", "income")]:
        letters.keep(InvalidEvent([Fault("time", "bad")]), {"id": identity, "inferenceservicename": name}, b"{}")
    with letters.path.open("ab") as file:
        file.write(b'{"time": "cut')
    erase(tmp_path, INCOME, with_id("id-1"), "id-1")
    lines = letters.path.read_text().splitlines()
    assert ["id-1" in line for line in lines] == [True, False, False]
    assert "other" in lines[0]


def test_a_log_in_use_or_absent_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PayloadLogError, match="there is no payload log here"):
        erase(tmp_path / "none", INCOME, with_id("id-1"))
    assert not (tmp_path / "none").exists()
    with Journal.open(tmp_path), pytest.raises(PayloadLogError, match="in use by another process"):
        erase(tmp_path, INCOME, with_id("id-1"))


def test_a_plan_that_nobody_can_read_is_named(tmp_path: Path) -> None:
    take(tmp_path, traffic())
    (tmp_path / FILE_NAME).write_bytes(b'["default"')
    with pytest.raises(PayloadLogError, match=r"erasure\.json: damaged"):
        Journal.open(tmp_path)
    assert len(stored(tmp_path)) == 7


@pytest.mark.parametrize("column", ["nothing", "na", ""])
def test_a_column_that_is_not_there_erases_nothing(tmp_path: Path, column: str) -> None:
    take(tmp_path, traffic())
    before = shutil.copytree(tmp_path, tmp_path.with_name("before"), dirs_exist_ok=True)
    assert erase(tmp_path, INCOME, WithValue(column, PERSON)) == 0
    assert stored(tmp_path) == stored(before)
