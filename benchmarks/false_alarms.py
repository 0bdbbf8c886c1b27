"""How often `histogram` alarms where nothing changed, against its promise; and how often where something did.

References of 5,000 rows, 10,000 independent windows of 10 features in all: 500 references x 20 windows of continuous
numbers, which share one null distribution, and 250 x 40 of integers and categories, which need one each. The alarm rate
is the share of windows in which any feature fires; its interval allows for windows of one reference going together.
Beside it the power against a shift of 0.3 sd in 1 of the 10 features (of categories: 0.15 total variation). Run with
`python -m benchmarks.false_alarms`.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from inferwatch.promise import Promise
from inferwatch.reference import Reference
from inferwatch.rows import Batch, Column, Matrix, Rows
from inferwatch_detectors import HistogramDrift

FEATURES = 10
CATEGORIES = 8
_SHARES = np.array([0.3, 0.25, 0.2, 0.1, 0.08, 0.05, 0.015, 0.005])
Draw = Callable[[np.random.Generator, int], Matrix]


@dataclass(frozen=True, slots=True)
class Stream:
    """A kind of rows: how (n, 10) of them are drawn, and what a shift in the first feature makes of them."""

    draw: Draw
    shift: Callable[[np.random.Generator, Matrix], Matrix]
    categorical: bool = False


@dataclass(frozen=True, slots=True)
class Rate:
    """A measured rate of alarms with its 95 % Monte-Carlo interval, and the power beside it."""

    stream: str
    window: int
    smallest_effect: float
    promised: float
    achieved: float
    low: float
    high: float
    power: float


def _normal(random: np.random.Generator, rows: int) -> Matrix:
    return random.standard_normal((rows, FEATURES))


def _zero_inflated(random: np.random.Generator, rows: int) -> Matrix:
    return np.where(random.random((rows, FEATURES)) < 0.6, 0, random.poisson(3, (rows, FEATURES))).astype(np.float64)


def _categories(random: np.random.Generator, rows: int) -> Matrix:
    return np.searchsorted(np.cumsum(_SHARES)[:-1], random.random((rows, FEATURES)), side="right").astype(np.float64)


def _raised(random: np.random.Generator, values: Matrix) -> Matrix:
    """The first feature's mean raised by 0.3 sd, of integers by adding 1 to as many rows as that takes."""
    column = values[:, 0]
    if (column == np.round(column)).all():
        spread = math.sqrt(0.4 * 3 + 0.4 * 0.6 * 9)
        return np.column_stack([column + (random.random(len(column)) < 0.3 * spread), values[:, 1:]])
    return np.column_stack([column + 0.3, values[:, 1:]])


def _recoded(random: np.random.Generator, values: Matrix) -> Matrix:
    """The first feature with half of its most frequent category, 0.15 in all, moved to the fifth."""
    column = values[:, 0]
    moved = (column == 0) & (random.random(len(column)) < 0.5)
    return np.column_stack([np.where(moved, 4.0, column), values[:, 1:]])


STREAMS: Mapping[str, Stream] = {
    "continuous": Stream(_normal, _raised),
    "zero-inflated integers": Stream(_zero_inflated, _raised),
    "categories": Stream(_categories, _recoded, categorical=True),
}


def measure(
    name: str,
    *,
    window: int,
    smallest_effect: float,
    promises: tuple[float, ...] = (20, 100),
    references: int = 500,
    windows: int = 20,
    reference_rows: int = 5000,
    cell_draws: int = 4_000_000,
    seed: int = 0,
) -> list[Rate]:
    """Return the rates of a stream, one for each promise (windows between two alarms), all from the same windows.

    `cell_draws` below a detector's default makes single thresholds rougher and leaves their mean over references.
    """
    stream = STREAMS[name]
    random = np.random.default_rng([seed, window, list(STREAMS).index(name)])
    scores, shifted = np.empty((references, windows)), []
    for number in range(references):
        reference = _reference(stream, random, reference_rows)
        detector = HistogramDrift(
            reference,
            window_rows=window,
            promise=Promise(promises[0]),
            smallest_effect=smallest_effect,
            cell_draws=cell_draws,
        )
        for place in range(windows):
            scores[number, place] = _score(detector, stream.draw(random, window))
        shifted.append(_score(detector, stream.shift(random, stream.draw(random, window))))
    return [_rate(name, window, smallest_effect, 1 / length, scores, np.array(shifted)) for length in promises]


def _reference(stream: Stream, random: np.random.Generator, rows: int) -> Reference:
    values = stream.draw(random, rows)
    columns = (
        values[:, index].astype(int).astype(str) if stream.categorical else values[:, index]
        for index in range(FEATURES)
    )
    named = tuple(
        Column(f"x{index}", column.astype(object) if stream.categorical else column)
        for index, column in enumerate(columns)
    )
    return Reference.build(Rows(named, rows), sample_rows=rows, created_ns=0)


def _score(detector: HistogramDrift, values: Matrix) -> float:
    [finding] = detector.observe(Batch.of(values))
    return finding.score


def _rate(name: str, window: int, smallest_effect: float, promised: float, scores: Matrix, shifted: Matrix) -> Rate:
    alarms = (scores > -math.log10(promised)).mean(axis=1)
    error = 1.96 * float(alarms.std(ddof=1)) / math.sqrt(len(alarms))
    achieved = float(alarms.mean())
    power = float((shifted > -math.log10(promised)).mean())
    return Rate(name, window, smallest_effect, promised, achieved, achieved - error, achieved + error, power)


def main() -> list[Rate]:
    """Print the table and return its rows."""
    print("| rows | window | smallest effect | promised | achieved (95 %) | achieved / promised | power |")
    print("|---|---|---|---|---|---|---|")
    rates = []
    begun = time.perf_counter()
    for smallest_effect, windows in ((0.0, (200, 500)), (0.1, (500,))):
        for name in STREAMS:
            references = 500 if name == "continuous" else 250
            for window in windows:
                for rate in measure(
                    name,
                    window=window,
                    smallest_effect=smallest_effect,
                    references=references,
                    windows=10_000 // references,
                    cell_draws=4_000_000 if name == "continuous" else 1_000_000,
                ):
                    rates.append(rate)
                    print(
                        f"| {rate.stream} | {rate.window} | {rate.smallest_effect:g} | {rate.promised:.3g} "
                        f"| {rate.achieved:.4f} ({rate.low:.4f} to {rate.high:.4f}) "
                        f"| {rate.achieved / rate.promised:.2f} | {rate.power:.2f} |",
                        flush=True,
                    )
    print(f"\nOne thread, {time.perf_counter() - begun:.0f} s.")
    return rates


if __name__ == "__main__":
    main()
