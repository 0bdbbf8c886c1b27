"""Logged explanations as rows: how much each feature contributed to a prediction."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from inferwatch.explanation_event import ExplanationEvent
from inferwatch.pipeline import Item
from inferwatch.rows import Grid, Rows
from inferwatch_detectors.parts import Part


class Attributions:
    """Gives the attributions of explanations, of the method whose explanation came first.

    Methods explain on scales of their own, so that those of two are not comparable. An answer that was given before,
    and is given again to the same question, counts once.
    """

    def __init__(self) -> None:
        self.method: str | None = None
        self.note: str | None = None

    def take(self, items: Sequence[Item]) -> list[Part]:
        """Return the attributions among the items, in their order."""
        return [part for item in items if item.role is None for part in self._parts(item)]

    def _parts(self, item: Item) -> Iterator[Part]:
        told = ExplanationEvent.of(item.event)
        if told is None or told.cached:
            return
        start = 0
        for features, alike in groupby(filter(_is_attribution, told.entries), lambda entry: tuple(entry["features"])):
            values = [entry["values"] for entry in alike if self._comparable(entry)]
            if values:
                grid = Grid(features, np.array(values, dtype=np.float64), (False,) * len(features))
                rows = Rows(grid, len(values))
                yield Part(rows, item.time_ns, item.arrival_ns, told.id, item.payload_key, start=start)
                start += len(values)

    def _comparable(self, entry: Mapping[str, Any]) -> bool:
        method = str(entry.get("method"))
        self.method = self.method or method
        if method != self.method:
            self.note = f"explanations by {method[:64]} are left out: those by {self.method[:64]} came first"
        return method == self.method


def _is_attribution(entry: Mapping[str, Any]) -> bool:
    features, values = entry.get("features"), entry.get("values")
    if "positions" in entry:  # the words of a text, which are other ones each time
        return False
    if not isinstance(features, list) or not isinstance(values, list) or len(features) != len(values) or not features:
        return False
    numbers = all(value is None or (isinstance(value, int | float) and not isinstance(value, bool)) for value in values)
    return numbers and all(isinstance(name, str) for name in features) and len(set(features)) == len(features)
