"""What a worker keeps is used again, while the rule is the same."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import orjson
import pytest

from inferwatch.finding import Finding
from inferwatch.rows import Batch
from inferwatch_detectors.worker import Worker
from tests.detectors.watched import items, learnt, model
from tests.detectors.worker.plugged import EACH, SEEN, Each, Plug, numbers, restarted, status


@pytest.mark.usefixtures("plug")
def test_a_dump_holds_what_changed_since_the_last() -> None:
    worker = Worker([model(SEEN)])
    worker.judge(items([numbers(1), numbers(2, endpoint="canary")]))
    assert {orjson.loads(name)[3] for name in worker.dump()} == {"default", "canary"}
    assert worker.dump() == {}
    worker.judge(items([numbers(3)]))
    assert {orjson.loads(name)[3] for name in worker.dump()} == {"default"}


CHANGES: Mapping[str, tuple[dict[str, Any], bool]] = {
    "nothing": ({}, True),
    "the deadline of an explainer": ({"explainers": [{"method": "a", "predictor": "http://a"}]}, True),
    "the window": ({"detectors": [SEEN | {"window": {"rows": 5}}]}, False),
    "the promise": ({"false_alarms": {"expected_run_length_windows": 7}}, False),
    "the smallest effect": ({"false_alarms": {"smallest_effect": 0.2}}, False),
    "the burn-in": ({"burn_in_rows": 1}, False),
}


@pytest.mark.usefixtures("plug")
@pytest.mark.parametrize("change", CHANGES)
def test_what_is_kept_is_used_while_the_rule_is_the_same(change: str) -> None:
    fields, kept = CHANGES[change]
    worker = Worker([model(SEEN)])
    worker.judge(items([numbers(1, 2, 3, 4, 5)]))
    again = restarted(worker, model(SEEN, **fields))
    if kept:
        assert status(again) == status(worker)
        assert status(again).needs_rows == 3
    else:
        assert (status(again).windows, status(again).state) == (0, "waiting")


@pytest.mark.usefixtures("plug")
def test_another_reference_begins_anew_and_gives_other_ids() -> None:
    worker = Worker([model(SEEN)])
    (first,) = worker.judge(items([numbers(1, 2, 3, 4, 5)]))
    other = model(SEEN, reference=learnt(seed=9))
    again = restarted(worker, other)
    assert (status(again).windows, status(again).needs_rows) == (0, 4)
    (second,) = again.judge(items([numbers(1, 2, 3, 4)]))
    assert first.id != second.id
    assert replace(first, id="") == replace(second, id="")


@pytest.mark.usefixtures("plug")
def test_a_detector_that_is_new_or_gone_leaves_the_others_as_they_were() -> None:
    worker = Worker([model(SEEN, EACH)])
    worker.judge(items([numbers(1, 2, 300)]))
    again = restarted(worker, model(SEEN, SEEN | {"name": "other"}))
    assert [(s.detector, s.needs_rows) for s in again.statuses()] == [("seen", 1), ("other", 4)]
    assert len(again.judge(items([numbers(4)]))) == 1
    assert restarted(worker).statuses() == []


class Counting(Each):
    """Remembers how many rows it saw, and finds so many in the last of each batch."""

    def __init__(self) -> None:
        self.rows = 0

    def observe(self, batch: Batch, /) -> list[Finding]:
        self.rows += len(batch)
        time_ns = int(batch.times_ns[-1])
        return [Finding("outlier", "each", self.rows, 1e9, time_ns, key=batch.keys[-1], row=int(batch.index[-1]))]

    def dump(self) -> bytes:
        return str(self.rows).encode()

    def load(self, data: bytes, /) -> None:
        self.rows = int(data)


@pytest.mark.parametrize("detector", [EACH, SEEN], ids=["of rows", "of windows, built after the burn-in"])
def test_a_detector_with_a_memory_continues_from_it(plug: Plug, detector: dict[str, Any]) -> None:
    plug(each=Counting, seen=Counting)
    watched = model(detector, burn_in_rows=2)
    worker = Worker([watched])
    worker.judge(items([numbers(*range(6))]))
    again = restarted(worker, watched)
    (found,) = again.judge(items([numbers(*range(4))]))
    assert found.score == (10 if detector is EACH else 8)


@pytest.mark.usefixtures("plug")
def test_loading_forgets_what_was_there() -> None:
    worker = Worker([model(SEEN)])
    worker.judge(items([numbers(1, 2)]))
    worker.load({})
    assert (worker.statuses(), worker.dump()) == ([], {})
