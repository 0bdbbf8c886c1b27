"""Explanations are stored events, and a payload shows those that are about it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from inferwatch.aliases import Aliases
from inferwatch.clock import NS_PER_S
from inferwatch.events import EXPLANATION_TYPE, CloudEvent, Role, Service
from inferwatch.explained import sentence
from inferwatch.explanation_event import ExplanationEvent, row_marks
from inferwatch.payload_log.erasure import erase, with_id
from inferwatch.payload_log.explanations import forget_explanations
from inferwatch.payload_log.feature_names import keep_feature_names
from inferwatch.payload_log.reader import JournalReader
from inferwatch.redaction import Redaction
from inferwatch.wire.decode import decode
from inferwatch_logger.received import sorted_out
from inferwatch_logger.replies import PayloadDetail
from tests.logger.watched_log import START_NS, WatchedLog, event, pair, watched_log

NAMES = ("age", "class")
ANCHOR = {"method": "anchors_tabular", "anchor": ["age > 30"], "precision": 0.97, "target": 1}
INCOME = Service("default", "income")


@pytest.fixture
def log(tmp_path: Path) -> Iterator[WatchedLog]:
    with watched_log(tmp_path) as log:
        yield log


def attribution(value: float) -> dict[str, Any]:
    return {
        "method": "kernel_shap",
        "features": list(NAMES),
        "values": [value, -0.5],
        "prediction": 2.0,
        "target": None,
    }


def marks(rows: list[Any]) -> list[str]:
    decoded = decode(orjson.dumps({"instances": rows}), Role.REQUEST).rows
    assert decoded is not None
    return row_marks(decoded, NAMES)


def told(
    rows: list[Any], entries: list[dict[str, Any]], number: int = 1, payload_id: str | None = None, **of: Any
) -> CloudEvent:
    service = of.pop("service", INCOME)
    at_ns = START_NS + (100 + number) * NS_PER_S
    return ExplanationEvent(f"x-{number}", at_ns, service, entries, marks(rows), payload_id, **of).event()


def shown(log: WatchedLog, identity: str) -> list[dict[str, Any]]:
    (item,) = log.get(f"/api/payloads?id={identity}").json["items"]
    body = log.get(f"/api/payloads/{item['key']}").body
    PayloadDetail.model_validate_json(body)
    found: list[dict[str, Any]] = orjson.loads(body)["explanations"]
    return found


@pytest.mark.parametrize("explained_first", [False, True])
def test_an_equal_row_has_its_explanation_whichever_came_first(log: WatchedLog, explained_first: bool) -> None:
    events = [*pair(1, [[39, "Private"], [50, "State-gov"]], [0, 1]), told([[50.0, "State-gov"]], [attribution(0.25)])]
    for each in reversed(events) if explained_first else events:
        log.take(each)
    log.take(*pair(2, [[51, "State-gov"]], [0]))
    assert shown(log, "id-1") == [{**attribution(0.25), "id": "x-1", "time": "2026-11-21T10:01:41Z", "row": 1}]
    assert shown(log, "id-2") == []


def test_a_row_is_the_same_in_any_protocol_and_order(log: WatchedLog) -> None:
    tensors = [
        {"name": "class", "shape": [1], "datatype": "BYTES", "data": ["Private"]},
        {"name": "age", "shape": [1], "datatype": "FP64", "data": [39.0]},
    ]
    log.take(event(1, {"inputs": tensors}), event(2, {"instances": [{"class": "Private", "age": 39}]}))
    log.take(told([[39, "Private"]], [attribution(1)]))
    assert [entry["row"] for name in ("id-1", "id-2") for entry in shown(log, name)] == [0, 0]


def test_the_id_of_the_call_names_its_payload_even_where_no_row_is_equal(log: WatchedLog) -> None:
    log.take(*pair(1, [[39, "Private"]], [0]), event(2, {"instances": [[1, "Private"]]}, requestid="r-9"))
    log.take(told([[40, "Private"]], [ANCHOR], payload_id="id-1"))
    log.take(told([[41, "Private"]], [attribution(3)], number=2, request_id="r-9"))
    (named,) = shown(log, "id-1")
    assert (named["anchor"], named["row"], named["id"]) == (["age > 30"], None, "x-1")
    assert [entry["id"] for entry in shown(log, "id-2")] == ["x-2"]


def test_an_explanation_of_another_model_is_none_of_a_payload(log: WatchedLog) -> None:
    log.take(*pair(1, [[39, "Private"]], [0]))
    log.take(told([[39, "Private"]], [attribution(1)], payload_id="id-1", service=Service("default", "other")))
    assert shown(log, "id-1") == []


def test_the_newest_comes_first_and_what_is_of_all_rows_belongs_to_each_payload(log: WatchedLog) -> None:
    log.take(*pair(1, [[39, "Private"], [50, "Private"]], [0, 1]))
    of_all = {"method": "importance", "importance": [1.0]}
    log.take(told([[39, "Private"]], [attribution(1)]), told([[39, "Private"], [50, "Private"]], [of_all], number=2))
    assert [(entry["method"], entry["row"]) for entry in shown(log, "id-1")] == [
        ("importance", None),
        ("kernel_shap", 0),
    ]


def test_it_counts_as_stored_and_is_no_traffic(log: WatchedLog) -> None:
    log.take(*pair(1, [[39, "Private"]], [0]), told([[39, "Private"]], [attribution(1)]))
    ledger = log.journal.ledger()
    assert (ledger.stored, ledger.received, ledger.ignored) == (3, 3, {})
    assert ledger.payloads["stored", "explanation"] == 1
    (model,) = log.get("/api/models").json["items"]
    assert (model["events"], model["rows"]) == (2, 1)


def test_the_console_says_why(log: WatchedLog) -> None:
    log.take(*pair(1, [[39, "<b>"]], [0]), told([[39, "<b>"]], [{**ANCHOR, "anchor": ["class = <b>"]}]))
    key = log.get("/api/payloads").json["items"][0]["key"]
    page = log.page(f"/payloads/{key}").text
    assert "<h3>explanations</h3>" in page
    assert "if class = &lt;b&gt; (precision 0.97)" in page
    assert "<b>" not in page


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        (attribution(0.25), "class -0.5, age +0.25"),
        ({"features": ["age"], "values": [0.0]}, "no feature mattered"),
        ({"anchor": [], "precision": 1.0}, "always (precision 1.00)"),
        ({"counterfactual": [[1, 2]], "changed": ["age", "class"]}, "decided otherwise with another age and class"),
        ({"counterfactual": [], "changed": []}, "no row decided otherwise was found"),
        ({"features": [f"f{k}" for k in range(8)], "values": [1.0] * 8},
         "f0 +1, f1 +1, f2 +1, f3 +1, f4 +1, f5 +1, 2 more"),
        ({"prototypes": []}, ""),
    ],
)  # fmt: skip
def test_each_kind_has_its_sentence(entry: dict[str, Any], says: str) -> None:
    assert sentence(entry) == says


def test_what_comes_from_elsewhere_is_taken_and_what_is_none_is_ignored() -> None:
    good = told([[39, "Private"]], [ANCHOR])
    bad = [
        CloudEvent("a", "s", EXPLANATION_TYPE, data=data)
        for data in (b"", b"[]", b"{}", b'{"time": "2026-11-21T10:00:00Z", "rows": [1], "explanations": []}',
                     b'{"time": "2026-11-21T10:00:00Z", "rows": [], "explanations": [1]}')
    ]  # fmt: skip
    cut = CloudEvent("a", "s", EXPLANATION_TYPE, data=good.data, truncated=True)
    received = sorted_out([good, *bad, cut], Redaction(), Aliases())
    assert received.events == [good]
    assert received.ignored == [EXPLANATION_TYPE] * 6


def test_where_bodies_are_redacted_nothing_that_could_quote_a_row_is_kept() -> None:
    nearby = {"method": "counterfactual", "counterfactual": [[77, "Private"]], "changed": ["age"], "prediction": 1}
    sent = told([[77, "Private"]], [ANCHOR, nearby, attribution(0.25)], payload_id="id-1")
    (kept,) = sorted_out([sent], Redaction(["$.instances[*].ssn"]), Aliases()).events
    body = orjson.loads(kept.data)
    assert body["rows"] == []
    assert body["payload_id"] == "id-1"
    assert body["explanations"] == [
        {"method": "anchors_tabular", "target": 1},
        {"method": "counterfactual", "prediction": 1},
        attribution(0.25),
    ]
    assert b"77" not in kept.data


def test_what_is_past_the_retention_is_forgotten(log: WatchedLog) -> None:
    log.take(*pair(1, [[39, "Private"]], [0]), told([[39, "Private"]], [ANCHOR]), told([[39, "Private"]], [ANCHOR], 2))
    for service, left in ((Service("default", "other"), ["x-2", "x-1"]), (INCOME, ["x-2"])):
        with log.state.transaction() as connection:
            forget_explanations(connection, service, START_NS + 102 * NS_PER_S)
        assert [entry["id"] for entry in shown(log, "id-1")] == left


def test_erasing_a_payload_erases_what_explains_it(tmp_path: Path) -> None:
    with watched_log(tmp_path) as log:
        keep_feature_names(log.state, {INCOME: NAMES})
        log.take(*pair(1, [[39, "Private"]], [0]), *pair(2, [[50, "Private"]], [0]))
        log.take(
            told([[39, "Private"]], [ANCHOR]),
            told([[40, "Private"]], [ANCHOR], 2, "id-1"),
            told([[50, "Private"]], [ANCHOR], 3),
        )
    assert erase(tmp_path, INCOME, with_id("id-1")) == 1
    with JournalReader(tmp_path) as journal:
        assert [entry.event.id for entry in journal.entries() if entry.event.id] == ["id-2", "id-2", "x-3"]
    with watched_log(tmp_path) as log:
        assert [entry["id"] for entry in shown(log, "id-2")] == ["x-3"]
        with log.state.read() as connection:
            assert connection.execute("SELECT count(*) FROM explanations").fetchone() == (1,)
            assert connection.execute("SELECT count(*) FROM explained_rows").fetchone() == (1,)
