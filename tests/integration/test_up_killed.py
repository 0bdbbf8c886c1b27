"""`up` killed with SIGKILL at random moments: nothing acknowledged is lost, and no row is judged twice."""

from __future__ import annotations

import json
import signal
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from tests.integration.served import START_S, Served, served

pytestmark = pytest.mark.integration

REQUESTS = 400
KILLS = 6


def _configure(directory: Path) -> Path:
    random_rows = np.random.default_rng(0).normal(size=(2_000, 3))
    np.save(directory / "reference.npy", random_rows)
    model = {
        "name": "m",
        "reference": "reference.npy",
        "burn_in_rows": 100,
        "false_alarms": {"expected_run_length_windows": 100},
        "detectors": [
            {"name": "windows", "kind": "drift", "method": "histogram", "window": {"rows": 40}},
            {"name": "minutes", "kind": "drift", "method": "histogram", "window": {"minutes": 1, "slide": 0.5}},
            {"name": "rows", "kind": "outlier", "method": "mahalanobis", "false_alarm_rate": 0.01, "report": "all"},
        ],
    }
    config = directory / "inferwatch.yaml"
    config.write_text(yaml.safe_dump({"payload_log": {"path": "data"}, "models": [model]}))
    return config


def _events() -> list[tuple[dict[str, str], bytes, int]]:
    """Requests of 1 to 4 rows, from the middle on shifted, with their headers and row counts."""
    random_rows = np.random.default_rng(1)
    events = []
    for number in range(REQUESTS):
        rows = random_rows.normal(size=(int(random_rows.integers(1, 5)), 3)) + (2.0 if number > REQUESTS // 2 else 0.0)
        headers = {
            "Ce-Specversion": "1.0",
            "Ce-Type": "org.kubeflow.serving.inference.request",
            "Ce-Source": "http://localhost:9081/",
            "Ce-Id": f"r{number}",
            "Ce-Time": f"2026-11-21T10:{number // 60:02d}:{number % 60:02d}Z",
            "Ce-Inferenceservicename": "m",
            "Ce-Namespace": "default",
            "Ce-Component": "predictor",
            "Content-Type": "application/json",
        }
        events.append((headers, json.dumps({"instances": rows.tolist()}).encode(), len(rows)))
    return events


def _post(up: Served, headers: dict[str, str], body: bytes) -> None:
    request = urllib.request.Request(up.url + "/", body, headers, method="POST")
    with urllib.request.urlopen(request, timeout=60) as answer:
        assert answer.status == 200


def _findings(up: Served, rows: int) -> list[dict[str, Any]]:
    """Return what was found once every row is judged: detection runs behind the answer to the sender."""
    deadline = time.monotonic() + START_S
    while True:
        found = up.all("/api/findings?model=default/m")
        if sum(finding["detector"] == "rows" for finding in found) >= rows:
            return sorted(found, key=lambda finding: str(finding["id"]))
        assert time.monotonic() < deadline, len(found)
        time.sleep(0.1)


def _undisturbed(directory: Path, events: Sequence[tuple[dict[str, str], bytes, int]]) -> list[dict[str, Any]]:
    directory.mkdir()
    with served(_configure(directory), directory / "log") as up:
        for headers, body, _ in events:
            _post(up, headers, body)
        return _findings(up, _rows(events))


def _rows(events: Sequence[tuple[dict[str, str], bytes, int]]) -> int:
    return sum(count for _, _, count in events)


def test_no_row_is_judged_twice_and_none_is_lost(tmp_path: Path) -> None:
    events = _events()
    rows = _rows(events)
    wanted = _undisturbed(tmp_path / "undisturbed", events)
    config = _configure(tmp_path)
    moments = iter(np.sort(np.random.default_rng(2).choice(np.arange(20, REQUESTS), KILLS, replace=False)).tolist())
    sent = 0
    while sent < len(events):
        until = next(moments, len(events))
        with served(config, tmp_path / "log") as up:
            for headers, body, _ in events[max(0, sent - 1) : until]:  # the last one again, as a sender would
                _post(up, headers, body)
            sent = until
            if sent < len(events):
                up.process.send_signal(signal.SIGKILL)
                up.process.wait()
    with served(config, tmp_path / "log") as up:
        found = _findings(up, rows)
        ledger = up.get("/api/ledger")["ingest"]
    assert [finding["id"] for finding in found] == [finding["id"] for finding in wanted]
    assert found == wanted
    assert sum(finding["detector"] == "rows" for finding in found) == rows
    assert sum(finding["detector"] == "windows" for finding in found) == (rows - 100) // 40
    assert sum(finding["detector"] == "minutes" for finding in found) == 10
    assert any(finding["fired"] for finding in found if finding["detector"] == "windows")
    assert ledger["stored"] == REQUESTS
    assert ledger["received"] == ledger["stored"] + ledger["duplicate"]
