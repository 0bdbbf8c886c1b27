"""Kernel SHAP: error against exact Shapley values and CPU time outside the predictor, at equal coalitions to `shap`'s.

The peer runs in the environment of `make setup-profiles`, or by the interpreter that `SHAP_PYTHON` names. Both explain
the same rows of the same models over the same background; every figure is a median over rows and seeds. The peer's
default keeps ten features at most (`l1_reg`), which no number of samples makes up for, so it is switched off.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

FEATURES = 12
BACKGROUND = 100
INSTANCES = 8
SEEDS = 2
COALITIONS = (64, 256, 1024, 2072)
PEER = Path(os.environ.get("SHAP_PYTHON", ".venvs/modern/bin/python"))


class Sample(NamedTuple):
    """One setting: relative error (L2) of the values, CPU ms outside the predictor, and rows asked, a row."""

    error: float
    own_ms: float
    rows: float


def waves(rows: Matrix) -> Matrix:
    """Return a function whose features act alone, in threes and all together."""
    after, before = np.roll(rows, -1, axis=1), np.roll(rows, 1, axis=1)
    return np.asarray(np.sin(1.5 * rows).sum(axis=1) + (before * rows * after).sum(axis=1) + 3 * np.tanh(rows.sum(1)))


def steps(rows: Matrix) -> Matrix:
    """Return a sum of 60 products of three thresholds each, as an ensemble of trees of depth 3 is."""
    generator = np.random.default_rng(3)
    total = np.zeros(len(rows))
    for _ in range(60):
        chosen, cuts = generator.integers(0, rows.shape[1], 3), generator.normal(size=3)
        total += generator.normal() * (rows[:, chosen] > cuts).all(axis=1)
    return total


MODELS: dict[str, Callable[[Matrix], Matrix]] = {"waves": waves, "steps": steps}


class Timed:
    """A predict function that keeps the CPU time and the rows it took."""

    def __init__(self, predict: Callable[[Matrix], Matrix]) -> None:
        self._predict = predict
        self.seconds = 0.0
        self.rows = 0

    def __call__(self, rows: Matrix) -> Matrix:
        start = time.process_time()
        outputs = self._predict(rows)
        self.seconds += time.process_time() - start
        self.rows += len(rows)
        return outputs


def data() -> tuple[Matrix, Matrix]:
    """Return the background and the rows to explain."""
    generator = np.random.default_rng(7)
    return generator.normal(size=(BACKGROUND, FEATURES)), generator.normal(size=(INSTANCES, FEATURES))


def ours(model: str, samples: int | None, row: Matrix, seed: int) -> tuple[Matrix, Timed]:
    """Return our values of one row, and what the predictor took."""
    from inferwatch_explainers import KernelShap

    predict = Timed(MODELS[model])
    return KernelShap(predict, data()[0], samples=samples, seed=seed).explain(row[None]).values[0], predict


def peers(model: str, samples: int | None, row: Matrix, seed: int) -> tuple[Matrix, Timed]:
    """Return the peer's values of one row, and what the predictor took."""
    import shap

    predict = Timed(MODELS[model])
    np.random.seed(seed)  # noqa: NPY002 - the peer draws from the global generator
    explainer = shap.KernelExplainer(predict, data()[0])
    chosen: Any = "auto" if samples is None else samples
    return np.asarray(explainer.shap_values(row, nsamples=chosen, l1_reg=False, silent=True)), predict


def measure(explain: Callable[..., tuple[Matrix, Timed]], exact: dict[str, Matrix]) -> dict[str, Sample]:
    """Return a sample for every model and number of coalitions, keyed `model/coalitions`."""
    found = {}
    for model in MODELS:
        for samples in (*COALITIONS, None):
            runs = [
                _run(explain, model, samples, index, seed, exact) for index in range(INSTANCES) for seed in range(SEEDS)
            ]
            found[f"{model}/{samples}"] = Sample(*(float(figure) for figure in np.median(runs, axis=0)))
    return found


def _run(
    explain: Callable[..., tuple[Matrix, Timed]],
    model: str,
    samples: int | None,
    index: int,
    seed: int,
    exact: dict[str, Matrix],
) -> Sample:
    row, truth = data()[1][index], exact[model][index]
    start = time.process_time()
    values, predict = explain(model, samples, row, seed)
    spent = time.process_time() - start - predict.seconds
    return Sample(float(np.linalg.norm(values - truth) / np.linalg.norm(truth)), 1000 * spent, predict.rows)


def _exact() -> dict[str, Matrix]:
    from inferwatch_explainers import ExactShapley

    background, rows = data()
    return {name: ExactShapley(model, background).explain(rows).values for name, model in MODELS.items()}


def _peer(exact: dict[str, Matrix]) -> dict[str, Sample] | str:
    """Return the peer's samples, or why there are none."""
    if not PEER.exists():
        return f"`shap` not measured: {PEER} is not here; `make setup-profiles` makes it"
    done = subprocess.run(
        [PEER, Path(__file__), "peer"],
        input=json.dumps({name: values.tolist() for name, values in exact.items()}),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        return f"`shap` not measured: {done.stderr.strip().splitlines()[-1]}"
    return {name: Sample(*figures) for name, figures in json.loads(done.stdout).items()}


def main() -> None:
    """Print the table."""
    exact = _exact()
    measure(ours, exact)  # coalitions are prepared once a process, and a service lives long
    here, there = measure(ours, exact), _peer(exact)
    print(f"## Kernel SHAP, {FEATURES} features, background {BACKGROUND} rows, medians of {INSTANCES * SEEDS} runs\n")
    print("| model / coalitions | rows | error | own CPU ms | shap rows | shap error | shap own CPU ms | error ratio |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, sample in here.items():
        left = f"| {name} | {sample.rows:,.0f} | {sample.error:.2%} | {sample.own_ms:.1f} |"
        if isinstance(there, str):
            print(f"{left} | | | |")
            continue
        peer = there[name]
        right = f" {peer.rows:,.0f} | {peer.error:.2%} | {peer.own_ms:.1f} | {sample.error / peer.error:.2f} |"
        print(left + right)
    if isinstance(there, str):
        print(f"\n{there}")


def _as_peer() -> None:
    given = {name: np.array(values) for name, values in json.load(sys.stdin).items()}
    print(json.dumps(measure(peers, given)))


if __name__ == "__main__":
    _as_peer() if sys.argv[1:] == ["peer"] else main()
