"""AUROC and cost of every outlier score, beside scikit-learn's isolation forest.

The sets are those of ADBench (S. Han et al., NeurIPS 2022), a folder of `.npz` files with `X` and `y`, named by
the first argument or by `INFERWATCH_ADBENCH`. Scores are fitted without labels on 3,000 rows, anomalies among them, and
judged on at most 10,000. Run with `python -m benchmarks.outliers FOLDER`.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
from sklearn.ensemble import IsolationForest
from sklearn.metrics import roc_auc_score

from inferwatch.rows import Feature, Matrix, Schema
from inferwatch_detectors.conformal_outlier import SCORERS
from inferwatch_detectors.mahalanobis import RowDistance

ROWS = 10_000
FITTED = 3_000


def scores_of(fitted: Matrix) -> Mapping[str, Callable[[Matrix], Matrix]]:
    """Return every method's score, fitted, and scikit-learn's."""
    schema = Schema(tuple(Feature(f"x{index}", "numeric") for index in range(fitted.shape[1])))
    distance = RowDistance(fitted, schema)
    ours = {method: scorer(fitted, schema, distance).score for method, scorer in SCORERS.items()}
    forest = IsolationForest(random_state=0).fit(fitted)
    return {**ours, "scikit-learn forest": lambda rows: -forest.score_samples(rows)}


def accuracies(folder: Path) -> dict[str, dict[str, float]]:
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
            found[path.stem] = {
                name: float(roc_auc_score(labels, score(rows))) for name, score in scores_of(fitted).items()
            }
    return found


def costs(batch: int, features: int = 30, repeats: int = 20) -> dict[str, float]:
    """Return the CPU microseconds a row of every score, in batches of so many rows."""
    random = np.random.default_rng(0)
    rows = random.standard_normal((batch, features))
    found = {}
    for name, score in scores_of(random.standard_normal((2_000, features))).items():
        score(rows)
        begun = time.process_time()
        for _ in range(repeats):
            score(rows)
        found[name] = (time.process_time() - begun) / repeats / batch * 1e6
    return found


def main(arguments: Sequence[str] = ()) -> None:
    """Print both tables; the first where the sets are at hand."""
    place = arguments[0] if arguments else os.environ.get("INFERWATCH_ADBENCH")
    if place is not None and Path(place).is_dir():
        by_set = accuracies(Path(place))
        names = list(next(iter(by_set.values())))
        print(f"| set | {' | '.join(names)} |\n|{'---|' * (len(names) + 1)}")
        means = {name: float(np.mean([row[name] for row in by_set.values()])) for name in names}
        for title, row in [*by_set.items(), ("**mean**", means)]:
            print(f"| {title} | {' | '.join(f'{row[name]:.3f}' for name in names)} |")
    else:
        print("No ADBench folder is named: accuracies are left out.")
    print("\nCPU microseconds a row, 30 features, one thread:\n\n| score | 1 row | 1,024 rows |\n|---|---|---|")
    one, many = costs(1), costs(1024)
    for name in one:
        print(f"| {name} | {one[name]:.1f} | {many[name]:.2f} |")


if __name__ == "__main__":
    main(sys.argv[1:])
