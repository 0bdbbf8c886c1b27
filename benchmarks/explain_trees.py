"""Tree SHAP: CPU time a row against `shap`'s TreeExplainer in C, on the same models, rows and background.

The peer runs in the environment of `make setup-profiles`, `.venvs/modern`, or by the interpreter that `SHAP_PYTHON`
names.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.ensemble import GradientBoostingRegressor, HistGradientBoostingRegressor

PEER = Path(os.environ.get("SHAP_PYTHON", ".venvs/modern/bin/python"))
RUNS = {1: 100, 200: 5}
"""How often so many rows are explained: one row takes so little that the first runs are those of a cold cache."""


def settings() -> Iterator[tuple[str, Any, Any]]:
    """Yield models of 100 trees and 30 features, and rows."""
    rows = np.random.default_rng(0).normal(size=(5000, 30))
    target = rows[:, :10].sum(axis=1) + np.sin(rows[:, 10] * rows[:, 11])
    yield "31 leaves", HistGradientBoostingRegressor(max_leaf_nodes=31, random_state=0).fit(rows, target), rows
    yield "depth 3", GradientBoostingRegressor(max_depth=3, random_state=0).fit(rows, target), rows


def ours(model: Any, background: Any, interventional: bool) -> Callable[[Any], Any]:  # noqa: ANN401
    from inferwatch_explainers import TreeShap

    explainer = TreeShap(model, background, perturbation="interventional" if interventional else "path_dependent")
    return lambda rows: explainer.explain(rows).values


def peers(model: Any, background: Any, interventional: bool) -> Callable[[Any], Any]:  # noqa: ANN401
    import shap

    explainer = shap.TreeExplainer(model, background) if interventional else shap.TreeExplainer(model)
    return lambda rows: explainer.shap_values(rows, check_additivity=False)


def measure(make: Callable[[Any, Any, bool], Callable[[Any], Any]]) -> dict[str, float]:
    """Return microseconds of CPU a row, the best of some runs."""
    found = {}
    for name, model, rows in settings():
        for interventional in (True, False):
            explain = make(model, rows[:100], interventional)
            for count, runs in RUNS.items():
                spent = []
                for _ in range(runs):
                    start = time.process_time()
                    explain(rows[:count])
                    spent.append((time.process_time() - start) / count)
                kind = "interventional" if interventional else "path-dependent"
                found[f"{name}, {kind}, {count} rows"] = 1e6 * min(spent)
    return found


def main() -> None:
    """Print the table."""
    from benchmarks.processes import machine  # not from the peer's environment, which runs this file

    here = measure(ours)
    there: dict[str, float] = {}
    if PEER.exists():
        there = json.loads(subprocess.run([PEER, Path(__file__), "peer"], capture_output=True, check=True).stdout)
    print("## Tree SHAP, 100 trees, 30 features, 100 background rows, CPU us a row\n")
    print(f"{machine('numpy', 'scikit-learn')}\n")
    print("| setting | ours | shap | shap / ours |")
    print("| --- | ---: | ---: | ---: |")
    for name, figure in here.items():
        peer = there.get(name)
        print(f"| {name} | {figure:,.0f} | " + ("| |" if peer is None else f"{peer:,.0f} | {peer / figure:.1f} |"))
    if not there:
        print(f"\n`shap` not measured: {PEER} is not here; `make setup-profiles` makes it")


if __name__ == "__main__":
    print(json.dumps(measure(peers))) if sys.argv[1:] == ["peer"] else main()
