"""What the benchmarks of explanations share: one model, at hand or served, how explaining it is counted, and the peers.

alibi's KernelShap and AnchorTabular and lime run in the environment of `make setup-explain-peers`: `explained.py PEER
WHERE` prints a figure, where WHERE is `at hand` or the address of a server, which is asked over V1.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

PYTHON = Path(".venvs/explain-peers/bin/python")
SERVER_PYTHON = Path(".venvs/demo/bin/python")
HERE = "at hand"
SAMPLES = 2072
"""Coalitions of Kernel SHAP: what shap takes for 12 features."""
AS_ACCURATE = 1200
"""Coalitions at which our mean error over the three rows is that of alibi's at `SAMPLES`, 0.22 %."""
TURNS = 7
"""So often one row is explained anew where that takes no seconds, as alibi's Kernel SHAP of a served model does."""
NAMES = [f"x{place}" for place in range(12)]


class Figure(NamedTuple):
    """Of one row: wall time and CPU outside the predictor, ms, what was asked, and what there is to say of the answer:
    how many conditions a rule has, or how far values are from the exact ones, %.
    """

    wall_ms: float
    cpu_ms: float
    calls: float
    rows: float
    said: float


class Asked:
    """The model as a function of rows, in this process or over V1; counts what it is asked, and the CPU it takes."""

    def __init__(self, where: str) -> None:
        self._where = where
        self._model = boosted() if where == HERE else None
        self.calls = self.rows = 0
        self.seconds = 0.0

    def __call__(self, rows: Matrix) -> Matrix:
        rows = np.atleast_2d(rows)
        self.calls, self.rows = self.calls + 1, self.rows + len(rows)
        if self._model is None:
            return self._served(rows)
        begun = time.process_time()
        outputs = np.asarray(self._model.predict(rows))
        self.seconds += time.process_time() - begun
        return outputs

    def _served(self, rows: Matrix) -> Matrix:
        body = json.dumps({"instances": rows.tolist()}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{self._where}/v1/models/boosted:predict", body, headers)
        with urllib.request.urlopen(request) as reply:
            return np.array(json.load(reply)["predictions"])


def boosted() -> Any:  # noqa: ANN401 - scikit-learn has no types
    """Return the model: 100 trees of depth 3 over 12 features."""
    from sklearn.ensemble import GradientBoostingRegressor

    rows = np.random.default_rng(0).normal(size=(2000, 12))
    target = np.sin(rows).sum(axis=1) + rows[:, 0] * rows[:, 1] * rows[:, 2]
    return GradientBoostingRegressor(n_estimators=100, max_depth=3, random_state=0).fit(rows, target)


def data() -> tuple[Matrix, Matrix]:
    """Return the reference, whose first 100 rows are the background, and the rows to explain."""
    generator = np.random.default_rng(7)
    return generator.normal(size=(1000, 12)), generator.normal(size=(3, 12))


def error_of(values: Matrix) -> float:
    """Return how far Shapley values of the first row are from the exact ones, as percent of those."""
    return float(100 * np.linalg.norm(values - exact_values()) / np.linalg.norm(exact_values()))


@cache
def exact_values() -> Matrix:
    """Return the Shapley values of the first row by their definition: all coalitions, over 100 background rows."""
    background, row, width = data()[0][:100], data()[1][0], len(NAMES)
    coalitions = np.arange(1 << width)
    masks = (coalitions[:, None] >> np.arange(width) & 1).astype(bool)
    outputs = boosted().predict(np.where(masks[:, None], row, background).reshape(-1, width))
    worth, sizes = outputs.reshape(len(masks), -1).mean(axis=1), masks.sum(axis=1)
    weights = np.array([1 / (width * math.comb(width - 1, size)) for size in range(width)])
    values = []
    for place in range(width):
        without = coalitions[~masks[:, place]]
        values.append(weights[sizes[without]] @ (worth[without | 1 << place] - worth[without]))
    return np.array(values)


def measured(explain: Callable[[Matrix], float], asked: Any, rows: int, *, turns: int = 1, warm: bool = True) -> Figure:  # noqa: ANN401
    """Return the medians over so many rows, explained alone and in turns, by default after the first one was before."""
    figures = []
    if warm:
        explain(data()[1][0])
    for row in np.tile(data()[1][:rows], (turns, 1)):
        before = asked.calls, asked.rows, getattr(asked, "seconds", 0.0)
        wall, cpu = time.perf_counter(), time.process_time()
        said = explain(row)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        calls, read, seconds = asked.calls, asked.rows, getattr(asked, "seconds", 0.0)
        own = cpu - (seconds - before[2])
        figures.append((1000 * wall, 1000 * own, calls - before[0], read - before[1], said))
    return Figure(*np.median(figures, axis=0).tolist())


def alibi_kernel_shap(asked: Asked) -> Figure:
    """Return alibi's KernelShap, at as many coalitions as ours."""
    exact_values()  # which is to be told from what explaining takes
    from alibi.explainers import KernelShap

    explainer = KernelShap(asked, feature_names=NAMES, task="regression").fit(data()[0][:100])

    def explain(row: Matrix) -> float:
        found = explainer.explain(row[None], nsamples=SAMPLES, l1_reg=False, silent=True)
        return error_of(found.shap_values[0][0])

    return measured(explain, asked, 1, warm=False)  # which takes seconds


def lime(asked: Asked) -> Figure:
    """Return lime for tables, with its own 5,000 rows."""
    from lime.lime_tabular import LimeTabularExplainer

    explainer = LimeTabularExplainer(data()[0][:100], feature_names=NAMES, mode="regression", random_state=0)

    def explain(row: Matrix) -> float:
        return len(explainer.explain_instance(row, asked, num_features=12).as_list())

    return measured(explain, asked, 1, turns=TURNS)


def alibi_anchors(asked: Asked) -> Figure:
    """Return alibi's AnchorTabular, at the precision that ours are aimed at."""
    from alibi.explainers import AnchorTabular

    explainer = AnchorTabular(lambda rows: (asked(rows) > 0).astype(np.int64), NAMES, seed=0).fit(data()[0])
    return measured(lambda row: len(explainer.explain(row, threshold=0.95).anchor), asked, 3)


@contextmanager
def served(kind: str, delay_s: float) -> Iterator[str]:
    """Serve the model by KServe's server (`kserve`) or a `plain` one, which waits so long; give its address."""
    from inferwatch_cli.demo.processes import answering, free_port, running

    with tempfile.TemporaryDirectory() as folder:
        port, log = _port_before_a_free_one(free_port), Path(folder) / "server.log"
        script = Path(__file__).with_name("explained_server.py")
        with running((SERVER_PYTHON, script, kind, str(port), str(delay_s)), log) as process:
            url = f"http://127.0.0.1:{port}"
            asyncio.run(answering(f"{url}/v2/health/ready", process, log))
            yield url


def _port_before_a_free_one(free_port: Callable[[], int]) -> int:
    """Return a free port, behind which KServe's server can listen for gRPC."""
    while True:
        port = free_port()
        with suppress(OSError), socket.socket() as probe:
            probe.bind(("", port + 1))
            return port


PEERS: dict[str, Callable[[Asked], Figure]] = {
    "alibi KernelShap": alibi_kernel_shap,
    "lime": lime,
    "alibi AnchorTabular": alibi_anchors,
}


def peer(name: str, where: str) -> Figure | str:
    """Return a peer's figure from its own environment, or why there is none."""
    if not PYTHON.exists():
        return f"{name} not measured: {PYTHON} is not here; `make setup-explain-peers` makes it"
    done = subprocess.run([PYTHON, Path(__file__), name, where], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"{name} not measured: {done.stderr.strip().splitlines()[-1]}"
    return Figure(*json.loads(done.stdout.splitlines()[-1]))


if __name__ == "__main__":
    print(json.dumps(PEERS[sys.argv[1]](Asked(sys.argv[2]))))
