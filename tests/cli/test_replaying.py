"""A replay finds what live traffic found, ids included; other rules find what they would have."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from inferwatch.clock import NS_PER_S, ManualClock
from inferwatch.events import CloudEvent
from inferwatch.payload_log.findings import FindingFilter, list_findings
from inferwatch.payload_log.journal import Journal
from inferwatch.payload_log.state import State
from inferwatch.pipeline import Pipeline
from inferwatch_cli.checks import checked
from inferwatch_cli.main import main
from inferwatch_detectors.worker import Worker
from tests.inferences import NOON, request, response

CONFIG = """
payload_log: {{path: data}}
models:
  - name: income
    reference: reference.npy
    burn_in_rows: 40
    false_alarms: {{expected_run_length_windows: {windows}}}
    detectors:
      - {{name: inputs, kind: drift, method: {method}, window: {{rows: 50}}}}
      - {{name: rows, kind: outlier, method: mahalanobis, false_alarm_rate: 0.02}}
"""
Replay = Callable[..., list[str]]


def traffic() -> Iterator[CloudEvent]:
    """120 requests of 5 rows with their responses, late and twice; from the 80th on, the mean has risen by 1.5 sd."""
    random = np.random.default_rng(1)
    for number in range(120):
        rows = random.normal(1.5 if number >= 80 else 0.0, 1.0, (5, 2))
        asked = request(f"q{number}", number, rows.tolist())
        if number % 7:
            yield asked
        yield response(f"q{number}", number + 0.1, [0.5] * 5)
        if number % 7 == 0:
            yield asked
        if number % 11 == 0:
            yield asked


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    np.save(tmp_path / "reference.npy", np.random.default_rng(0).normal(size=(3000, 2)))
    (tmp_path / "inferwatch.yaml").write_text(CONFIG.format(windows=1000, method="histogram"))
    (tmp_path / "other.yaml").write_text(CONFIG.format(windows=50, method="ks"))
    return tmp_path


@pytest.fixture
def live(folder: Path) -> list[dict[str, Any]]:
    """What the pipeline found while the traffic came in, in pieces."""
    clock = ManualClock(NOON + 86_400 * NS_PER_S)
    models = checked(folder / "inferwatch.yaml").models
    with Journal.open(folder / "data", clock=clock) as journal, State.open(folder / "data") as state:
        pipeline = Pipeline(journal, state, Worker(models), pair_timeout_s=60, clock=clock)
        pipeline.start()
        events = list(traffic())
        for start in range(0, len(events), 37):
            journal.append(events[start : start + 37]).result()
        pipeline.stop(60)
        with state.read() as connection:
            return [found for _, found in list_findings(connection, FindingFilter(), limit=10_000)]


@pytest.fixture
def replay(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Replay:
    def run(*options: str, config: str = "inferwatch.yaml", code: int | None = None) -> list[str]:
        monkeypatch.setattr(sys, "argv", ["inferwatch", "replay", "--config", str(folder / config), *options])
        with pytest.raises(SystemExit) as ended:
            main()
        assert (ended.value.code or None) == code
        output = capsys.readouterr()
        return (output.err if code else output.out).splitlines()

    return run


def by_id(findings: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {finding["id"]: finding for finding in findings}


def test_the_findings_are_those_of_live_traffic(live: list[dict[str, Any]], folder: Path, replay: Replay) -> None:
    before = {path.name: path.read_bytes() for path in (folder / "data").glob("*.db")}
    found = [orjson.loads(line) for line in replay("--json")]

    assert len(live) > 10
    assert by_id(found) == by_id(live)
    assert [finding["time"] for finding in found] == sorted(finding["time"] for finding in found)
    assert [orjson.loads(line) for line in replay("--json")] == found
    assert {path.name: path.read_bytes() for path in (folder / "data").glob("*.db")} == before


@pytest.mark.usefixtures("live")
def test_the_summary_says_what_would_have_alarmed(replay: Replay) -> None:
    drift, rows = replay()

    assert drift.startswith("default/income inputs: 11 windows, would have alarmed once: 2026-11-21T12:01:")
    assert "features changed" in drift
    assert rows.startswith("default/income rows: ")
    assert " rows flagged: q" in rows


@pytest.mark.usefixtures("live")
def test_other_rules_are_put_beside(folder: Path, replay: Replay) -> None:
    lines = replay("--compare", str(folder / "other.yaml"))

    assert lines[0] == f"{folder / 'inferwatch.yaml'}:"
    assert lines[3] == f"{folder / 'other.yaml'}:"
    assert all(lines[place].startswith("  default/income inputs: 11 windows, would have") for place in (1, 4))
    told = [orjson.loads(line) for line in replay("--compare", str(folder / "other.yaml"), "--json")]
    assert {finding["method"] for finding in told if finding["configuration"].endswith("other.yaml")} == {
        "ks",
        "mahalanobis",
    }


def test_times_choose_findings_of_the_whole_replay(live: list[dict[str, Any]], replay: Replay) -> None:
    since, until = "2026-11-21T12:01:00Z", "2026-11-21T12:01:30Z"
    found = [orjson.loads(line) for line in replay("--json", "--since", since, "--until", until)]

    assert by_id(found) == by_id([finding for finding in live if since[:-1] <= finding["time"][:19] < until[:-1]])
    assert 0 < len(found) < len(live)


def test_findings_of_another_rule_are_kept_where_that_is_asked(
    live: list[dict[str, Any]], folder: Path, replay: Replay
) -> None:
    found = [orjson.loads(line) for line in replay("--json", "--write", config="other.yaml")]
    assert replay("--write", config="other.yaml")
    with State.open(folder / "data") as state, state.read() as connection:
        kept = [finding for _, finding in list_findings(connection, FindingFilter(), limit=10_000)]
    assert by_id(kept) == by_id(live) | by_id(found)
    assert len(kept) > len(live)
    with Journal.open(folder / "data", clock=ManualClock(NOON + 86_400 * NS_PER_S)):
        assert "in use by another process" in replay("--write", code=1)[0]


@pytest.mark.usefixtures("live")
def test_a_model_that_a_star_stands_for_is_replayed_under_its_own_name(folder: Path, replay: Replay) -> None:
    text = CONFIG.format(windows=1000, method="histogram").replace("name: income", "name: '*'")
    (folder / "any.yaml").write_text(text)
    for options in ((), ("--model", "default/income")):
        drift, rows = replay(*options, config="any.yaml")
        assert drift.startswith("default/income inputs: 11 windows, would have alarmed once: ")
        assert rows.startswith("default/income rows: ")


def test_another_process_may_have_the_log_open(live: list[dict[str, Any]], folder: Path, replay: Replay) -> None:
    with Journal.open(folder / "data", clock=ManualClock(NOON + 86_400 * NS_PER_S)):
        found = [orjson.loads(line) for line in replay("--json", "--model", "default/income")]

    assert by_id(found) == by_id(live)


@pytest.mark.parametrize(
    ("options", "code", "told"),
    [
        (("--model", "default/other"), 2, "--model: 'default/other': is not configured in"),
        (("--write", "--compare", "b.yaml"), 2, "--write: keeps the findings of one configuration"),
        (("--since", "yesterday"), 2, "--since: not an RFC 3339 time"),
        (("--data", "nowhere"), 1, "nowhere"),
    ],
)
def test_what_is_wrongly_asked_is_told_in_a_line(
    replay: Replay, options: tuple[str, ...], code: int, told: str
) -> None:
    [line] = replay(*options, code=code)

    assert told in line


@pytest.mark.usefixtures("live")
def test_one_model_of_a_fleet_is_replayed_among_all(folder: Path, replay: Replay) -> None:
    text = CONFIG.format(windows=1000, method="ks")
    (folder / "fleet.yaml").write_text(f"fleet: {{false_discovery_rate: 0.1}}\n{text}")
    found = [orjson.loads(line) for line in replay("--json", "--model", "default/income", config="fleet.yaml")]
    others = text.partition("models:")[2].replace("name: income", "name: never-asked")
    (folder / "fleet.yaml").write_text(f"fleet: {{false_discovery_rate: 0.1}}\n{text}{others}")
    among = [orjson.loads(line) for line in replay("--json", "--model", "default/income", config="fleet.yaml")]
    assert found
    assert {finding["name"] for finding in among} == {"income"}
    drift, more = ([each for each in some if each["kind"] == "drift"] for some in (found, among))
    assert drift[0]["threshold"] < more[0]["threshold"]
    assert "false at most" in drift[0]["assumption"]
