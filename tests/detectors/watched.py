"""A model that is watched, its traffic as the pipeline gives it to the worker, and small detectors."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from inferwatch.clock import NS_PER_S
from inferwatch.events import CloudEvent, Role, Stream
from inferwatch.exclusion import Exclusion
from inferwatch.payload_log.entry import pack, unpack
from inferwatch.pipeline import Item
from inferwatch.reference import Reference
from inferwatch.rows import Column, Feature, Rows
from inferwatch.settings import ModelSettings
from inferwatch.wire.decode import Decoded, decode
from inferwatch_detectors.worker import MonitoredModel
from tests.inferences import NOON

FEATURES = (Feature("age", "numeric"), Feature("job", "categorical", ("clerk", "smith")))
HISTOGRAM = {"kind": "drift", "method": "histogram", "window": {"rows": 50}}
MAHALANOBIS = {"kind": "outlier", "method": "mahalanobis", "false_alarm_rate": 0.05}


def learnt(seed: int = 0, count: int = 1000) -> Reference:
    """Return a reference of so many rows."""
    random = np.random.default_rng(seed)
    ages = Column("age", random.normal(40, 10, count))
    jobs = Column("job", np.array(["clerk", "smith"], dtype=object)[random.integers(0, 2, count)])
    return Reference.build(Rows((ages, jobs), count), features=FEATURES, created_ns=0)


REFERENCE = learnt()


def model(*detectors: dict[str, Any], reference: Reference = REFERENCE, **fields: Any) -> MonitoredModel:
    """Return a model with these detectors and no burn-in; other fields of its settings by name."""
    plain = {"name": "income", "reference": Path("r.csv"), "burn_in_rows": 0, "detectors": detectors}
    return MonitoredModel(ModelSettings.model_validate(plain | fields), reference)


def instances(count: int, *, seed: int = 1, age: float = 40) -> list[list[Any]]:
    """Return rows as a client sends them: age and job."""
    random = np.random.default_rng(seed)
    jobs = random.integers(0, 2, count)
    return [
        [value, ("clerk", "smith")[job]]
        for value, job in zip(random.normal(age, 10, count).tolist(), jobs, strict=True)
    ]


def items(events: Iterable[CloudEvent], *, arrival_s: float = 86_400) -> list[Item]:
    """Return events as the pipeline gives them to a judge, all of them arrived so many seconds past noon.

    A half makes a pair with the last one of its stream and id that is open and of the other role. What is no half is an
    explanation.
    """
    found: list[Item] = []
    still_open: dict[tuple[Stream, str], tuple[Role, str]] = {}
    for number, event in enumerate(events):
        entry = unpack(number + 1, pack(event, NOON + round(arrival_s * NS_PER_S)))
        role = event.role
        if role is None:
            nothing = Decoded("explanation")
            found.append(
                Item(event, event.stream, None, entry.time_ns, nothing, event.id, None, entry.arrival_ns, "explanation")
            )
            continue
        decoded = decode(event.data, role)
        place = event.stream, event.id
        key, outcome = f"{event.id}/{event.time_ns}", ("request_only", "response_only")[role]
        if place in still_open and still_open[place][0] is not role:
            (_, key), outcome = still_open.pop(place), "paired"
        else:
            still_open[place] = role, key
        excluded = Exclusion().reason(event, decoded.protocol)
        found.append(Item(event, event.stream, role, entry.time_ns, decoded, key, excluded, entry.arrival_ns, outcome))
    return found
