"""Who a payload belongs to, what makes it a new one, and what is not judged: over HTTP, in one process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from inferwatch.clock import NS_PER_S, format_time, parse_time
from inferwatch.events import REQUEST_TYPE, RESPONSE_TYPE
from inferwatch.origin import Origin
from inferwatch.settings import AuthSettings, ExcludeSettings, Settings
from inferwatch_cli.checks import Checked, checked
from inferwatch_cli.parts import Service as Running
from inferwatch_cli.up import open_up
from tests.logger.test_access import ask
from tests.waiting import eventually


class Service:
    """A running process, and what is sent to it."""

    def __init__(self, up: Running) -> None:
        self.up = up
        self.began_ns = time.time_ns()

    def send(
        self, identity: str = "1", body: object = None, *, after_s: float = 0, kind: str = "", **more: str
    ) -> None:
        """Send an event whose time is so many seconds after the beginning of the test; none where `time` is empty."""
        named = {"specversion": "1.0", "id": identity, "source": "test", "type": kind or REQUEST_TYPE}
        named |= {"time": format_time(self.began_ns + round(after_s * NS_PER_S)), "inferenceservicename": "m"} | more
        headers = {f"ce-{name}": value for name, value in named.items() if value or name != "time"}
        data = orjson.dumps({"instances": [[1]]} if body is None else body)
        status, said, _ = ask(self.up.application, "/", "POST", data, **headers)
        assert (status, said) == (200, "")

    def get(self, path: str) -> Any:
        return orjson.loads(ask(self.up.application, path)[1])

    def derived(self, model: str, events: int) -> Any:
        """Return the model, once so many of its events are derived."""
        detail = self.get(f"/api/models/{model}")
        return detail["events"] == events and detail

    def payloads(self, query: str = "") -> list[dict[str, Any]]:
        """Return the payloads, oldest first."""
        return list(self.get(f"/api/payloads{query}")["items"])[::-1]

    def metric(self, sample: str) -> float:
        lines = ask(self.up.application, "/metrics")[1].splitlines()
        return float(next(line for line in lines if line.startswith(f"{sample} ")).rpartition(" ")[2])


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with open_up(Checked(Settings(), ()), tmp_path) as up:
        yield Service(up)


def test_a_service_is_a_namespace_and_a_name(service: Service) -> None:
    service.send("1")
    service.send("1", namespace="shop")
    service.send("1", inferenceservicename="")
    assert [(it["namespace"], it["name"], it["events"]) for it in service.get("/api/models")["items"]] == [
        ("default", "m", 1),
        ("default", "unknown", 1),
        ("shop", "m", 1),
    ]


def test_components_and_endpoints_of_a_service_never_mix(service: Service) -> None:
    streams = [("predictor", "default"), ("transformer", "default"), ("predictor", "canary")]
    for kind in (REQUEST_TYPE, RESPONSE_TYPE):
        for component, endpoint in streams:
            service.send("1", kind=kind, component=component, endpoint="" if endpoint == "default" else endpoint)
    found = service.payloads()
    assert [(it["component"], it["endpoint"], it["outcome"]) for it in found] == [(*it, "paired") for it in streams]
    assert len({it["key"] for it in found}) == 3
    assert service.get("/api/models/default/m")["events"] == 6


def test_an_id_of_several_payloads_lists_them_all_and_the_key_tells_them_apart(service: Service) -> None:
    for after_s, cell in ((0, 1), (0, 2), (5, 1)):
        for _ in range(2):  # the second is a redelivery
            service.send("1", {"instances": [[cell]]}, after_s=after_s)
    service.send("2")
    found = service.payloads("?id=1")
    assert [it["id"] for it in found] == ["1"] * 3
    bodies = [service.get(f"/api/payloads/{it['key']}")["request"]["body"]["instances"] for it in found]
    assert bodies == [[[1]], [[2]], [[1]]]
    ledger = service.get("/api/ledger")["ingest"]
    assert (ledger["received"], ledger["stored"], ledger["duplicate"]) == (7, 4, 3)
    sample = 'inferwatch_events_received_total{outcome="%s",transport="http",type="request"}'
    assert (service.metric(sample % "stored"), service.metric(sample % "duplicate")) == (4, 3)


def test_a_time_more_than_five_minutes_ahead_is_clamped_and_counted(service: Service) -> None:
    service.send("near", after_s=290)
    service.send("far", after_s=3600)
    service.send("none", time="")
    near, far, none = (parse_time(it["request_time"]) for it in service.payloads())
    assert near == service.began_ns + 290 * NS_PER_S
    assert all(service.began_ns <= moment < time.time_ns() for moment in (far, none))
    assert service.get("/api/ledger")["ingest"]["clamped"] == 1
    assert service.metric("inferwatch_events_clamped_total") == 1


HEALTH = {"status": "alive"}
ORIGIN = '{"X-Inferwatch-Origin":["explain"]}'
SYNTHETIC = '{"X-Synthetic":["true"]}'


def reasons(service: Service) -> list[str | None]:
    return [it["excluded"] for it in service.payloads()]


def test_what_is_not_judged_is_stored_with_the_reason(tmp_path: Path) -> None:
    rules = (ExcludeSettings(header="x-synthetic", equals="true"), ExcludeSettings(component="transformer"))
    with open_up(Checked(Settings(exclude=rules), ()), tmp_path) as up:
        service = Service(up)
        service.send("inferwatch-explain-1")
        service.send("2", metadata=ORIGIN)
        service.send("3", component="explainer")
        service.send("4", HEALTH, kind=RESPONSE_TYPE)
        service.send("5", metadata=SYNTHETIC)
        service.send("6", component="transformer")
        service.send("7", metadata='{"X-Synthetic":["no"]}')
        assert reasons(service) == ["explain", "explain", "explain", "health", "rule", "rule", None]
        assert [it["id"] for it in service.payloads("?excluded=rule")] == ["5", "6"]
        counts = {
            reason: service.metric(f'inferwatch_events_excluded_total{{reason="{reason}"}}') for reason in REASONS
        }
        assert counts == {"explain": 3, "health": 1, "rule": 2}
        assert service.get("/api/ledger")["ingest"]["stored"] == 7


REASONS = ("explain", "health", "rule")


def test_with_a_key_only_signed_marks_exclude(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("s3cret-key")
    settings = Settings(auth=AuthSettings(origin_key_file=tmp_path / "key"))
    with open_up(Checked(settings, ()), tmp_path / "log") as up:
        service = Service(up)
        service.send(Origin(b"s3cret-key").mark())
        service.send(Origin(b"another").mark())
        service.send("inferwatch-explain-1")
        service.send("1", metadata=ORIGIN)
        assert reasons(service) == ["explain", None, None, None]


WATCHED = """
models:
  - name: m
    reference: reference.csv
    burn_in_rows: 0
    false_alarms: {expected_run_length_windows: 100}
    detectors:
      - {kind: drift, method: histogram, window: {rows: 100}}
      - {kind: quality, window: {rows: 100}}
