"""References of live traffic: judging begins with the first row behind them."""

from __future__ import annotations

from typing import Any

import numpy as np

from inferwatch.clock import NS_PER_S
from inferwatch.rows import Column, Rows
from inferwatch_detectors.worker import MonitoredModel, Worker
from tests.detectors.watched import HISTOGRAM, instances, items, learnt, model
from tests.inferences import NOON, request

FIRST = {"logged": {"first": 100}}


def unread(*detectors: dict[str, Any], reference: Any = FIRST, **fields: Any) -> MonitoredModel:
    """A model whose reference is made of its traffic."""
    settings = model(*detectors, **fields).settings.model_validate(
        {"name": "income", "reference": reference, "detectors": detectors} | fields
    )
    return MonitoredModel(settings, None)


def asked(start: int, count: int, **extensions: str) -> list[Any]:
    return [request(f"r{n}", n, instances(10, seed=n), **extensions) for n in range(start, start + count)]


def test_the_first_rows_are_the_reference_and_the_next_one_is_judged() -> None:
    worker = Worker([unread(HISTOGRAM)])
    assert worker.judge(items(asked(0, 14))) == []
    (status,) = worker.statuses()
    assert (status.state, status.needs_rows) == ("waiting", 10)
    (found,) = worker.judge(items(asked(14, 1)))
    assert found.window is not None
    assert found.window.from_ns == NOON + 10 * NS_PER_S
    assert found.assumption.endswith("compared with the first 100 live rows")
    assert "autocorrelated" in found.assumption or "independent, as estimated" in found.assumption


def test_the_last_rows_of_the_log_are_the_reference_at_once() -> None:
    def history(stream: Any, last: int) -> list[Rows]:
        assert (stream.name, last) == ("income", 80)
        return [Rows((Column("0", np.arange(50.0)), Column("1", np.arange(50.0))), 50, named=False)] * 2

    watched = unread(HISTOGRAM, reference={"logged": {"last": 80}})
    worker = Worker([watched], history=history)
    rows = [[value, value] for value in range(50)]
    (found,) = worker.judge(items([request("a", 0, rows)]))
    assert found.assumption.endswith("compared with the last 80 logged rows")
    again = Worker([watched], history=lambda *_: [])
    again.load({name: data for name, data in worker.dump().items() if data is not None})
    assert [f.id for f in again.judge(items([request("b", 1, rows)]))] == [
        f.id for f in worker.judge(items([request("b", 1, rows)]))
    ]


def test_a_reference_goes_by_the_models_version() -> None:
    settings = model(HISTOGRAM, burn_in_rows=0).settings
    watched = MonitoredModel(settings, None, {"1": learnt(), "2": learnt(seed=5)})
    worker = Worker([watched])
    events = asked(0, 5, modelversion="1") + asked(5, 5, modelversion="2") + asked(10, 9, modelversion="3")
    found = worker.judge(items(events))
    assert [finding.version for finding in found] == ["1", "2"]
    again = Worker([watched])
    again.load({name: data for name, data in worker.dump().items() if data is not None})
    assert [f.id for f in again.judge(items(asked(20, 5, modelversion="1")))] == [
        f.id for f in worker.judge(items(asked(20, 5, modelversion="1")))
    ]


def test_a_star_stands_for_every_model_that_is_not_named() -> None:
    named, others = model(HISTOGRAM, name="named"), unread(HISTOGRAM, name="*", namespace="*")
    worker = Worker([named, others])
    worker.judge(
        items(asked(0, 1, inferenceservicename="named") + asked(0, 1, inferenceservicename="x", namespace="y"))
    )
    assert {(status.namespace, status.name, status.needs_rows) for status in worker.statuses()} == {
        ("default", "named", 40),
        ("y", "x", 90 + 50),
    }
