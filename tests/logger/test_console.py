from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import get_args
from urllib.parse import quote

import pytest

from inferwatch.events import Role
from inferwatch_logger.chart import effect_bars, score_chart
from inferwatch_logger.console import _WORST_FIRST
from inferwatch_logger.replies import ModelState
from tests.logger.watched_log import WatchedLog, event, pair, watched_log

HOSTILE = """<script>alert(1)</script>"'&{{7*7}}"""
VOID = {"meta", "input", "br"}


class Page(HTMLParser):
    """What is on a page: every tag that is closed in order, links, texts by tag, scripts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.links: list[str] = []
        self.text: dict[str, list[str]] = {}
        self.labels: dict[str, str] = {}
        self.fields: dict[str, str] = {}
        self.attributes: list[tuple[str, str | None]] = []
        self._open: list[str] = []
        self._label = ""
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        named = dict(attrs)
        if tag == "a":
            self.links.append(named["href"] or "")
        if tag == "label":
            self._label = named["for"] or ""
        if tag == "input":
            self.fields[named["id"] or ""] = named["name"] or ""
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and data.strip():
            self.text.setdefault(self._open[-1], []).append(data.strip())
            if self._open[-1] == "label":
                self.labels[self._label] = data.strip()


@pytest.fixture
def log(tmp_path: Path) -> Iterator[WatchedLog]:
    with watched_log(tmp_path) as log:
        yield log


@pytest.fixture(scope="module")
def alarm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WatchedLog]:
    """A log for tests that only look: default/income is in alarm, and one row of it is an outlier."""
    with watched_log(tmp_path_factory.mktemp("alarm")) as log:
        alarmed(log)
        yield log


def page(log: WatchedLog, address: str, status: int = 200) -> Page:
    reply = log.page(address)
    assert reply.status == status
    assert reply.headers["content-type"] == "text/html; charset=utf-8"
    return Page(reply.text)


def alarmed(log: WatchedLog) -> None:
    log.take(*pair(1, [[30, "Private"]], [0]), *pair(2, [[70, "Private"], [2000, "x"]], [0, 1]))


class TestFleet:
    def test_whoever_asks_for_no_html_gets_a_line_of_json(self, alarm: WatchedLog) -> None:
        reply = alarm.get("/")
        assert reply.status == 200
        assert reply.json["service"] == "inferwatch"
        assert reply.text.count("\n") == 1

    def test_an_empty_fleet_says_what_to_do(self, tmp_path: Path) -> None:
        with watched_log(tmp_path, []) as log:
            assert "No model is configured" in log.page("/").text

    def test_models_are_linked_by_name_worst_first(self, log: WatchedLog) -> None:
        log.take(*pair(1, [[30]], [0], inferenceservicename="fine"))
        alarmed(log)
        found = page(log, "/")
        assert [link for link in found.links if link.startswith("/models/")][:1] == ["/models/default/income"]
        assert found.text["a"][:3] == ["inferwatch", "income", "fine"]

    def test_models_of_every_state_are_shown(self, log: WatchedLog) -> None:
        log.take(*pair(1, [[30, "Private"]], [0]), *pair(1, [[30]], [0], inferenceservicename="gone"))
        log.clock.advance(2 * 86_400)
        late = 2 * 86_400 + 1
        log.take(*pair(late, [["?", "Private"]], [0]), *pair(late, [[30]], [0], inferenceservicename="new"))
        states = {item["name"]: item["state"] for item in log.get("/api/models").json["items"]}
        assert states == {"income": "stale", "new": "waiting", "gone": "silent"}
        assert page(log, "/").text["a"][1:4] == ["income", "new", "gone"]
        assert set(_WORST_FIRST) == set(get_args(ModelState))

    def test_the_worst_models_show_their_findings(self, alarm: WatchedLog) -> None:
        text = alarm.page("/").text
        assert "age drifted" in re.sub(r"<[^>]+>", "", text)
        assert "age is 31 sd away" in text
        assert 'class="threshold"' in text

    def test_a_field_labelled_id_finds_a_payload(self, alarm: WatchedLog) -> None:
        found = page(alarm, "/")
        assert found.labels == {"id": "id"}
        assert found.fields == {"id": "id"}
        assert ("action", "/search") in found.attributes
        reply = alarm.page("/search?id=id-2")
        assert reply.status == 303
        assert "Payload" in page(alarm, reply.headers["location"]).text["h1"]

    def test_the_ledger_is_a_line(self, alarm: WatchedLog) -> None:
        assert "4 received = 4 stored + 0 duplicate" in alarm.page("/").text

    def test_it_follows_live_and_without_scripts(self, alarm: WatchedLog) -> None:
        reply = alarm.page("/")
        assert '<noscript><meta http-equiv="refresh"' in reply.text
        assert "setTimeout" in reply.text
        assert "script-src 'sha256-" in reply.headers["content-security-policy"]
        assert "default-src 'none'" in reply.headers["content-security-policy"]


class TestModel:
    def test_title_heading_and_verdict(self, alarm: WatchedLog) -> None:
        found = page(alarm, "/models/default/income")
        assert found.text["title"][0] == "income: alarm · inferwatch"
        assert found.text["h1"] == ["income"]
        assert "alarm" in found.text["strong"]
        assert any("age drifted" in text for text in found.text["p"])

    def test_a_model_that_waits_says_for_how_many_rows(self, log: WatchedLog) -> None:
        assert "500 rows missing for the first verdict" in log.page("/models/default/income").text

    def test_notes_are_shown(self, log: WatchedLog) -> None:
        log.take(event(1, b"]"))
        assert any("cannot be decoded" in text for text in page(log, "/models/default/income").text["li"])

    def test_flagged_rows_lead_to_their_payloads(self, alarm: WatchedLog) -> None:
        key = alarm.get("/api/payloads?id=id-2").json["items"][0]["key"]
        assert f"/payloads/{key}" in page(alarm, "/models/default/income").links

    def test_a_model_that_nobody_knows_is_a_page_with_404(self, alarm: WatchedLog) -> None:
        assert page(alarm, "/models/default/none", 404).text["h1"] == ["Not here"]


class TestPayload:
    def test_rows_and_findings(self, alarm: WatchedLog) -> None:
        key = alarm.get("/api/payloads?id=id-2").json["items"][0]["key"]
        found = page(alarm, f"/payloads/{key}")
        assert {"row", "age", "class", "prediction"} <= set(found.text["th"])
        assert {"2000", "x", "age is 31 sd away"} <= set(found.text["td"])

    def test_a_body_without_rows_says_so(self, log: WatchedLog) -> None:
        log.take(event(1, b"]"))
        key = log.get("/api/payloads").json["items"][0]["key"]
        assert "no rows that can be decoded" in log.page(f"/payloads/{key}").text

    def test_large_payloads_are_cut_on_the_page(self, log: WatchedLog) -> None:
        log.take(event(1, {"instances": [[7] * 300] * 300}))
        key = log.get("/api/payloads").json["items"][0]["key"]
        found = page(log, f"/payloads/{key}")
        assert found.text["td"].count("7") <= 100 * 60 + 1
        assert any("300 rows of 300 columns in all" in text for text in found.text["p"])

    def test_one_id_of_several_payloads_lists_them(self, log: WatchedLog) -> None:
        log.take(event(1, {"instances": [[1]]}), event(1, {"instances": [[1]]}, at_s=500))
        assert len([link for link in page(log, "/search?id=id-1").links if link.startswith("/payloads/")]) == 2

    def test_a_payload_leads_to_the_other_steps_of_its_graph(self, log: WatchedLog) -> None:
        log.take(*pair(1, [[1, "a"]], [0]), *pair(1, [[2, "b"]], [0], inferenceservicename="scaler"))
        first, second = log.get("/api/payloads?id=id-1").json["items"]
        assert f"/payloads/{second['key']}" in page(log, f"/payloads/{first['key']}").links
        assert f"/payloads/{first['key']}" not in page(log, f"/payloads/{first['key']}").links

    @pytest.mark.parametrize("address", ["/payloads/none", "/search?id=none", "/search"])
    def test_nothing_found_is_404(self, alarm: WatchedLog, address: str) -> None:
        page(alarm, address, 404)


def test_hostile_names_and_ids_are_text(log: WatchedLog) -> None:
    bad = {"instances": [{HOSTILE: HOSTILE}, {HOSTILE: 5000}]}
    hostile = event(1, bad, inferenceservicename=HOSTILE, namespace=HOSTILE.replace("/", ""), endpoint=HOSTILE)
    log.take(replace(hostile, id=HOSTILE))
    log.take(event(2, {"predictions": [HOSTILE]}, Role.RESPONSE))
    key = log.get("/api/payloads").json["items"][1]["key"]
    plain = page(log, "/")
    (own,) = {link for link in plain.links if "script" in link}
    for address in ("/", own, f"/payloads/{key}", f"/search?id={quote(HOSTILE + '.')}"):
        reply = log.page(address)
        assert "<script>alert" not in reply.text, address
        assert HOSTILE in unescape(reply.text), address
    assert log.page(own).status == 200


class TestFile:
    def test_it_stands_alone(self, alarm: WatchedLog) -> None:
        text = alarm.page("/fleet.html").text
        found = Page(text)
        assert "script" not in found.tags
        assert all(link.startswith("#") for link in found.links)
        assert not [value for name, value in found.attributes if name in ("src", "srcset", "action")]
        assert "url(" not in text
        assert {link[1:] for link in found.links} <= {value for name, value in found.attributes if name == "id"}
        assert "age is 31 sd away" in text

    def test_it_is_the_same_text_for_the_same_log(self, alarm: WatchedLog) -> None:
        assert alarm.page("/fleet.html").text == alarm.page("/fleet.html").text


class TestDocs:
    def test_every_route_and_every_shape_is_there(self, alarm: WatchedLog) -> None:
        document = alarm.get("/openapi.json").json
        found = page(alarm, "/docs")
        headings = set(found.text["h2"])
        assert {f"GET {path}" for path in document["paths"]} <= headings
        assert set(document["components"]["schemas"]) <= headings
        assert {"limit", "cursor", "since", "error"} <= set(found.text["td"])

    def test_it_loads_nothing_and_its_links_lead_somewhere(self, alarm: WatchedLog) -> None:
        found = page(alarm, "/docs")
        assert "script" not in found.tags
        ids = {value for name, value in found.attributes if name == "id"}
        assert {link[1:] for link in found.links if link.startswith("#")} <= ids


class TestDrawings:
    def finding(self, score: float | None, threshold: float = 5.0) -> dict[str, object]:
        fired = score is not None and score > threshold
        return {"score": score, "threshold": threshold, "fired": fired, "time": "2026-11-21T10:00:00Z", "why": ""}

    def test_higher_scores_are_drawn_higher_and_within_the_drawing(self) -> None:
        chart = score_chart([self.finding(score) for score in (0.0, 1.0, 1e-9, 300.0, None, 6.0)])
        assert chart is not None
        heights = [mark.y for mark in chart.marks]
        assert sorted(range(5), key=lambda index: heights[index], reverse=True)[-2:] == [4, 3]
        assert [mark.fired for mark in chart.marks] == [False, False, False, True, True]
        assert all(0 <= y <= chart.height for y in heights)
        assert [mark.x for mark in chart.marks][:: len(heights) - 1] == [chart.left, chart.right]

    def test_the_threshold_lies_between_what_fired_and_what_did_not(self) -> None:
        chart = score_chart([self.finding(4.9), self.finding(5.1)])
        assert chart is not None
        limit = float(chart.threshold.split()[0].split(",")[1])
        assert chart.marks[1].y < limit < chart.marks[0].y

    def test_one_window_is_no_chart(self) -> None:
        assert score_chart([self.finding(1.0)]) is None

    def test_bars_share_one_scale(self) -> None:
        first, second, unknown = effect_bars(
            [
                {"effect": -1.0, "effect_low": -2.0, "effect_high": 0.0},
                {"effect": 1.0, "effect_low": None, "effect_high": 2.0},
                {"effect": None, "effect_low": None, "effect_high": None},
            ]
        )
        assert unknown is None
        assert first is not None
        assert second is not None
        assert (first.low, first.effect, first.high, first.zero) == (0.0, 25.0, 50.0, 50.0)
        assert (second.low, second.effect, second.high, second.zero) == (75.0, 75.0, 100.0, 50.0)
