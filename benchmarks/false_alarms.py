"""How often drift detectors alarm where nothing changed, against their promise; and how often where something did.

References of 5,000 rows and windows of 10 features. Of independent rows each window is drawn anew; a dependent stream
is one series a reference, which begins with the burn-in (500 to 3,000 rows, as in `inferwatch up`), while the
reference itself is shuffled, as training tables are. The alarm rate is the share of windows in which any feature fires;
its 95 % interval allows for the windows of one reference going together. Beside it the power against a shift of 0.3 sd
in 1 of the 10 features (of categories: 0.15 total variation).

`python -m benchmarks.false_alarms` measures the default method on continuous rows; `--all` measures every case that is
not yet among the results with 500 references (2,000 near a bound), one after the other, so that it can be stopped and
started again. Both write docs/false-alarms.md.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from scipy.signal import lfilter

from inferwatch.promise import Promise
from inferwatch.protocols import Detector
from inferwatch.reference import Reference
from inferwatch.rows import Batch, Column, Matrix, Rows
from inferwatch_detectors import Dependence, HistogramDrift, TwoSampleDrift
from inferwatch_detectors.burn_in import MILESTONES, BurnIn

FEATURES = 10
REFERENCES = 500
WEEK = 1500
RESULTS = Path(__file__).parent / "results" / "false_alarms.jsonl"
TABLE = Path(__file__).parent.parent / "docs" / "false-alarms.md"
PICTURE = TABLE.with_suffix(".svg")
_SHARES = np.array([0.3, 0.25, 0.2, 0.1, 0.08, 0.05, 0.015, 0.005])
Draw = Callable[[np.random.Generator, int], Matrix]


@dataclass(frozen=True, slots=True)
class Stream:
    """A kind of rows: how (n, 10) of them are drawn, and what a shift in the first feature makes of them."""

    draw: Draw
    shift: Callable[[np.random.Generator, Matrix], Matrix]
    categorical: bool = False
    dependent: bool = False
    tied: bool = False


@dataclass(frozen=True, slots=True)
class Case:
    """What is measured."""

    method: str
    stream: str
    window: int
    smallest_effect: float


@dataclass(frozen=True, slots=True)
class Rate:
    """A measured rate of alarms with its 95 % Monte-Carlo interval, and the power beside it."""

    method: str
    stream: str
    window: int
    smallest_effect: float
    promised: float
    achieved: float
    low: float
    high: float
    power: float
    windows: int
    references: int


def _normal(random: np.random.Generator, rows: int) -> Matrix:
    return random.standard_normal((rows, FEATURES))


def _heavy(random: np.random.Generator, rows: int) -> Matrix:
    return random.standard_t(2, (rows, FEATURES))


def _zero_inflated(random: np.random.Generator, rows: int) -> Matrix:
    return np.where(random.random((rows, FEATURES)) < 0.6, 0, random.poisson(3, (rows, FEATURES))).astype(np.float64)


def _categories(random: np.random.Generator, rows: int) -> Matrix:
    return np.searchsorted(np.cumsum(_SHARES)[:-1], random.random((rows, FEATURES)), side="right").astype(np.float64)


def _autoregressive(coefficient: float) -> Draw:
    def draw(random: np.random.Generator, rows: int) -> Matrix:
        noise = random.standard_normal((rows, FEATURES)) * math.sqrt(1 - coefficient**2)
        noise[0] = random.standard_normal(FEATURES)
        return np.asarray(lfilter([1.0], [1.0, -coefficient], noise, axis=0))

    return draw


def _rounded(coefficient: float) -> Draw:
    """An autoregressive series in whole halves of its standard deviation."""
    latent = _autoregressive(coefficient)
    return lambda random, rows: np.round(2 * latent(random, rows))


def _season(random: np.random.Generator, rows: int) -> Matrix:
    """Half of the variance is a cycle of 1,500 rows, in another phase for each feature."""
    phases = random.random(FEATURES)
    cycle = np.sin(2 * np.pi * (np.arange(rows)[:, np.newaxis] / WEEK + phases))
    return np.asarray(cycle + random.standard_normal((rows, FEATURES)) * math.sqrt(0.5))


def _raised(_: np.random.Generator, values: Matrix) -> Matrix:
    """The first feature's mean raised by 0.3 sd."""
    return np.column_stack([values[:, 0] + 0.3, values[:, 1:]])