"""


def test_five_hundred_questions_of_an_explainer_bring_no_row_into_a_window(tmp_path: Path) -> None:
    (tmp_path / "reference.csv").write_text("a\n" + "".join(f"{row % 17}\n" for row in range(500)))
    (tmp_path / "inferwatch.yaml").write_text(WATCHED)
    ours = [envelope(Origin().mark(), [[99]]) for _ in range(500)]
    theirs = [envelope(str(number), [[number % 17]]) for number in range(30)]
    with open_up(checked(tmp_path / "inferwatch.yaml"), tmp_path / "log") as up:
        service = Service(up)
        for batch, events in ((theirs, 30), (ours, 530)):
            said = ask(up.application, "/events", "POST", orjson.dumps(batch), content_type=BATCH)
            assert said[0] == 200
            detail = eventually("all are derived", lambda events=events: service.derived("default/m", events))
            assert [it["needs_rows"] for it in detail["detectors"]] == [70, 70]
        assert detail["rows"] == 530
        assert service.metric('inferwatch_events_excluded_total{reason="explain"}') == 500


BATCH = "application/cloudevents-batch+json"


def envelope(identity: str, rows: list[list[int]]) -> dict[str, Any]:
    """Return a request as a member of a batch."""
    named = {"specversion": "1.0", "id": identity, "source": "s", "type": REQUEST_TYPE, "inferenceservicename": "m"}
    return {**named, "time": format_time(time.time_ns()), "data": {"instances": rows}}
