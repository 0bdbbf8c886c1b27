"""Traffic that is accepted becomes the reference at its place in the log, for restarts and replays too."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from inferwatch.clock import format_time, parse_time
from inferwatch_cli.checks import checked
from inferwatch_cli.main import main
from inferwatch_cli.parts import Service
from inferwatch_cli.up import open_up
from tests.logger.test_access import ask

pytestmark = pytest.mark.usefixtures("derived")

START = parse_time("2026-11-20T12:00:00Z")
CONFIG = """
payload_log: {path: data}
models:
  - name: income
    reference: reference.npy
    burn_in_rows: 0
    false_alarms: {expected_run_length_windows: 1000}
    detectors: [{name: inputs, kind: drift, method: ks, window: {rows: 100}}]
"""
PATH = "/api/models/default/income/reference"


def second(number: int) -> str:
    return format_time(START + number * 1_000_000_000)


def send(up: Service, first: int, mean: float) -> None:
    """Send 20 requests of 20 rows, a second apart."""
    random = np.random.default_rng(first)
    events = [
        {
            "specversion": "1.0",
            "id": f"r{number}",
            "source": "test",
            "type": "org.kubeflow.serving.inference.request",
            "time": second(number),
            "inferenceservicename": "income",
            "namespace": "default",
            "component": "predictor",
            "datacontenttype": "application/json",
            "data": {"instances": random.normal(mean, 1, (20, 2)).tolist()},
        }
        for number in range(first, first + 20)
    ]
    batch = "application/cloudevents-batch+json"
    assert ask(up.application, "/events", "POST", orjson.dumps(events), content_type=batch)[0] == 200


def findings(up: Service) -> list[dict[str, Any]]:
    items = orjson.loads(ask(up.application, "/api/findings")[1])["items"]
    return sorted(items, key=lambda finding: (finding["time"], finding["id"]))


def accept(up: Service, body: dict[str, Any], path: str = PATH) -> tuple[int, dict[str, Any]]:
    status, text, _ = ask(up.application, path, "POST", orjson.dumps(body), content_type="application/json")
    return status, orjson.loads(text)


def test_accepted_traffic_is_the_reference_from_then_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(tmp_path / "reference.npy", np.random.default_rng(99).normal(size=(3000, 2)))
    config = tmp_path / "inferwatch.yaml"
    config.write_text(CONFIG)
    with open_up(checked(config)) as up:
        send(up, 0, 2.0)
        assert [finding["fired"] for finding in findings(up)] == [True] * 4
        status, told = accept(up, {"logged": {"since": second(0), "until": second(20)}})
        assert (status, told["rows"]) == (200, 400)
        send(up, 20, 2.0)
        assert [finding["fired"] for finding in findings(up)] == [True] * 4 + [False] * 4
        shown = orjson.loads(ask(up.application, "/api/models/default/income")[1])
        assert (shown["reference"]["id"], shown["reference"]["rows"]) == (told["id"], 400)
        assert shown["reference"]["autocorrelation"] is not None
    with open_up(checked(config)) as up:
        send(up, 40, 2.0)
        live = findings(up)
        assert [finding["fired"] for finding in live[8:]] == [False] * 4
    monkeypatch.setattr(sys, "argv", ["inferwatch", "replay", "--config", str(config), "--json"])
    with pytest.raises(SystemExit):
        main()
    assert [orjson.loads(line) for line in capsys.readouterr().out.splitlines()] == live


def test_what_cannot_be_accepted_is_said(tmp_path: Path) -> None:
    np.save(tmp_path / "reference.npy", np.random.default_rng(99).normal(size=(3000, 2)))
    config = tmp_path / "inferwatch.yaml"
    config.write_text(CONFIG)
    span = {"since": second(0), "until": second(20)}
    with open_up(checked(config)) as up:
        assert accept(up, {"logged": span}) == (
            400,
            {"error": "between since and until: no rows of requests are logged there"},
        )
        assert accept(up, {"logged": span}, "/api/models/default/other/reference")[0] == 404
        for body in ({}, {"logged": {"since": "yesterday", "until": second(1)}}, {"logged": span, "more": 1}):
            status, told = accept(up, body)
            assert status == 400
            assert told["error"]
