"""What is judged of the payloads of one stream: rows of inputs or outputs, with when and whence they came."""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from inferwatch.events import Role
from inferwatch.pipeline import Item
from inferwatch.rows import Rows
from inferwatch.wire.decode import decode

MOST_OPEN = 2_000
"""Halves of payloads of one stream that are remembered until the other comes; the oldest are given up first."""

Labels = tuple[NDArray[np.object_], ...]
"""The segment of each row (n,), once for every `by` of the model's segments."""

Labelled = Callable[[Item], Labels]


class Part(NamedTuple):
    """The rows of one payload that are to be judged, from its row `start` on."""

    rows: Rows
    time_ns: int
    arrival_ns: int
    payload_id: str
    key: str
    labels: Labels = ()
    start: int = 0

    def after(self, taken: int) -> Part:
        """Return the part without its first rows."""
        rows = self.rows.slice(taken, self.rows.count)
        return self._replace(rows=rows, labels=tuple(each[taken:] for each in self.labels), start=self.start + taken)


def inputs(items: Sequence[Item], labelled: Labelled) -> list[Part]:
    """Return the rows of requests, whether or not a response comes."""
    return [
        Part(rows, item.time_ns, item.arrival_ns, item.event.id, item.payload_key, labelled(item))
        for item in items
        if item.role is Role.REQUEST and item.excluded is None and (rows := item.decoded.rows) is not None
        if rows.count > 0
    ]


class _Answer(NamedTuple):
    """A response that came before its request."""

    time_ns: int
    arrival_ns: int
    payload_id: str
    data: bytes


class Outputs:
    """Gives the rows of responses, in the order in which their payloads become pairs.

    Whether a payload is judged, its request decides; so a response that came first waits for it. A reply whose status
    is not 200 is never judged.
    """

    def __init__(self, labelled: Labelled, kinds: int) -> None:
        self._labelled = labelled
        self._kinds = kinds
        self._asked: OrderedDict[str, Labels] = OrderedDict()
        self._answered: OrderedDict[str, _Answer] = OrderedDict()

    def take(self, items: Sequence[Item]) -> list[Part]:
        """Return what the items complete."""
        halves = [item for item in items if item.role is not None]
        found = [self._asking(item) if item.role is Role.REQUEST else self._answering(item) for item in halves]
        for held in (self._asked, self._answered):
            while len(held) > MOST_OPEN:
                held.popitem(last=False)
        return [part for part in found if part is not None and part.rows.count > 0]

    def _asking(self, item: Item) -> Part | None:
        if item.outcome != "paired":
            if self._kinds and item.excluded is None:
                self._asked[item.payload_key] = self._labelled(item)
            return None
        answer = self._answered.pop(item.payload_key, None)
        if answer is None or item.excluded is not None:
            return None
        return self._part(answer, item.payload_key, decode(answer.data, Role.RESPONSE).rows, self._labelled(item))

    def _answering(self, item: Item) -> Part | None:
        labels = self._asked.pop(item.payload_key, None)
        if item.event.extensions.get("statuscode", "200") != "200":
            return None
        answer = _Answer(item.time_ns, item.arrival_ns, item.event.id, item.event.data)
        if item.outcome != "paired":
            self._answered[item.payload_key] = answer
            return None
        if item.excluded is not None:
            return None
        return self._part(answer, item.payload_key, item.decoded.rows, labels or ())

    def _part(self, answer: _Answer, key: str, rows: Rows | None, labels: Labels) -> Part | None:
        """The rows of an answer. Where there are more or fewer than in the question, only what all share holds."""
        if rows is None:
            return None
        known = labels or (np.empty(0, dtype=object),) * self._kinds
        fitting = tuple(each if len(each) == rows.count else _shared(each, rows.count) for each in known)
        return Part(rows, answer.time_ns, answer.arrival_ns, answer.payload_id, key, fitting)

    def dump(self) -> bytes:
        """Return the halves that wait."""
        return orjson.dumps(
            {
                "asked": [[key, [each.tolist() for each in labels]] for key, labels in self._asked.items()],
                "answered": [
                    [key, *answer[:3], b64encode(answer.data).decode()] for key, answer in self._answered.items()
                ],
            }
        )

    def load(self, data: bytes) -> None:
        """Continue with the halves of a dump."""
        kept = orjson.loads(data)
        self._asked = OrderedDict(
            (key, tuple(np.array(each, dtype=object) for each in labels)) for key, labels in kept["asked"]
        )
        self._answered = OrderedDict(
            (key, _Answer(time_ns, arrival_ns, payload_id, b64decode(text)))
            for key, time_ns, arrival_ns, payload_id, text in kept["answered"]
        )


def _shared(labels: NDArray[np.object_], count: int) -> NDArray[np.object_]:
    one = labels[0] if len(labels) and (labels == labels[0]).all() else None
    return np.full(count, one, dtype=object)