def _stepped(sd: float) -> Callable[[np.random.Generator, Matrix], Matrix]:
    """The first feature's integers, of a standard deviation, raised by 0.3 sd: 1 is added to as many as that takes."""

    def shift(random: np.random.Generator, values: Matrix) -> Matrix:
        return np.column_stack([values[:, 0] + (random.random(len(values)) < 0.3 * sd), values[:, 1:]])

    return shift


def _recoded(random: np.random.Generator, values: Matrix) -> Matrix:
    """The first feature with half of its most frequent category, 0.15 in all, moved to the fifth."""
    column = values[:, 0]
    moved = (column == 0) & (random.random(len(column)) < 0.5)
    return np.column_stack([np.where(moved, 4.0, column), values[:, 1:]])


STREAMS: Mapping[str, Stream] = {
    "continuous": Stream(_normal, _raised),
    "zero-inflated integers": Stream(_zero_inflated, _stepped(math.sqrt(0.4 * 3 + 0.4 * 0.6 * 9)), tied=True),
    "categories": Stream(_categories, _recoded, categorical=True, tied=True),
    "heavy tail (t2)": Stream(_heavy, _raised),
    "AR(0.5)": Stream(_autoregressive(0.5), _raised, dependent=True),
    "AR(0.9)": Stream(_autoregressive(0.9), _raised, dependent=True),
    "season": Stream(_season, _raised, dependent=True),
    "integers on AR(0.5)": Stream(_rounded(0.5), _stepped(2.02), dependent=True, tied=True),
    "integers on AR(0.9)": Stream(_rounded(0.9), _stepped(2.02), dependent=True, tied=True),
}
_ROUNDED = ("integers on AR(0.5)", "integers on AR(0.9)")
_SERIES = tuple(stream for stream in STREAMS if stream not in _ROUNDED)
METHODS = ("histogram", "ks", "cvm", "chi_square", "wasserstein", "psi", "jensen_shannon")
_SOONEST = ("ks", "psi", "chi_square", "jensen_shannon", "cvm", "wasserstein")
"""Methods beside the default one, those that take the least time first."""


