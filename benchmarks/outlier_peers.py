"""PyOD's detectors on files of arrays, run by `benchmarks.outliers` with the interpreter of `.venvs/detect-peers`.

Each line of standard input names an `.npz` with `fitted` (m, d) and `rows` (n, d); each line of standard output is the
`.npz` in which the scores (n,) of every detector are, with the CPU seconds that scoring took as `NAME seconds`.
"""

from __future__ import annotations

import sys
import time

import numpy as np
from pyod.models.copod import COPOD
from pyod.models.ecod import ECOD
from pyod.models.hbos import HBOS
from pyod.models.iforest import IForest
from pyod.models.knn import KNN

DETECTORS = {
    "PyOD COPOD": COPOD,
    "PyOD ECOD": ECOD,
    "PyOD HBOS": HBOS,
    "PyOD IForest": lambda: IForest(random_state=0),
    "PyOD KNN": KNN,
}


def main() -> None:
    """Answer until the input ends."""
    for line in sys.stdin:
        path = line.strip()
        with np.load(path) as file:
            fitted, rows = file["fitted"], file["rows"]
        answer = {}
        for name, detector in DETECTORS.items():
            made = detector().fit(fitted)
            begun = time.process_time()
            answer[name] = made.decision_function(rows)
            answer[f"{name} seconds"] = np.array(time.process_time() - begun)
        np.savez(path + ".scores.npz", **answer)
        print(path + ".scores.npz", flush=True)


if __name__ == "__main__":
    main()
