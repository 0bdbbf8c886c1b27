"""How often peers alarm where nothing changed, and how often where something did, on the windows that ours judges.

Streams are those of `benchmarks.false_alarms`: references of 5,000 rows, 10 features, windows of 500; behind ten
windows without drift comes one with its shift. alibi-detect and Evidently run in environments of their own (`make
setup-detect-peers`) on the same arrays, SciPy in ours; Evidently, a second and more a window, judges the first two
windows and the shifted one. Ours is `histogram` with a promise of one alarm in 20 windows, its dependence from the
burn-in before the windows; the peers' rules are their defaults, at 0.05.

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
OURS = "inferwatch `histogram`"
PEERS: Mapping[str, tuple[Path, int]] = {
    "scipy": (Path(sys.executable), WINDOWS),
    "alibi_detect": (Path(".venvs/legacy-detect/bin/python"), WINDOWS),
    "evidently": (Path(".venvs/evidently/bin/python"), 2),
}
"""The peers with their interpreters, and how many windows without drift each judges of a reference."""
RESULTS = Path(__file__).parent / "results" / "peer_alarms.jsonl"
PAGE = Path(__file__).parents[1] / "docs" / "peer-alarms.md"
Verdicts = dict[str, list[bool]]
"""rule -> whether it alarmed, in windows without drift and at last in the shifted one."""
Known = dict[tuple[str, str], list[list[bool]]]
"""(stream, rule) -> its verdicts, for each reference."""


def alarms(stream: Stream, seed: Sequence[int], children: Sequence[tuple[ArrayChild, int]]) -> Verdicts:
    """Return what each rule says of one reference's windows, ours among them."""
    random = np.random.default_rng(seed)
    reference, dependence, windows = drawn(stream, random, 5000, WINDOW, WINDOWS + 1)
    windows[-1] = stream.shift(random, windows[-1])
    ours = HistogramDrift(
        reference, window_rows=WINDOW, promise=Promise(20), smallest_effect=0.0, dependence=dependence
    )
    found = {OURS: [ours.observe(Batch.of(window))[0].fired for window in windows]}
    for child, count in children:
        judged = np.array([*windows[:count], windows[-1]])
        found |= json.loads(child.ask(reference=reference.rows, windows=judged, categorical=stream.categorical))
    return found


def _known() -> Known:
    known: Known = defaultdict(list)
    for line in RESULTS.read_text().splitlines() if RESULTS.exists() else ():
        entry = json.loads(line)
        for rule, fired in entry["alarms"].items():
            known[entry["stream"], rule].append(fired)
    return known


def _tables(known: Known) -> Iterator[str]:
    rules = list(dict.fromkeys(rule for _, rule in known))
    for title, part in (("nothing changed", slice(-1)), ("something changed", slice(-1, None))):
        yield f"\n| {title} | {' | '.join(rules)} |"
        yield "|---" * (len(rules) + 1) + "|"
        for stream in STREAMS:
            found = [[fired[part] for fired in known[stream, rule]] for rule in rules]
            if any(found):
                yield f"| {stream} | {' | '.join(map(_rate, found))} |"


def _rate(found: Sequence[Sequence[bool]]) -> str:
    """The share of windows that alarmed, of so many references, with 1.96 errors of their mean."""
    if not found:
        return "-"
    shares, windows = [float(np.mean(fired)) for fired in found], sum(map(len, found))
    guarded = (sum(map(sum, found)) + 1) / (windows + 2)  # where no window or every one alarmed
    between = float(np.std(shares, ddof=1)) / math.sqrt(len(shares)) if len(shares) > 1 else 0.0
    error = 1.96 * max(between, math.sqrt(guarded * (1 - guarded) / windows))
    return f"{np.mean(shares):.3f} ± {error:.3f} of {windows:,}"


_ABOUT = """# False alarms of peers, measured

Written by `python -m benchmarks.peer_alarms`: the share of windows in which a rule alarms, each at its default of 0.05
and ours at one alarm in 20 windows, ± 1.96 Monte-Carlo errors, of how many windows. All judge the same arrays:
references of 5,000 rows, 10 features, windows of 500; what changed is one feature of ten, by 0.3 sd (of categories:
0.15 in total variation). Ours alone sees the rows before the windows, its burn-in. A rule that alarms as often where
nothing changed tells nothing by its alarms.
"""


def main(arguments: Sequence[str] = ()) -> None:
    """Draw further references, and write the table."""
    RESULTS.parent.mkdir(exist_ok=True)
    there = {name: peer for name, peer in PEERS.items() if peer[0].exists()}
    for name in PEERS.keys() - there.keys():
        print(f"{name} is left out: make it with: make setup-detect-peers")
    with ExitStack() as stack:
        children = [
            (stack.enter_context(ArrayChild(python, "false_alarm_peers.py", name)), count)
            for name, (python, count) in there.items()
        ]
        for _ in range(int(arguments[0]) if arguments else 4):
            for place, (name, stream) in enumerate(STREAMS.items()):
                seed = (7, place, len(_known()[name, OURS]))
                entry = {"stream": name, "alarms": alarms(stream, seed, children)}
                with RESULTS.open("a") as file:
                    file.write(json.dumps(entry) + "\n")
                PAGE.write_text("\n".join([_ABOUT.rstrip(), *_tables(_known())]) + "\n")
    print(PAGE.read_text())


if __name__ == "__main__":
    main(sys.argv[1:])
