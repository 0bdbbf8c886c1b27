"""References made of live traffic: rows are gathered until there are enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from inferwatch.errors import InvalidReference
from inferwatch.reference import Reference
from inferwatch.rows import Feature, Matrix, Rows
from inferwatch_detectors.burn_in import MILESTONES
from inferwatch_detectors.dependence import Dependence, estimate_dependence
from inferwatch_detectors.packing import pack_parts, unpack_parts
from inferwatch_detectors.rolling import Rolling
from inferwatch_detectors.row_archive import pack_rows, unpack_rows

LEARNT_ROWS = 1_000
"""So many first live rows are the reference where none was given."""


class Learnt(NamedTuple):
    """A reference made of live rows in the order of the log, and how much these depend on each other.

    `values` (n, d) and `times_ns` (n,) are all of the rows, as the reference's schema encodes them.
    """

    reference: Reference
    dependence: Dependence
    values: Matrix
    times_ns: NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Learning:
    """What is learnt of live rows: of how many, which features (all where empty), how many rows are kept.

    With `rolling` the rows only tell the columns; the reference is made of them and of those that follow.
    """

    rows: int = LEARNT_ROWS
    features: tuple[Feature, ...] = ()
    sample_rows: int = 5_000
    end: Literal["first", "last"] = "first"
    rolling: Rolling | None = None

    @property
    def said(self) -> str:
        """What rows are compared with, in words."""
        return f"the {self.end} {self.rows:,} {'live' if self.end == 'first' else 'logged'} rows"


class Gathering:
    """Collects rows, those with the columns of the first, until a reference can be made of them."""

    def __init__(self, learning: Learning) -> None:
        self._learning = learning
        self._parts: list[Rows] = []
        self._times: list[NDArray[np.int64]] = []
        self._kept = 0
        self._saved = 0
        self.note: str | None = None

    @property
    def needs_rows(self) -> int:
        """Rows that are missing."""
        return self._learning.rows - sum(part.count for part in self._parts)

    def add(self, rows: Rows, time_ns: int) -> int:
        """Take what is needed of rows of one time, and return how many; rows with other columns are left out."""
        if self._parts and rows.sources != self._parts[0].sources:
            self.note = (
                f"rows with other columns are no part of the reference: {', '.join(rows.sources[:8])} instead of"
                f" {', '.join(self._parts[0].sources[:8])}"
            )
            return rows.count
        taken = min(self.needs_rows, rows.count)
        self._parts.append(rows.slice(0, taken))
        self._times.append(np.full(taken, time_ns, np.int64))
        return taken

    def learnt(self, created_ns: int) -> Learnt | None:
        """Return what the rows give once they are enough. Where they give no reference, others are gathered."""
        if self.needs_rows > 0:
            return None
        rows, times_ns = Rows.concat(self._parts), np.concatenate(self._times)
        self._parts, self._times = [], []
        try:
            reference = Reference.build(
                rows,
                features=self._learning.features,
                sample_rows=self._learning.sample_rows,
                ordered=True,
                created_ns=created_ns,
            )
        except InvalidReference as fault:
            self.note = str(fault)
            return None
        values = reference.schema.encode(rows).values
        return Learnt(reference, estimate_dependence(values[-MILESTONES[-1] :], reference), values, times_ns)

    def dump(self) -> dict[str, bytes | None]:
        """Return the rows that came since the last dump as one more part; None for parts that are no more."""
        fresh = self._parts[self._saved :]
        if len(self._parts) < self._saved or not self._parts:
            gone: dict[str, bytes | None] = {f"rows {number}": None for number in range(self._kept)}
            self._kept = self._saved = 0
            return gone
        self._saved = len(self._parts)
        if not fresh:
            return {}
        self._kept += 1
        times_ns = np.concatenate(self._times[-len(fresh) :])
        kept = {"times": times_ns.tobytes(), "rows": pack_rows(Rows.concat(fresh))}
        return {f"rows {self._kept - 1}": pack_parts(kept)}

    def load(self, parts: Sequence[bytes]) -> None:
        """Continue with the parts of dumps, in order."""
        kept = [unpack_parts(part) for part in parts]
        self._parts = [unpack_rows(each["rows"]) for each in kept]
        self._times = [np.frombuffer(each["times"], np.int64) for each in kept]
        self._kept = self._saved = len(self._parts)
