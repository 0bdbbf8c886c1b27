"""The demo's data: US census answers of Massachusetts, and whether a person is employed.

American Community Survey, as prepared by the Folktables project (Ding et al., "Retiring Adult", NeurIPS 2021) and
shipped as Parquet files in the nannyml wheel (Apache-2.0): 2015 to train on, 2016-2018 as traffic. People of one
household follow each other, so the rows are in a natural order and depend on each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from inferwatch.errors import InferwatchError

LABEL = "employed"
AGE = "AGEP"
MEANINGS = {
    "AGEP": "age",
    "SCHL": "schooling",
    "MAR": "marital status",
    "RELP": "relationship in household",
    "DIS": "disability",
    "ESP": "parents' employment",
    "CIT": "citizenship",
    "MIG": "moved within a year",
    "MIL": "military service",
    "ANC": "ancestry",
    "NATIVITY": "born in the country",
    "DEAR": "hearing difficulty",
    "DEYE": "vision difficulty",
    "DREM": "cognitive difficulty",
    "SEX": "sex",
    "RAC1P": "race",
}
FEATURES = list(MEANINGS)


@dataclass(frozen=True, slots=True)
class Census:
    """Rows of numbers (categories as their codes): `training` with labels, `traffic` of later years without."""

    training: pd.DataFrame
    traffic: pd.DataFrame


@dataclass(frozen=True, slots=True)
class Planted:
    """A row with a unit error: its position in the phase, the feature, what it was and what was sent."""

    position: int
    feature: str
    true: float
    sent: float


def read_census(python: Path) -> Census:
    """Return the data from the environment of a Python. Raises `InferwatchError` where the wheel is not there."""
    found = sorted(
        python.parent.parent.glob("lib/python3*/site-packages/nannyml/datasets/data/employment_MA_reference.pq")
    )
    if not found:
        raise InferwatchError(f"{python} has no census data beside it; `make setup-demo` installs it")
    training, traffic = (
        pd.read_parquet(found[0].with_name(f"employment_MA_{part}.pq")) for part in ("reference", "analysis")
    )
    return Census(training[[*FEATURES, LABEL]].astype(float), traffic[FEATURES].astype(float))


def take(traffic: pd.DataFrame, start: int, rows: int, *, under_age: float | None = None) -> pd.DataFrame:
    """Return rows in their order from a position on, all of them or only those of people under an age."""
    later = traffic.iloc[start:]
    if under_age is not None:
        later = later[later[AGE] < under_age]
    return later.iloc[:rows]


def plant(rows: pd.DataFrame, count: int, seed: int = 0) -> tuple[pd.DataFrame, list[Planted]]:
    """Return the rows with ages given in months for `count` adults, chosen at random, and which ones they are."""
    adults = np.flatnonzero(rows[AGE].to_numpy() >= 30)
    chosen = np.sort(np.random.default_rng(seed).choice(adults, count, replace=False))
    ages = rows[AGE].to_numpy().copy()
    planted = [Planted(int(position), AGE, float(ages[position]), float(ages[position] * 12)) for position in chosen]
    ages[chosen] *= 12
    return rows.assign(**{AGE: ages}), planted
