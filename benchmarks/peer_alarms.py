"""How often peers alarm where nothing changed, on the very windows that ours judges.

Streams are those of `benchmarks.false_alarms`: references of 5,000 rows, 10 features, windows of 500. alibi-detect and
Evidently run in environments of their own (`make setup-detect-peers`) on the same arrays; SciPy in ours. Ours is
`histogram` with a promise of one alarm in 20 windows, its dependence from the burn-in before the windows; the peers'
rules are their defaults, at 0.05.

`python -m benchmarks.peer_alarms [N]` draws N further references of every stream (4 where nothing is said), adds what
it saw to the results and writes docs/peer-alarms.md: it can be stopped and started again, and gets sharper each time.
"""

from __future__ import annotations

import json
import math
import sys
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from benchmarks.array_child import ArrayChild
from benchmarks.false_alarms import STREAMS, Stream, drawn
from inferwatch.promise import Promise
from inferwatch.rows import Batch
from inferwatch_detectors import HistogramDrift

WINDOW, WINDOWS = 500, 10
PEERS: Mapping[str, Path] = {
    "scipy": Path(sys.executable),
    "alibi_detect": Path(".venvs/legacy-detect/bin/python"),
    "evidently": Path(".venvs/evidently/bin/python"),
}
RESULTS = Path(__file__).parent / "results" / "peer_alarms.jsonl"
PAGE = Path(__file__).parents[1] / "docs" / "peer-alarms.md"
Tallies = dict[tuple[str, str], list[float]]
"""(stream, rule) -> the share of windows that alarmed, for each reference."""


def alarms(stream: Stream, seed: Sequence[int], children: Sequence[ArrayChild]) -> dict[str, float]:
    """Return for each rule the share of one reference's windows that alarm, ours among them."""
    reference, dependence, windows = drawn(stream, np.random.default_rng(seed), 5000, WINDOW, WINDOWS)
    ours = HistogramDrift(
        reference, window_rows=WINDOW, promise=Promise(20), smallest_effect=0.0, dependence=dependence
    )
    fired = [ours.observe(Batch.of(window))[0].fired for window in windows]
    found = {"inferwatch `histogram`": float(np.mean(fired))}
    for child in children:
        answer = json.loads(
            child.ask(reference=reference.rows, windows=np.array(windows), categorical=stream.categorical)
        )
        found |= {rule: float(np.mean(each)) for rule, each in answer.items()}
    return found


def _known() -> Tallies:
    known: Tallies = defaultdict(list)
    for line in RESULTS.read_text().splitlines() if RESULTS.exists() else ():
        entry = json.loads(line)
        for rule, share in entry["alarms"].items():
            known[entry["stream"], rule].append(share)
    return known


def _table(known: Tallies) -> Iterator[str]:
    rules = list(dict.fromkeys(rule for _, rule in known))
    yield f"| rows | {' | '.join(rules)} |"
    yield "|---" * (len(rules) + 1) + "|"
    for stream in STREAMS:
        shares = [known[stream, rule] for rule in rules]
        if any(shares):
            yield f"| {stream} | {' | '.join(map(_rate, shares))} |"


def _rate(shares: Sequence[float]) -> str:
    if not shares:
        return "-"
    windows = len(shares) * WINDOWS
    guarded = (sum(shares) * WINDOWS + 1) / (windows + 2)  # where no window or every one alarmed
    between = float(np.std(shares, ddof=1)) / math.sqrt(len(shares)) if len(shares) > 1 else 0.0
    error = 1.96 * max(between, math.sqrt(guarded * (1 - guarded) / windows))
    return f"{np.mean(shares):.3f} ± {error:.3f} of {windows:,}"


_ABOUT = """# False alarms of peers, measured

Written by `python -m benchmarks.peer_alarms`: the share of windows in which a rule alarms although nothing changed,
each at its default of 0.05 and ours at one alarm in 20 windows, ± 1.96 Monte-Carlo errors, of how many windows. All
judge the same arrays: references of 5,000 rows, 10 features, windows of 500. Ours alone sees the rows before the
windows, its burn-in.
"""


def main(arguments: Sequence[str] = ()) -> None:
    """Draw further references, and write the table."""
    RESULTS.parent.mkdir(exist_ok=True)
    there = {name: python for name, python in PEERS.items() if python.exists()}
    for name in PEERS.keys() - there.keys():
        print(f"{name} is left out: make it with: make setup-detect-peers")
    with ExitStack() as stack:
        children = [
            stack.enter_context(ArrayChild(python, "false_alarm_peers.py", peer)) for peer, python in there.items()
        ]
        for _ in range(int(arguments[0]) if arguments else 4):
            for place, (name, stream) in enumerate(STREAMS.items()):
                seed = (7, place, len(_known()[name, "inferwatch `histogram`"]))
                entry = {"stream": name, "alarms": alarms(stream, seed, children)}
                with RESULTS.open("a") as file:
                    file.write(json.dumps(entry) + "\n")
                PAGE.write_text("\n".join([_ABOUT, *_table(_known())]) + "\n")
    print(PAGE.read_text())


if __name__ == "__main__":
    main(sys.argv[1:])
