"""Segments: the parts of a model's traffic that are judged apart too."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from inferwatch.cells import category
from inferwatch.payload_log.views import column_names
from inferwatch.pipeline import Item
from inferwatch.reference import Reference
from inferwatch.settings import MOST_SEGMENTS, HoursSettings, SegmentSettings
from inferwatch.wire.metadata import logged_headers
from inferwatch_detectors.parts import Labels

LEAST_ROWS = 500
"""A segment with so many rows in the reference's sample is compared with those."""

OTHER = "other"


class Segments:
    """Says which segments a row belongs to: one for each `by`.

    That is `region=north` by a feature, `x-tenant=a` by a header, `hours=06-12` by event time.

    A row without the feature or the header belongs to none. `features` name the columns of rows that come without
    names. Segments are known in the order of appearance, so that they are a function of the log.
    """

    def __init__(self, settings: Sequence[SegmentSettings], features: Sequence[str] = ()) -> None:
        self._settings = settings
        self._features = features
        self._names: dict[str, str] = {}

    def __bool__(self) -> bool:
        return bool(self._settings)

    def labels(self, item: Item) -> Labels:
        """Return the segment of each row of a request, None where a row has none, for every `by`."""
        return tuple(self._labels(item, segment) for segment in self._settings)

    def _labels(self, item: Item, segment: SegmentSettings) -> NDArray[np.object_]:
        rows = item.decoded.rows
        if rows is None:
            return np.empty(0, dtype=object)
        if isinstance(segment.by, str):
            names = column_names(rows, self._features)
            if segment.by not in names:
                return np.full(rows.count, None, dtype=object)
            cells = rows.columns[names.index(segment.by)].values.tolist()
            return np.array([self._name(segment.by, category(cell)) for cell in cells], dtype=object)
        if isinstance(segment.by, HoursSettings):
            return np.full(rows.count, self._name("hours", segment.by.part(item.time_ns)), dtype=object)
        header = segment.by.header.lower()
        values = logged_headers(item.event.extensions.get("metadata", "")).get(header, ())
        return np.full(rows.count, self._name(header, next(iter(values), None)), dtype=object)

    def _name(self, by: str, value: str | None) -> str | None:
        if value is None:
            return None
        wanted = f"{by}={value}"
        if wanted not in self._names:
            if len(self._names) >= MOST_SEGMENTS:
                return f"{by}={OTHER}"
            self._names[wanted] = wanted
        return wanted

    def dump(self) -> list[str]:
        """Return the names given, in order."""
        return list(self._names)

    def load(self, names: Sequence[str]) -> None:
        """Continue with the names of a dump."""
        self._names = dict.fromkeys(names, "") | {name: name for name in names}


def segment_reference(reference: Reference, segment: str) -> Reference | None:
    """Return the reference of a segment by a feature: its rows of the sample, where they are enough; else None."""
    by, _, value = segment.partition("=")
    for place, feature in enumerate(reference.schema.features):
        if feature.name == by and value in feature.categories:
            chosen = reference.rows[:, place] == feature.categories.index(value)
            if int(chosen.sum()) >= LEAST_ROWS:
                return Reference.encoded(
                    reference.schema, reference.rows[chosen], created_ns=reference.created_ns, ordered=reference.ordered
                )
    return None
