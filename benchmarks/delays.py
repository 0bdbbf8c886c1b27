"""How soon drift is told: rows from a change to the end of the first window that alarms, and how often within so many.

Streams are those of `benchmarks.false_alarms`: references of 5,000 rows, 10 features, judged by `histogram` in windows
of 500 rows with a promise of one false alarm in 100 windows and no smallest effect, dependence from the burn-in. The
change begins anywhere in a window and stays. It is a shift of one feature's mean, a category that half of its rows
leave, or a correlation between features whose distributions stay as they were.

`python -m benchmarks.delays [N]` draws N further references of every stream (20 where nothing is said), adds what it
saw to the results and writes docs/delays.md with its picture: it can be stopped and started again.
"""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.false_alarms import STREAMS, drawn
from inferwatch.promise import Promise
from inferwatch.rows import Batch, Matrix
from inferwatch_detectors import HistogramDrift

WINDOW, WINDOWS = 500, 20
RESULTS = Path(__file__).parent / "results" / "delays.jsonl"
PAGE = Path(__file__).parents[1] / "docs" / "delays.md"
PICTURE = PAGE.with_suffix(".svg")
Change = Callable[[np.random.Generator, Matrix], Matrix]
Delays = dict[tuple[str, str], list[float]]
"""(stream, change) -> rows until the alarm, for each reference; infinite where none came."""


def _raised(size: float) -> Change:
    return lambda _, values: np.column_stack([values[:, 0] + size, values[:, 1:]])


def _correlated(_: np.random.Generator, values: Matrix) -> Matrix:
    """Standard normal features with a correlation of 0.9 with the first one."""
    return np.column_stack([values[:, 0], 0.9 * values[:, :1] + math.sqrt(1 - 0.81) * values[:, 1:]])


_SHIFTS: Mapping[str, Change] = {f"{size} sd": _raised(size) for size in (0.1, 0.3, 1.0)}
CHANGES: Mapping[str, Mapping[str, Change]] = {
    "continuous": {**_SHIFTS, "features correlated by 0.9": _correlated},
    "categories": {"0.15 in total variation": STREAMS["categories"].shift},
    "AR(0.5)": _SHIFTS,
    "AR(0.9)": _SHIFTS,
    "season": _SHIFTS,
}


def delays(name: str, seed: Sequence[int]) -> dict[str, float]:
    """Return the rows until the alarm for each change of a stream, on the windows of one reference."""
    random = np.random.default_rng(seed)
    reference, dependence, windows = drawn(STREAMS[name], random, 5000, WINDOW, WINDOWS + 1)
    detector = HistogramDrift(
        reference, window_rows=WINDOW, promise=Promise(100), smallest_effect=0.0, dependence=dependence
    )
    start, found = int(random.integers(WINDOW)), {}
    for change, changed in CHANGES[name].items():
        first = np.concatenate([windows[0][:start], changed(random, windows[0][start:])])
        live = (first, *(changed(random, window) for window in windows[1:]))
        alarms = (place for place, rows in enumerate(live, 1) if detector.observe(Batch.of(rows))[0].fired)
        found[change] = next(alarms, math.inf) * WINDOW - start
    return found


def _known() -> Delays:
    known: Delays = defaultdict(list)
    for line in RESULTS.read_text().splitlines() if RESULTS.exists() else ():
        entry = json.loads(line)
        for change, rows in entry["delays"].items():
            known[entry["stream"], change].append(math.inf if rows is None else rows)
    return known


_WITHIN = (500, 1_000, 2_500, 5_000, 10_000)


def _table(known: Delays) -> Iterator[str]:
    within = [f"within {rows:,} rows" for rows in _WITHIN]
    yield f"| rows | change | {' | '.join(within)} | median delay, rows | references |"
    yield "|---" * (len(_WITHIN) + 4) + "|"
    for (stream, change), rows in known.items():
        shares = [f"{np.mean(np.array(rows) <= limit):.2f}" for limit in _WITHIN]
        median = float(np.median(rows))
        told = f"{median:,.0f}" if median <= _WITHIN[-1] else f"above {_WITHIN[-1]:,}"
        yield f"| {stream} | {change} | {' | '.join(shares)} | {told} | {len(rows)} |"


_ABOUT = """# Power and delay, measured

Written by `python -m benchmarks.delays`, which says how: the share of references under which `histogram` has alarmed
within so many rows of a change in one of ten features, at one false alarm promised in 100 windows of 500 rows. Windows
of the null alarm by themselves in a tenth of all spans of 5,000 rows, so a share has to stand above that. A single
feature's distribution says nothing about correlations between features.

![share that alarmed, by rows since the change](delays.svg)
"""


def _draw(known: Delays) -> None:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    limits = np.arange(WINDOW, WINDOW * WINDOWS + 1, WINDOW)
    with mpl.rc_context({"svg.hashsalt": "delays", "svg.fonttype": "none"}):
        figure = Figure(figsize=(10, 6), layout="constrained")
        panels = figure.subplots(2, 3, sharex=True, sharey=True).ravel()
        for panel, stream in zip(panels, CHANGES, strict=False):
            panel.set_title(stream)
            for change in CHANGES[stream]:
                rows = np.array(known[stream, change])
                panel.plot(limits, [np.mean(rows <= limit) for limit in limits], label=change)
            panel.legend(fontsize="small")
        panels[-1].set_visible(False)
        figure.supxlabel("rows since the change")
        figure.supylabel("share that alarmed")
        figure.savefig(PICTURE, metadata={"Date": None})


def main(arguments: Sequence[str] = ()) -> None:
    """Draw further references, and write the page."""
    RESULTS.parent.mkdir(exist_ok=True)
    for _ in range(int(arguments[0]) if arguments else 20):
        for place, stream in enumerate(CHANGES):
            count = len(_known()[stream, next(iter(CHANGES[stream]))])
            found = delays(stream, (11, place, count))
            entry = {
                "stream": stream,
                "delays": {key: None if math.isinf(rows) else rows for key, rows in found.items()},
            }
            with RESULTS.open("a") as file:
                file.write(json.dumps(entry) + "\n")
    known = _known()
    PAGE.write_text("\n".join([_ABOUT, *_table(known)]) + "\n")
    _draw(known)
    print(PAGE.read_text())


if __name__ == "__main__":
    main(sys.argv[1:])
