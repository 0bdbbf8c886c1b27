"""Whether peers see drift in windows of raw arrays, run by `benchmarks.false_alarms` with each peer's own interpreter.

The first argument names the peer. Each line of standard input names an `.npz` with `reference` (m, d), `windows`
(w, n, d) and `categorical` (a truth value); each line of standard output is a JSON object: for every rule of the peer
whether it alarmed in each of the windows.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
Judge = Callable[[Matrix], dict[str, bool]]

LEVEL = 0.05


def alibi_detect(reference: Matrix, categorical: bool) -> Judge:
    """Return alibi-detect's test of every feature, Bonferroni over features, at its default of 0.05."""
    from alibi_detect.cd import ChiSquareDrift, KSDrift

    detector = (ChiSquareDrift if categorical else KSDrift)(reference, p_val=LEVEL)
    return lambda window: {"alibi-detect": bool(detector.predict(window)["data"]["is_drift"])}


def evidently(reference: Matrix, categorical: bool) -> Judge:
    """Return Evidently's preset: whether any column drifted, and whether half of them did (its dataset drift)."""
    import pandas as pd
    from evidently import DataDefinition, Dataset, Report
    from evidently.presets import DataDriftPreset

    names = [f"x{index}" for index in range(reference.shape[1])]
    kinds = {"categorical_columns" if categorical else "numerical_columns": names}

    def dataset(rows: Matrix) -> Dataset:
        frame = pd.DataFrame(rows, columns=names)
        return Dataset.from_pandas(frame.astype(int).astype(str) if categorical else frame, DataDefinition(**kinds))

    known = dataset(reference)

    def judge(window: Matrix) -> dict[str, bool]:
        metrics = Report([DataDriftPreset()]).run(dataset(window), known).dict()["metrics"]
        [count] = [entry["value"]["count"] for entry in metrics if isinstance(entry["value"], dict)]
        return {"Evidently, any column": count > 0, "Evidently, dataset": count >= len(names) / 2}

    return judge


def scipy(reference: Matrix, categorical: bool) -> Judge:
    """Return SciPy's test of every feature at 0.05 / d: Kolmogorov-Smirnov, or chi-square without correction."""
    from scipy import stats

    def p_value(before: Matrix, after: Matrix) -> float:
        if not categorical:
            return float(stats.ks_2samp(before, after, method="asymp").pvalue)
        seen = np.unique(np.concatenate([before, after]))
        counts = [[int((part == value).sum()) for value in seen] for part in (before, after)]
        return float(stats.chi2_contingency(counts, correction=False).pvalue)

    def judge(window: Matrix) -> dict[str, bool]:
        found = [p_value(*columns) for columns in zip(reference.T, window.T, strict=True)]
        return {
            "SciPy, Bonferroni": min(found) < LEVEL / len(found),
            "SciPy, any p < 0.05": min(found) < LEVEL,
        }

    return judge


PEERS = {"alibi_detect": alibi_detect, "evidently": evidently, "scipy": scipy}


def main(peer: str) -> None:
    """Answer until the input ends."""
    warnings.simplefilter("ignore")
    for line in sys.stdin:
        with np.load(line.strip()) as file:
            reference, windows, categorical = file["reference"], file["windows"], bool(file["categorical"])
        judge = PEERS[peer](reference, categorical)
        found = list(map(judge, windows))
        print(json.dumps({rule: [each[rule] for each in found] for rule in found[0]}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
