"""One budget over all models: the share of false alarms holds, and deliveries and restarts change nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from math import erfc, log10

import numpy as np
import pytest

from inferwatch.clock import NS_PER_S
from inferwatch.events import CloudEvent
from inferwatch.finding import Finding
from inferwatch.promise import NS_PER_DAY
from inferwatch.rows import Batch
from inferwatch_detectors.fleet import Fleet
from inferwatch_detectors.worker import MonitoredModel, Worker
from tests.detectors.references import numbers
from tests.detectors.watched import items, model
from tests.inferences import request

HOURS = 24
HOUR = NS_PER_DAY // HOURS


def finding(name: str, score: float, time_ns: int, threshold: float = 0.0) -> Finding:
    return Finding("drift", "histogram", score, threshold, time_ns, p_value=10**-score, name=name, why="x rose")


def hour_ending(time_ns: int) -> Batch:
    return Batch.of(np.zeros((2, 1)), times_ns=np.array([time_ns - HOUR // 2, time_ns]), since_ns=time_ns - HOUR)


def false_and_true(seed: int, models: int, drifting: int, z: float) -> tuple[int, int]:
    """Count the models that alarm on a day: falsely, and those of which windows drift by z from noon on.

    Half of every score's variance is common to all models.
    """
    random, fleet, alarmed = np.random.default_rng(seed), Fleet(0.05, models), set[int]()
    for hour in range(HOURS):
        scores = np.sqrt(0.5) * (random.normal() + random.normal(size=models))
        scores[:drifting] += z * (hour >= HOURS // 2)
        time_ns = hour * HOUR + HOUR - 1
        for number, score in enumerate(scores.tolist()):
            judged = fleet.decided(
                finding(str(number), -log10(erfc(score / 2**0.5) / 2), time_ns), hour_ending(time_ns)
            )
            if judged.fired:
                alarmed.add(number)
    found = sum(number < drifting for number in alarmed)
    return len(alarmed) - found, found


@pytest.mark.slow
def test_of_a_thousand_models_few_alarm_falsely_and_those_that_drift_alarm() -> None:
    """With 10 of 1,000 shifted by 0.3 sd in windows of 500 rows, z is 6.7."""
    days = [false_and_true(seed, 1_000, 10, 0.3 * 500**0.5) for seed in range(12)]
    assert np.mean([false / max(1, false + true) for false, true in days]) <= 0.05
    assert np.mean([true for _, true in days]) >= 9.5


def test_more_alarms_of_a_day_lower_the_threshold_of_the_next() -> None:
    fleet = Fleet(0.1, 2)
    first = fleet.decided(finding("a", 20, HOUR), hour_ending(HOUR))
    second = fleet.decided(finding("b", 1, HOUR), hour_ending(HOUR))
    third = fleet.decided(finding("c", 1, HOUR), hour_ending(HOUR))
    part = 0.25 + 0.25 / HOURS
    assert first.threshold == pytest.approx(log10(40 / part / 0.1) / 0.9)
    assert second.threshold == pytest.approx(log10(20 / part / 0.1) / 0.9)
    assert third.threshold == second.threshold
    assert [each.fired for each in (first, second, third)] == [True, False, False]
    assert second.why == "no alarm among all models, alone it would be: x rose"
    assert second.assumption == "of the alarms of a day over all models a share of 0.1 is false at most"
    again = fleet.decided(finding("a", 3, 2 * HOUR, threshold=2.5), hour_ending(2 * HOUR))
    assert (again.threshold, again.fired) == (2.5, True)
    tomorrow = fleet.decided(finding("b", 1, NS_PER_DAY + HOUR), hour_ending(NS_PER_DAY + HOUR))
    assert tomorrow.threshold > second.threshold


def test_what_the_models_own_promise_forbids_gives_no_evidence() -> None:
    fleet = Fleet(0.1, 1)
    quiet = fleet.decided(finding("a", 20, HOUR, threshold=30), hour_ending(HOUR))
    later = fleet.decided(finding("a", 1, 2 * HOUR), hour_ending(2 * HOUR))
    assert (quiet.fired, quiet.threshold, later.fired) == (False, 30, False)


def test_a_score_that_is_no_p_value_is_left_alone() -> None:
    own = replace(finding("a", 3, HOUR, threshold=2), p_value=None)
    assert Fleet(0.1, 1).decided(own, hour_ending(HOUR)) is own


KS = {"kind": "drift", "method": "ks", "window": {"rows": 20}}
REFERENCE = numbers(np.random.default_rng(0).normal(size=(2_000, 1)))


def models() -> list[MonitoredModel]:
    alarms = {"expected_run_length_windows": 5, "smallest_effect": 0}
    quality = {"kind": "quality", "window": {"rows": 30}}
    return [model(KS, quality, name=name, reference=REFERENCE, false_alarms=alarms) for name in "abc"]


def traffic() -> Iterator[CloudEvent]:
    """Three models in turns, over two days; on the second a and b drift."""
    random = np.random.default_rng(5)
    for number in range(240):
        name = "abc"[number % 3]
        rows = random.normal(2.0 * (number >= 160 and name != "c"), 1, (5, 1)).tolist()
        yield request(f"r{number}", 720 * number, rows, inferenceservicename=name)


def test_deliveries_and_restarts_change_no_verdict() -> None:
    delivered = items(traffic(), arrival_s=3 * NS_PER_DAY / NS_PER_S)
    expected = Worker(models(), false_discovery_rate=0.05).judge(delivered)
    alone = Worker(models()).judge(delivered)
    assert len(expected) == len(alone)
    assert {each.name for each in expected if each.fired} == {"a", "b"}
    assert sum(each.fired for each in expected) < sum(each.fired for each in alone)
    assert not {each.id for each in expected} & {each.id for each in alone}
    found, kept, worker = list[Finding](), dict[str, bytes](), Worker(models(), false_discovery_rate=0.05)
    for start, stop in pairwise([*range(0, len(delivered), 11), len(delivered)]):
        found += worker.judge(delivered[start:stop])
        kept = {name: data for name, data in (kept | worker.dump()).items() if data is not None}
        worker = Worker(models(), false_discovery_rate=0.05)
        worker.load(kept)
    assert found == expected
