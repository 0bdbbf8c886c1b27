"""Parts of the day or of the week as segments: traffic with a season is compared with its like."""

from collections import Counter
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray
from pydantic import ValidationError

from inferwatch.clock import NS_PER_S
from inferwatch.events import CloudEvent
from inferwatch.reference import Reference
from inferwatch.rows import Column, Matrix, Rows
from inferwatch.settings import HoursSettings
from inferwatch_detectors.worker import Worker
from tests.detectors.watched import HISTOGRAM, items, model
from tests.inferences import NOON, request

HOUR_S, ROWS, DAYS, SHIFTED_FROM = 3600, 80, 16, 11


def cycle(hours: NDArray[np.int64]) -> Matrix:
    return np.asarray(40 + 10 * np.sqrt(2) * np.sin(hours * np.pi / 12))


def reference() -> Reference:
    """5,000 rows of all hours, shuffled as training tables are."""
    random = np.random.default_rng(4)
    column = Column("age", random.normal(cycle(random.integers(0, 24, 5000)), 10))
    return Reference.build(Rows((column,), 5000), created_ns=0)


def traffic() -> list[CloudEvent]:
    """80 ages an hour that follow a daily cycle, half of their variance, and rise by 1 sd from the twelfth day on."""
    random = np.random.default_rng(5)
    hours = np.arange(DAYS * 24)
    means = cycle(hours) + 14 * (hours >= SHIFTED_FROM * 24)
    return [
        request(f"h{hour}", float(hour * HOUR_S), [[age] for age in random.normal(mean, 10, ROWS).tolist()])
        for hour, mean in zip(hours.tolist(), means.tolist(), strict=True)
    ]


def test_parts_of_the_day_tell_what_the_whole_of_a_daily_cycle_hides() -> None:
    watched = model(
        HISTOGRAM | {"window": {"rows": 500}},
        reference=reference(),
        segments=[{"by": {"hours": 4}}],
        burn_in_rows=3 * 24 * ROWS,
        false_alarms={"expected_run_length_windows": 50},
    )
    found = Worker([watched]).judge(items(traffic(), arrival_s=DAYS * 24 * HOUR_S))
    shifted_ns = NOON + SHIFTED_FROM * 24 * HOUR_S * NS_PER_S
    fired = Counter(finding.segment for finding in found if finding.fired and finding.time_ns >= shifted_ns)

    assert not any(finding.fired for finding in found if finding.time_ns < shifted_ns)
    assert fired.keys() == {f"hours={begin:02}-{begin + 4:02}" for begin in range(0, 24, 4)}
    assert min(fired.values()) >= 2


def test_a_model_whose_cycle_hides_drift_says_so_and_what_to_do() -> None:
    watched = model(HISTOGRAM | {"window": {"rows": 500}}, reference=reference(), burn_in_rows=3 * 24 * ROWS)
    worker = Worker([watched])
    found = worker.judge(items(traffic()[: 4 * 24], arrival_s=DAYS * 24 * HOUR_S))
    (status,) = worker.statuses()
    (note,) = status.notes

    assert note.startswith("rows depend on each other so much that 500 rows count as ")
    assert note.endswith("and so does segments: [{by: {hours: 4}}] where traffic has a daily cycle")
    assert found[-1].assumption.endswith(note.removeprefix("rows depend on each other so much that "))


@pytest.mark.parametrize(("hours", "told"), [(8, True), (24, False)])
def test_a_burn_in_that_is_shorter_than_the_cycle_is_told_after_a_restart_too(hours: int, told: bool) -> None:
    watched = model(HISTOGRAM, segments=[{"by": {"hours": 4}}], burn_in_rows=10 * (hours + 1))
    ages = [[40, "clerk"]] * 10
    hourly = [request(f"h{hour}", float(hour * HOUR_S), ages) for hour in range(hours + 1)]
    worker = Worker([watched])
    for part in (hourly[:5], hourly[5:]):
        worker.judge(items(part, arrival_s=hours * HOUR_S))
        kept, worker = worker.dump(), Worker([watched])
        worker.load({name: data for name, data in kept.items() if data is not None})
    (status,) = worker.statuses()
    note = f"the burn-in of {10 * (hours + 1)} rows spanned {hours} of the 24 hours whose parts are segments"
    assert [each.startswith(note) for each in status.notes] == [True] * told


@pytest.mark.parametrize(
    ("settings", "part"),
    [
        ({"hours": 6}, "06-12"),
        ({"hours": 2}, "08-10"),
        ({"hours": 12, "of": "week"}, "Sun 00-12"),
        ({"hours": 24, "of": "week"}, "Sun 00-24"),
    ],
)
def test_a_time_lies_in_one_part(settings: dict[str, object], part: str) -> None:
    moment = datetime(2026, 11, 22, 9, 59, 59, tzinfo=UTC)  # a Sunday

    assert HoursSettings.model_validate(settings).part(int(moment.timestamp()) * NS_PER_S) == part


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"hours": 5}, "a day is cut into parts of 2, 3, 4, 6, 8 or 12 hours"),
        ({"hours": 1}, "a day is cut"),
        ({"hours": 24}, "a day is cut"),
        ({"hours": 6, "of": "week"}, "a week is cut into parts of 12 or 24 hours"),
        ({"hours": 0}, "greater than 0"),
    ],
)
def test_other_parts_are_refused(settings: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        HoursSettings.model_validate(settings)
