"""AUROC and cost of every outlier score, beside scikit-learn's isolation forest and PyOD's detectors.

The sets are those of ADBench (S. Han et al., NeurIPS 2022), a folder of `.npz` files with `X` and `y`, named by
the first argument or by `INFERWATCH_ADBENCH`. Scores are fitted without labels on 3,000 rows, anomalies among them, and
judged on at most 10,000. PyOD runs in an environment of its own, on the same arrays (`make setup-detect-peers`).

`python -m benchmarks.outliers FOLDER` prints the tables, and with FOLDER writes docs/outliers.md.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from benchmarks.array_child import ArrayChild
from inferwatch.rows import Feature, Matrix, Schema
from inferwatch_detectors.conformal_outlier import SCORERS
from inferwatch_detectors.mahalanobis import RowDistance

ROWS = 10_000
FITTED = 3_000
PEER = Path(os.environ.get("PYOD_PYTHON", ".venvs/detect-peers/bin/python"))
PAGE = Path(__file__).parents[1] / "docs" / "outliers.md"


def scores_of(fitted: Matrix) -> Mapping[str, Callable[[Matrix], Matrix]]:
    """Return every method's score, fitted, and scikit-learn's."""
    schema = Schema(tuple(Feature(f"x{index}", "numeric") for index in range(fitted.shape[1])))
    distance = RowDistance(fitted, schema)
    ours = {method: scorer(fitted, schema, distance).score for method, scorer in SCORERS.items()}
    forest = IsolationForest(random_state=0).fit(fitted)
    return {**ours, "scikit-learn forest": lambda rows: -forest.score_samples(rows)}


Peer = Callable[[Matrix, Matrix], Mapping[str, Matrix]]
"""(fitted (m, d), rows (n, d)) -> the scores (n,) of every detector, and as `NAME seconds` the CPU time they took."""


@contextmanager
def pyod() -> Iterator[Peer]:
    """Give PyOD's detectors; none where their environment is not there."""
    if not PEER.exists():
        print(f"PyOD is left out: {PEER} is not here; make it with: make setup-detect-peers")
        yield lambda *_: {}
        return
    with ArrayChild(PEER, "outlier_peers.py") as child:

        def answers(fitted: Matrix, rows: Matrix) -> Mapping[str, Matrix]:
            with np.load(child.ask(fitted=fitted, rows=rows)) as file:
                return dict(file)

        yield answers


def accuracies(folder: Path, peer: Peer) -> dict[str, dict[str, float]]:
    """Return the AUROC of every score on every set."""
    random = np.random.default_rng(0)
    found: dict[str, dict[str, float]] = {}
    for path in sorted(folder.glob("*.npz"), key=lambda path: int(path.stem.split("_")[0])):
        with np.load(path) as file:
            rows, labels = file["X"].astype(np.float64), file["y"]
        chosen = random.permutation(len(labels))[:ROWS]
        rows, labels = rows[chosen], labels[chosen]
        if labels.sum() >= 2:
            fitted = rows[random.permutation(len(rows))[:FITTED]]
            scores = {name: score(rows) for name, score in scores_of(fitted).items()}
            scores |= {name: of for name, of in peer(fitted, rows).items() if of.ndim}
            found[path.stem] = {name: float(roc_auc_score(labels, of)) for name, of in scores.items()}
    return found


def costs(batch: int, peer: Peer, features: int = 30, repeats: int = 20) -> dict[str, float]:
    """Return the CPU microseconds a row of every score, in batches of so many rows: medians, of peers one batch's."""
    random = np.random.default_rng(0)
    rows, fitted = random.standard_normal((batch, features)), random.standard_normal((2_000, features))
    found = {}
    for name, score in scores_of(fitted).items():
        score(rows)
        spent = []
        for _ in range(repeats):
            begun = time.process_time()
            score(rows)
            spent.append(time.process_time() - begun)
        found[name] = float(np.median(spent)) / batch * 1e6
    peer(fitted, rows)
    seconds = {name: float(of) for name, of in peer(fitted, rows).items() if not of.ndim}
    return found | {name.removesuffix(" seconds"): of / batch * 1e6 for name, of in seconds.items()}


def accuracy_table(by_set: Mapping[str, Mapping[str, float]]) -> str:
    """Return the AUROCs, a line for each set and one for the means."""
    names = list(next(iter(by_set.values())))
    means = {name: float(np.mean([row[name] for row in by_set.values()])) for name in names}
    lines = [
        f"| {title} | {' | '.join(f'{row[name]:.3f}' for name in names)} |"
        for title, row in [*by_set.items(), ("**mean**", means)]
    ]
    return "\n".join([f"| set | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|", *lines])


def cost_table(peer: Peer) -> str:
    """Return the microseconds a row of every score."""
    one, many = costs(1, peer), costs(1024, peer)
    lines = [f"| {name} | {one[name]:.1f} | {many[name]:.2f} |" for name in one]
    return "\n".join(["| score | 1 row | 1,024 rows |", "|---|---|---|", *lines])


def main(arguments: Sequence[str] = ()) -> None:
    """Print both tables, and write them where the sets are at hand."""
    place = arguments[0] if arguments else os.environ.get("INFERWATCH_ADBENCH")
    with pyod() as peer:
        cost = f"{_COST}\n\n{cost_table(peer)}"
        if place is not None and Path(place).is_dir():
            PAGE.write_text(f"{_ABOUT}\n{accuracy_table(accuracies(Path(place), peer))}\n\n{cost}\n")
            print(PAGE.read_text())
        else:
            print(f"No ADBench folder is named: accuracies are left out.\n\n{cost}")


_COST = "CPU microseconds a row, 30 features, fitted on 2,000 rows, one thread; compare ratios:"
_ABOUT = """# Outlier scores, measured

Written by `python -m benchmarks.outliers FOLDER` with the 22 sets of ADBench. AUROC of every score, fitted without
labels on 3,000 of the rows that are to be told apart, beside scikit-learn's isolation forest and PyOD's detectors with
their defaults, on the same rows.
"""


if __name__ == "__main__":
    main(sys.argv[1:])
