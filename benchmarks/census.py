"""Real data: what changed in the census of the demo, year by year, and by how much.

The reference is a random half of 2015's rows. The other half of 2015 and the three years after it are judged in their
order, people of one household behind each other, in windows of 1,000 rows, with the default smallest effect and a
promise of one false alarm in 100 windows; the rows that a burn-in takes from 2015 tell how they depend on each other.
A feature's change is that of all the year's rows against the reference: of numbers in standard deviations, of
categories in total variation. Run with `python -m benchmarks.census`, which writes docs/census.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from inferwatch.finding import Finding
from inferwatch.promise import Promise
from inferwatch.reference import Reference
from inferwatch.rows import Batch, Column, Rows
from inferwatch_cli.demo.census import FEATURES, MEANINGS
from inferwatch_detectors import Dependence, HistogramDrift
from inferwatch_detectors.burn_in import BurnIn

DATA = Path(".venvs/demo/lib")
PAGE = Path(__file__).parents[1] / "docs" / "census.md"
WINDOW = 1_000
NUMBERS = ("AGEP",)


def years() -> dict[int, pd.DataFrame]:
    """Return the rows of each year in their order. Raises `FileNotFoundError` where the demo's data are not there."""
    files = sorted(DATA.glob("python3*/site-packages/nannyml/datasets/data/employment_MA_*.pq"))
    frames = [pd.read_parquet(file) for file in files if "target" not in file.name]
    if not frames:
        raise FileNotFoundError(f"{DATA} has no census data; make setup-demo installs them")
    rows = pd.concat(frames)
    return {int(year): rows.loc[rows["year"] == year, FEATURES].astype(float) for year in sorted(rows["year"].unique())}


def rows_of(frame: pd.DataFrame) -> Rows:
    """Return the rows with every feature but the age as a category."""
    columns = (
        Column(name, frame[name].to_numpy() if name in NUMBERS else frame[name].astype(str).to_numpy(dtype=object))
        for name in FEATURES
    )
    return Rows(tuple(columns), len(frame))


def halves(frame: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a random half of the rows, and the others, each in their order."""
    chosen = np.random.default_rng(0).random(len(frame)) < 0.5
    return frame[chosen], frame[~chosen]


def judged(reference: Reference, dependence: Dependence, frame: pd.DataFrame) -> tuple[Finding, list[Finding]]:
    """Return the finding about all rows together, and those about windows."""
    values = reference.schema.encode(rows_of(frame)).values
    count = len(values) // WINDOW
    detectors = [
        HistogramDrift(reference, window_rows=rows, promise=Promise(100), dependence=dependence)
        for rows in (len(values), WINDOW)
    ]
    [whole] = detectors[0].observe(Batch.of(values))
    return whole, [detectors[1].observe(Batch.of(part))[0] for part in np.split(values[: count * WINDOW], count)]


def table(found: dict[str, tuple[Finding, list[Finding]]]) -> list[str]:
    """Return the table: a line for each feature, a column for each year."""
    alarms = [f"{sum(each.fired for each in parts)} of {len(parts)}" for _, parts in found.values()]
    effects = {
        year: {each.name: (each, share(each.name, parts)) for each in whole.features}
        for year, (whole, parts) in found.items()
    }
    lines = [f"| feature | {' | '.join(found)} |", "|---" * (len(found) + 1) + "|"]
    lines.append(f"| **windows that alarm** | {' | '.join(alarms)} |")
    for name in FEATURES:
        cells = [effects[year][name] for year in found]
        shown = [
            f"{each.effect:.3f} ({each.effect_low:.3f} to {each.effect_high:.3f}), {part:.0%}" for each, part in cells
        ]
        lines.append(f"| {MEANINGS[name]} | {' | '.join(shown)} |")
    return lines


def share(name: str, parts: Sequence[Finding]) -> float:
    """Return the share of windows in which the feature alarmed."""
    return float(np.mean([any(each.name == name and each.fired for each in part.features) for part in parts]))


_ABOUT = """# The census, year by year

Written by `python -m benchmarks.census`, which says how. Each cell: the change of all the year's rows against the
reference of 2015 with its 95 % interval (age in standard deviations, the others in total variation), and the share of
windows of 1,000 rows in which the feature alarmed. 2015 is the half of its rows that the reference does not hold.

In the files of 2017 and 2018 the people of group quarters, 7 % of all, no longer stand among the others but together,
at the end and at the beginning: five windows of 1,000 hold nothing else, and the others next to none of them. That
order is the likeliest cause of the alarms; people themselves changed most in ancestry and schooling, by 0.03 to 0.04 in
total variation.
"""


def main() -> None:
    """Write and print the table."""
    frames = years()
    held, frames[min(frames)] = halves(frames[min(frames)])
    reference = Reference.build(rows_of(held), created_ns=0)
    burn_in = BurnIn(reference, None)
    burn_in.add(Batch.of(reference.schema.encode(rows_of(frames[min(frames)])).values))
    assert burn_in.dependence is not None
    found = {str(year): judged(reference, burn_in.dependence, frame) for year, frame in frames.items()}
    PAGE.write_text("\n".join([_ABOUT, *table(found)]) + f"\n\nAssumed: {burn_in.dependence.assumption}.\n")
    print(PAGE.read_text())


if __name__ == "__main__":
    main()
