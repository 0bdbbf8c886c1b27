"""References that follow the traffic: what they are made of, and that deliveries and restarts change nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

from inferwatch.clock import NS_PER_S
from inferwatch.events import CloudEvent, Service, Stream
from inferwatch.finding import Finding
from inferwatch.reference import Reference
from inferwatch.rows import Batch, Feature, Matrix, Schema
from inferwatch.settings import FalseAlarmSettings, ModelSettings
from inferwatch_detectors import rolling
from inferwatch_detectors.lane import Lane
from inferwatch_detectors.post import Beat, Post
from inferwatch_detectors.rolling import BUSIEST, SLICES, Rolling, RollingRows
from inferwatch_detectors.worker import MonitoredModel, Worker
from tests.detectors.watched import items
from tests.inferences import request

DAY = 86_400 * NS_PER_S
SCHEMA = Schema((Feature("x", "numeric"),))
RULE = Rolling(days=28, lag_days=1, rows=700)


def filled(rows_of_day: Sequence[int], chunk: int = 10**9) -> RollingRows:
    """Return what is kept of so many rows a day, each of which says its day; given in chunks, days mixed."""
    days = np.random.default_rng(2).permutation(np.repeat(np.arange(len(rows_of_day)), rows_of_day))
    kept = RollingRows(RULE)
    for start in range(0, len(days), chunk):
        part = days[start : start + chunk]
        kept.add(part[:, np.newaxis].astype(float), part * DAY + 5)
    return kept


def test_a_reference_is_an_even_sample_of_the_days_that_are_old_enough() -> None:
    traffic = [1_000 if day % 7 < 5 else 100 for day in range(40)]
    kept = filled(traffic)
    found = kept.reference(36 * DAY, SCHEMA)
    assert found is not None
    assert (found.count, found.ordered, found.autocorrelation, found.created_ns) == (700, True, None, 36 * DAY)
    span = range(7, 35)
    expected = np.array([traffic[day] for day in span]) * 700 / sum(traffic[day] for day in span)
    drawn = np.bincount(found.rows[:, 0].astype(int), minlength=40)
    assert drawn.sum() == drawn[7:35].sum()
    assert (np.abs(drawn[7:35] - expected) < 4 * np.sqrt(expected)).all()
    assert kept.said == "compared with 700 of the 20,800 rows from 1970-01-08T00:00:00Z to 1970-02-05T00:00:00Z"
    assert sum(len(each) // 16 for each in kept.dump().values() if each is not None) < SLICES * 2 * 700 / BUSIEST


def test_one_busy_day_makes_the_sample_smaller_and_keeps_it_even() -> None:
    found = filled([100] * 27 + [8_100, 0, 0]).reference(29 * DAY, SCHEMA)
    assert found is not None
    busy = float((found.rows[:, 0] == 27).mean())
    assert 90 < found.count < 180
    assert busy == pytest.approx(0.75, abs=0.15)


def test_neither_chunks_nor_a_restart_change_the_sample() -> None:
    traffic = [400] * 30
    whole, pieces = filled(traffic), filled(traffic, chunk=499)
    again = RollingRows(RULE)
    again.load({name: data for name, data in pieces.dump().items() if data is not None})
    assert pieces.dump().keys() == {"rolling"}
    ids = {found.id for kept in (whole, pieces, again) if (found := kept.reference(29 * DAY, SCHEMA)) is not None}
    assert len(ids) == 1


@pytest.fixture
def quickly_rolled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let few rows be a reference."""
    for module in ("gathering", "lane", "stream_judge"):
        monkeypatch.setattr(f"inferwatch_detectors.{module}.LEARNT_ROWS", 60)
    for module in (rolling.__name__, "inferwatch_detectors.lane"):
        monkeypatch.setattr(f"{module}.LEAST_ROWS", 60)


KS = {"kind": "drift", "method": "ks", "window": {"rows": 30}}
BRIEF = {"rolling": {"days": 28 / 4320, "lag_days": 1 / 4320}}
"""Slices of twenty seconds, and as long to wait."""


def watched(*detectors: dict[str, Any], **fields: Any) -> MonitoredModel:
    plain = {"name": "income", "reference": BRIEF, "detectors": detectors, "burn_in_rows": 0}
    alarms = {"false_alarms": {"expected_run_length_windows": 1000, "smallest_effect": 0}}
    return MonitoredModel(ModelSettings.model_validate(plain | alarms | fields), None)


def traffic(first: int, count: int, age: float = 40) -> Iterator[CloudEvent]:
    """Ten rows every five seconds, of two tenants in turns."""
    for number in range(first, first + count):
        rows = np.random.default_rng(number).normal(age, 10, (10, 2)).tolist()
        yield request(f"r{number}", 5 * number, rows, metadata=f'{{"x-tenant": ["{"ab"[number % 2]}"]}}')


@pytest.mark.usefixtures("quickly_rolled")
def test_what_stays_becomes_the_reference_once_it_is_old_enough() -> None:
    worker = Worker([watched(KS)])
    assert worker.judge(items(traffic(0, 7))) == []
    (status,) = worker.statuses()
    assert (status.state, status.needs_rows) == ("waiting", 30)
    assert status.notes == (
        "the reference rolls: it begins with 60 rows that are older than lag_days (0.000231481),"
        " and 70 have come so far",
    )
    before = worker.judge(items(traffic(7, 53)))
    assert not any(finding.fired for finding in before)
    assert before[0].assumption.endswith(
        "compared with 80 of the 80 rows from 2026-11-21T12:00:00Z to 2026-11-21T12:00:40Z"
    )
    changed = worker.judge(items(traffic(60, 220, age=50)))
    assert [finding.fired for finding in changed[2:6]] == [True] * 4
    assert not any(finding.fired for finding in changed[-25:])
    assert changed[-1].assumption.endswith(
        "compared with 1,120 of the 1,120 rows from 2026-11-21T12:13:20Z to 2026-11-21T12:22:40Z"
    )