def measure(
    name: str,
    *,
    window: int,
    smallest_effect: float,
    method: str = "histogram",
    promises: Sequence[float] = (20, 100),
    references: int = REFERENCES,
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
        reference, dependence, live = drawn(stream, random, reference_rows, window, windows + 1)
        detector = _detector(method, reference, window, promises[0], smallest_effect, dependence, cell_draws)
        for place, rows in enumerate(live[:-1]):
            scores[number, place] = _score(detector, rows)
        shifted.append(_score(detector, stream.shift(random, live[-1])))
    case = Case(method, name, window, smallest_effect)
    return [_rate(case, 1 / length, scores, np.array(shifted)) for length in promises]


def drawn(
    stream: Stream, random: np.random.Generator, reference_rows: int, window: int, windows: int
) -> tuple[Reference, Dependence | None, list[Matrix]]:
    """Return a reference, what the burn-in says about dependence, and live windows."""
    if not stream.dependent:
        values = stream.draw(random, reference_rows)
        return _reference(stream, values), None, [stream.draw(random, window) for _ in range(windows)]
    # far more rows than the reference keeps, so that it is a sample of the whole distribution and not of one stretch
    history = stream.draw(random, 20 * reference_rows)
    reference = _reference(stream, random.permutation(history)[:reference_rows])
    live = stream.draw(random, MILESTONES[-1] + windows * window)
    burn_in = BurnIn(reference, None)
    behind = burn_in.add(Batch.of(live))
    return reference, burn_in.dependence, np.split(behind.values[: windows * window], windows)


def _detector(
    method: str,
    reference: Reference,
    window: int,
    length: float,
    smallest_effect: float,
    dependence: Dependence | None,
    cell_draws: int,
) -> Detector:
    promise = Promise(length)
    if method == "histogram":
        return HistogramDrift(
            reference,
            window_rows=window,
            promise=promise,
            smallest_effect=smallest_effect,
            dependence=dependence,
            cell_draws=cell_draws,
        )
    return TwoSampleDrift(
        reference,
        method=method,  # type: ignore[arg-type]  # one of METHODS
        window_rows=window,
        promise=promise,
        smallest_effect=smallest_effect,
        dependence=dependence,
        cell_draws=cell_draws,
    )


def _reference(stream: Stream, values: Matrix) -> Reference:
    columns = (
        values[:, index].astype(int).astype(str).astype(object) if stream.categorical else values[:, index]
        for index in range(FEATURES)
    )
    named = tuple(Column(f"x{index}", column) for index, column in enumerate(columns))
    return Reference.build(Rows(named, len(values)), sample_rows=len(values), created_ns=0)


def _score(detector: Detector, values: Matrix) -> float:
    [finding] = detector.observe(Batch.of(values))
    return finding.score


def _rate(case: Case, promised: float, scores: Matrix, shifted: Matrix) -> Rate:
    alarms = (scores > -math.log10(promised)).mean(axis=1)
    error = 1.96 * float(alarms.std(ddof=1)) / math.sqrt(len(alarms))
    achieved = float(alarms.mean())
    power = float((shifted > -math.log10(promised)).mean())
    return Rate(
        case.method,
        case.stream,
        case.window,
        case.smallest_effect,
        promised,
        achieved,
        achieved - error,
        achieved + error,
        power,
        scores.size,
        len(scores),
    )


QUICK = (Case("histogram", "continuous", 200, 0.0), Case("histogram", "continuous", 500, 0.0))
SHARPER = {
    Case("histogram", "AR(0.5)", 500, 0.0): 2000,
    Case("histogram", "zero-inflated integers", 500, 0.0): 2000,
    Case("ks", "zero-inflated integers", 500, 0.0): 2000,
    Case("chi_square", "zero-inflated integers", 500, 0.0): 2000,
}
"""Cases with more references: with 500 their rates were near a bound."""


def _cases() -> Iterator[Case]:
    yield from (case for case in (*QUICK, *_usual()) if case not in SHARPER)
    yield from SHARPER
    yield from (Case("histogram", stream, *rest) for rest in ((200, 0.0), (500, 0.1)) for stream in _SERIES)


def _usual() -> Iterator[Case]:
    yield from (Case("histogram", stream, 500, 0.0) for stream in _SERIES)
    yield from (Case("histogram", stream, 20, 0.0) for stream in _SERIES)
    judged = (stream for stream in _SERIES if stream != "season")
    yield from (Case(method, stream, 500, 0.0) for stream in judged for method in _SOONEST)
    yield from (Case(method, stream, 500, 0.0) for stream in _ROUNDED for method in ("ks", "psi", "histogram"))


def _measured(case: Case) -> list[Rate]:
    """20 windows of each reference; fewer draws where references share none."""
    shared = not STREAMS[case.stream].tied and case.method in ("histogram", "ks", "cvm", "wasserstein")
    return measure(
        case.stream,
        method=case.method,
        window=case.window,
        smallest_effect=case.smallest_effect,
        references=SHARPER.get(case, REFERENCES),
        cell_draws=4_000_000 if shared else 1_000_000,
    )


def _known() -> dict[Case, list[Rate]]:
    known: dict[Case, list[Rate]] = {}
    for line in RESULTS.read_text().splitlines() if RESULTS.exists() else ():
        rate = Rate(**json.loads(line))
        known.setdefault(Case(rate.method, rate.stream, rate.window, rate.smallest_effect), []).append(rate)
    return known


def _keep(known: Mapping[Case, Sequence[Rate]]) -> None:
    RESULTS.parent.mkdir(exist_ok=True)
    lines = [json.dumps(asdict(rate)) for rates in known.values() for rate in rates]
    RESULTS.write_text("\n".join(lines) + "\n")
    every = [rate for rates in known.values() for rate in rates]
    TABLE.write_text(_document(every))
    _draw([rate for rate in every if rate.window == 500 and not rate.smallest_effect])


_HEAD = (
    "| method | rows | window | smallest effect | promised | achieved (95 %) | achieved / promised | power "
    "| references x windows |"
)


def _document(rates: Sequence[Rate]) -> str:
    order = {name: place for place, name in enumerate((*METHODS, *STREAMS))}
    ranked = sorted(rates, key=lambda rate: (order[rate.method], rate.smallest_effect, order[rate.stream], rate.window))
    return "\n".join([_ABOUT, _HEAD, "|---" * 9 + "|", *map(_line, ranked)]) + "\n"


_ABOUT = """# False alarms, measured

Written by `python -m benchmarks.false_alarms`, which says how the rows are drawn, and with `--all` adds the cases that
are not yet here. References have 5,000 rows and 10
features; *promised* is the stated probability of an alarm in a window where nothing changed, *power* the share of
windows that alarm after a shift of 0.3 sd in one of the ten features (of categories: 0.15 in total variation). With a
smallest effect above 0 an exact null alarms less often than promised.

![achieved / promised in windows of 500 rows, with 95 % intervals; 0.8 to 1.2 is shaded](false-alarms.svg)
"""


def _line(rate: Rate) -> str:
    return (
        f"| `{rate.method}` | {rate.stream} | {rate.window} | {rate.smallest_effect:g} | {rate.promised:.3g} "
        f"| {rate.achieved:.4f} ({max(rate.low, 0):.4f} to {rate.high:.4f}) | {rate.achieved / rate.promised:.2f} "
        f"| {rate.power:.2f} | {rate.references} x {rate.windows // rate.references} |"
    )


def _draw(rates: Sequence[Rate]) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context({"svg.hashsalt": "false-alarms", "svg.fonttype": "none"}):
        figure = Figure(figsize=(11, 7), layout="constrained")
        panels = figure.subplots(2, 1, sharex=True, sharey=True)
        for panel, promised in zip(panels, (0.05, 0.01), strict=True):
            panel.axhspan(0.8, 1.2, color="0.9")
            for place, method in enumerate(METHODS):
                own = [rate for rate in rates if rate.method == method and rate.promised == promised]
                at = [list(STREAMS).index(rate.stream) + (place - 3) * 0.1 for rate in own]
                ratios = [rate.achieved / promised for rate in own]
                errors = [(rate.high - rate.achieved) / promised for rate in own]
                panel.errorbar(at, ratios, errors, fmt="o", markersize=3, label=method)
            panel.set_title(f"promised {promised:g}")
        panels[0].legend(fontsize="small", ncols=len(METHODS))
        panels[1].set_xticks(range(len(STREAMS)), [name.replace(" ", "\n", 1) for name in STREAMS])
        figure.supylabel("achieved / promised")
        figure.savefig(PICTURE, metadata={"Date": None})


def main(arguments: Sequence[str] = ()) -> list[Rate]:
    """Print and keep the rates of the quick cases, or with `--all` of every case that is not yet known well."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--all", action="store_true", help="every case that has not been measured well")
    known = _known()
    done = {case for case, rates in known.items() if rates[0].references >= SHARPER.get(case, REFERENCES)}
    wanted: Sequence[Case] = QUICK
    if parser.parse_args(arguments).all:
        wanted = [case for case in dict.fromkeys(_cases()) if case not in done]
    begun = time.perf_counter()
    print(f"{_HEAD}\n" + "|---" * 9 + "|")
    fresh: list[Rate] = []
    for case in wanted:
        rates = _measured(case)
        fresh.extend(rates)
        print("\n".join(map(_line, rates)), flush=True)
        _keep(_known() | {case: rates})  # another process may have added cases meanwhile
    print(f"\nOne thread, {time.perf_counter() - begun:.0f} s.")
    return fresh


if __name__ == "__main__":
    main(sys.argv[1:])
