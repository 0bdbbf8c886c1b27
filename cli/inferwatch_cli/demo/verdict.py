"""Compares what was planted with what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from inferwatch_cli.demo.census import AGE, Planted
from inferwatch_cli.demo.traffic import Sent

MATERIAL_SHIFT = 0.2
"""A feature has certainly changed when the total variation distance between the two populations is above this."""

UNCHANGED_SHIFT = 0.02
"""A feature whose total variation distance is below this has not changed in a way that matters."""


@dataclass(frozen=True, slots=True)
class Drift:
    """The first alarm behind the change: after how many changed rows, which features it names, which truly changed."""

    after_rows: int
    named: tuple[str, ...]
    certain: frozenset[str]
    unchanged: frozenset[str]
    finding: Mapping[str, Any]

    @property
    def right(self) -> bool:
        """Whether it names every feature that certainly changed and none that did not."""
        named = set(self.named)
        return AGE in named and self.certain <= named and not named & self.unchanged


@dataclass(frozen=True, slots=True)
class Outliers:
    """Planted rows and flagged rows, as (payload id, row)."""

    planted: Sequence[tuple[str, int]]
    found: Sequence[tuple[str, int]]
    false: Sequence[tuple[str, int]]
    judged: int
    flags: Sequence[Mapping[str, Any]]
    """The findings behind `found` and `false`, oldest first."""

    @property
    def missed(self) -> int:
        """Planted rows that were not flagged."""
        return len(self.planted) - len(self.found)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Everything the table at the end tells."""

    windows: int
    false_alarms: int
    drift: Drift | None
    outliers: Outliers
    explanation: Mapping[str, Any]
    explain_calls: int
    judged_rows: int
    expected_rows: int
    ledger: Mapping[str, Any]
    requests: int

    @property
    def found(self) -> bool:
        """Whether everything that was planted was found, and nothing that was not."""
        return (
            self.drift is not None
            and self.drift.right
            and self.false_alarms == 0
            and self.outliers.missed == 0
            and self.judged_rows == self.expected_rows
        )


def changed_features(before: pd.DataFrame, after: pd.DataFrame) -> tuple[frozenset[str], frozenset[str]]:
    """Return the features that certainly changed between two populations, and those that did not."""
    shifts = {name: _total_variation(before[name], after[name]) for name in before.columns}
    return (
        frozenset(name for name, shift in shifts.items() if shift > MATERIAL_SHIFT),
        frozenset(name for name, shift in shifts.items() if shift < UNCHANGED_SHIFT),
    )


def first_alarm(
    windows: Sequence[Mapping[str, Any]],
    clean_rows: int,
    burn_in_rows: int,
    changed: tuple[frozenset[str], frozenset[str]],
) -> Drift | None:
    """Return the first fired window that ends behind the clean rows. `windows` are drift findings, oldest first."""
    end = burn_in_rows
    for finding in windows:
        end += finding["window"]["rows"]
        if finding["fired"] and end > clean_rows:
            named = tuple(feature["name"] for feature in finding["features"] if feature["fired"])
            return Drift(end - clean_rows, named, *changed, finding)
    return None


def false_alarms(windows: Sequence[Mapping[str, Any]], clean_rows: int, burn_in_rows: int) -> tuple[int, int]:
    """Return how many windows held clean rows only, and how many of these fired."""
    rows = windows[0]["window"]["rows"] if windows else 1
    clean = windows[: (clean_rows - burn_in_rows) // rows]
    return len(clean), sum(finding["fired"] for finding in clean)


def judge_outliers(flags: Sequence[Mapping[str, Any]], planted: Sequence[Planted], sent: Sequence[Sent]) -> Outliers:
    """Return which planted rows of a phase were flagged, and what else of it was. `flags` come newest first."""
    rows_of = {request.id: request.rows for request in sent}
    planted_at = [_locate(error.position, sent) for error in planted]
    of_phase = [flag for flag in flags if flag["payload_id"] in rows_of][::-1]
    flagged = [(flag["payload_id"], flag["row"]) for flag in of_phase]
    return Outliers(
        planted=planted_at,
        found=[place for place in planted_at if place in flagged],
        false=[place for place in flagged if place not in planted_at],
        judged=sum(rows_of.values()),
        flags=of_phase,
    )


def _locate(position: int, sent: Sequence[Sent]) -> tuple[str, int]:
    request = next(request for request in sent if request.first <= position < request.first + request.rows)
    return request.id, position - request.first


def _total_variation(before: pd.Series[float], after: pd.Series[float]) -> float:
    shares = pd.concat([before.value_counts(normalize=True), after.value_counts(normalize=True)], axis=1).fillna(0.0)
    return float((shares.iloc[:, 0] - shares.iloc[:, 1]).abs().sum() / 2)