@pytest.mark.usefixtures("quickly_rolled")
def test_deliveries_and_restarts_change_no_finding() -> None:
    everything = watched(
        KS,
        {"name": "minutes", "kind": "quality", "window": {"minutes": 0.7}},
        {"kind": "outlier", "method": "hbos", "false_alarm_rate": 0.2},
        segments=[{"by": {"header": "x-tenant"}}],
        reference_rows=200,
        burn_in_rows=70,
    )
    delivered = items([*traffic(0, 90), *traffic(10, 5), *traffic(90, 10), *traffic(400, 12)])
    expected = by_time(Worker([everything]).judge(delivered))
    assert {finding.segment for finding in expected} == {None, "x-tenant=a", "x-tenant=b"}
    worker, found, kept = Worker([everything]), list[Finding](), dict[str, bytes]()
    for start, stop in pairwise([*range(0, len(delivered), 23), len(delivered)]):
        found += worker.judge(delivered[start:stop])
        kept = {name: data for name, data in (kept | worker.dump()).items() if data is not None}
        before, worker = worker.statuses(), Worker([everything])
        worker.load(kept)
        assert worker.statuses() == before
    assert by_time(found) == expected


def by_time(findings: Sequence[Finding]) -> list[Finding]:
    return sorted(findings, key=lambda finding: (finding.time_ns, finding.id))


@pytest.mark.usefixtures("quickly_rolled")
def test_an_accepted_reference_holds_until_the_rows_behind_it_are_old_enough() -> None:
    worker = Worker([watched(KS)])
    worker.judge(items(traffic(0, 60)))
    accepted = filled_reference(age=50)
    worker.accept(Service("default", "income"), accepted)
    found = worker.judge(items(traffic(60, 60, age=50)))
    assert not any(finding.fired for finding in found)
    assert found[0].assumption.endswith("compared with accepted traffic")
    assert "rows from 2026-11-21T12:05:00Z" in found[-1].assumption


def filled_reference(age: float) -> bytes:
    """A saved reference of people of that age."""
    worker = Worker([watched(KS, reference={"logged": {"first": 500}})])
    worker.judge(items(traffic(0, 60, age=age)))
    states = worker.dump()
    (name,) = [name for name in states if '"reference"' in name]
    data = states[name]
    assert data is not None
    return data


WINDOW = 200
PROMISED = 0.05
DAYS = 60
A_DAY = 800
RUNS = 24


def alarms(lane: Lane, seed: int, drift_per_day: float, autocorrelation: float) -> list[bool]:
    """Return whether each window of two months fires, of a number with variance 1 whose mean drifts."""
    series = walk(np.random.default_rng(seed), autocorrelation)
    found: list[Finding] = []
    for day in range(DAYS):
        times = day * DAY + np.arange(A_DAY) * (DAY // A_DAY)
        lane.roll(day * DAY)
        values = series[day * A_DAY : (day + 1) * A_DAY] + day * drift_per_day
        found += lane.judge(Batch.of(values[:, np.newaxis], times_ns=times), times, int(times[-1]), 1.0)
    return [finding.fired for finding in found]


def walk(random: np.random.Generator, autocorrelation: float) -> Matrix:
    """A stationary series with that autocorrelation and variance 1."""
    values = random.normal(size=DAYS * A_DAY)
    for place in range(1, len(values)):
        values[place] = autocorrelation * values[place - 1] + (1 - autocorrelation**2) ** 0.5 * values[place]
    return values


def lane_of(given: Reference | None, smallest_effect: float) -> Lane:
    """Return a lane with one detector, against a fixed reference or one that rolls over 28 days."""
    (rule,) = watched({"kind": "drift", "window": {"rows": WINDOW}}).settings.detectors
    promise = FalseAlarmSettings(expected_run_length_windows=1 / PROMISED, smallest_effect=smallest_effect)
    beat = Beat(Stream("default", "income", "predictor", "default"))
    kept = RollingRows(Rolling(28, 1, 5_000)) if given is None else None
    return Lane(beat, [Post("drift", rule, promise, beat)], given, None, SCHEMA, kept)


@pytest.mark.slow
@pytest.mark.parametrize("autocorrelation", [0.0, 0.5])
def test_false_alarms_come_as_promised_while_the_reference_rolls(autocorrelation: float) -> None:
    rates = [np.mean(alarms(lane_of(None, 0), seed, 0, autocorrelation)) for seed in range(RUNS)]
    error = np.std(rates) / RUNS**0.5
    assert np.mean(rates) == pytest.approx(PROMISED, abs=0.2 * PROMISED + 2 * error)


@pytest.mark.slow
def test_a_trend_within_the_smallest_effect_alarms_a_fixed_reference_alone() -> None:
    trend = 0.1 / (1 + 28 / 2)  # what the middle of the reference lags behind
    rolled = [np.mean(alarms(lane_of(None, 0.1), seed, trend, 0)) for seed in range(RUNS // 3)]
    first = Reference.encoded(SCHEMA, np.random.default_rng(99).normal(size=(5_000, 1)), created_ns=0)
    fixed = [np.mean(alarms(lane_of(first, 0.1), seed, trend, 0)[-100:]) for seed in range(RUNS // 3)]
    assert np.mean(rolled) < PROMISED
    assert np.mean(fixed) > 0.5
