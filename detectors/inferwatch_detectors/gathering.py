"""References made of live traffic: rows are gathered until there are enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from inferwatch.errors import InvalidReference
from inferwatch.reference import Reference
from inferwatch.rows import Feature, Rows
from inferwatch_detectors.burn_in import MILESTONES
from inferwatch_detectors.dependence import Dependence, estimate_dependence
from inferwatch_detectors.row_archive import pack_rows, unpack_rows

LEARNT_ROWS = 1_000
"""So many first live rows are the reference where none was given."""


class Learnt(NamedTuple):
    """A reference made of live rows in the order of the log, and how much these depend on each other."""

    reference: Reference
    dependence: Dependence


@dataclass(frozen=True, slots=True)
class Learning:
    """What is learnt of live rows: of how many, which features (all where empty), how many rows are kept."""

    rows: int = LEARNT_ROWS
    features: tuple[Feature, ...] = ()
    sample_rows: int = 5_000
    end: Literal["first", "last"] = "first"

    @property
    def said(self) -> str:
        """What rows are compared with, in words."""
        return f"the {self.end} {self.rows:,} {'live' if self.end == 'first' else 'logged'} rows"


class Gathering:
    """Collects rows, those with the columns of the first, until a reference can be made of them."""

    def __init__(self, learning: Learning) -> None:
        self._learning = learning
        self._parts: list[Rows] = []
        self._kept = 0
        self._saved = 0
        self.note: str | None = None

    @property
    def needs_rows(self) -> int:
        """Rows that are missing."""
        return self._learning.rows - sum(part.count for part in self._parts)

    def add(self, rows: Rows) -> int:
        """Take what is needed of rows, and return how many that are. Rows with other columns are left out."""
        if self._parts and rows.sources != self._parts[0].sources:
            self.note = (
                f"rows with other columns are no part of the reference: {', '.join(rows.sources[:8])} instead of"
                f" {', '.join(self._parts[0].sources[:8])}"
            )
            return rows.count
        taken = min(self.needs_rows, rows.count)
        self._parts.append(rows.slice(0, taken))
        return taken

    def learnt(self, created_ns: int) -> Learnt | None:
        """Return what the rows give once they are enough. Where they give no reference, others are gathered."""
        if self.needs_rows > 0:
            return None
        rows, self._parts = Rows.concat(self._parts), []
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
        recent = reference.schema.encode(rows).values[-MILESTONES[-1] :]
        return Learnt(reference, estimate_dependence(recent, reference))

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
        return {f"rows {self._kept - 1}": pack_rows(Rows.concat(fresh))}

    def load(self, parts: Sequence[bytes]) -> None:
        """Continue with the parts of dumps, in order."""
        self._parts = [unpack_rows(part) for part in parts]
        self._kept = self._saved = len(self._parts)
