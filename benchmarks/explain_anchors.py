"""Anchors and counterfactuals of a served classifier: time and calls, against alibi's AnchorTabular over V1.

alibi runs in the environment of `make setup-profiles`, `.venvs/legacy-explain`. Both explain the same rows of the same
model, and look for rules of the same precision over the same reference; medians. The server waits 20 ms before each
answer, and its own time is in every wall time. An interval is one condition to alibi, and two to us.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

SERVER_PYTHON = Path(".venvs/demo/bin/python")
PEER = Path(".venvs/legacy-explain/bin/python")
ROWS = 3
DELAY_S = 0.02


class Figure(NamedTuple):
    """Of one row: wall time in ms, calls and rows asked, and how long the rule is."""

    wall_ms: float
    calls: float
    rows: float
    conditions: float


def data() -> tuple[Matrix, Matrix]:
    """Return the reference and the rows to explain."""
    generator = np.random.default_rng(7)
    return generator.normal(size=(1000, 12)), generator.normal(size=(ROWS, 12))


def measured(explain: Callable[[Matrix], int], counted: Callable[[], tuple[int, int]]) -> Figure:
    """Return the medians of explaining each row alone, the first of them once before."""
    rows, figures = data()[1], []
    explain(rows[0])
    for row in rows:
        before, began = counted(), time.perf_counter()
        length = explain(row)
        wall_ms = 1000 * (time.perf_counter() - began)
        calls, asked = (now - then for now, then in zip(counted(), before, strict=True))
        figures.append((wall_ms, calls, asked, length))
    return Figure(*np.median(figures, axis=0).tolist())


def ours(url: str, protocol: Literal["auto", "v1"]) -> dict[str, Figure]:
    """Return our figures over V1, or with binary tensors."""
    from inferwatch.rows import Feature, Schema
    from inferwatch_explainers import AnchorsTabular, Counterfactual
    from inferwatch_explainers.predictor import RemotePredictor

    reference = data()[0]
    schema = Schema(tuple(Feature(f"x{place}", "numeric") for place in range(12)))
    with RemotePredictor(url, "boosted", schema, protocol=protocol) as remote:

        def predict(rows: Matrix) -> NDArray[np.int64]:
            return (remote(rows) > 0).astype(np.int64)

        def counted() -> tuple[int, int]:
            return remote.calls, remote.rows

        anchors, nearest = AnchorsTabular(predict, reference), Counterfactual(predict, reference)
        return {
            f"ours, anchors_tabular, {protocol}": measured(
                lambda row: len(anchors.explain(row[None]).anchors[0]), counted
            ),
            f"ours, counterfactual, {protocol}": measured(
                lambda row: len(nearest.explain(row[None]).changed[0]), counted
            ),
        }


def peers(url: str) -> Figure:
    """Return alibi's figure."""
    from alibi.explainers import AnchorTabular

    asked = [0, 0]

    def predict(rows: Matrix) -> NDArray[np.int64]:
        rows = np.atleast_2d(rows)
        asked[:] = asked[0] + 1, asked[1] + len(rows)
        body = json.dumps({"instances": rows.tolist()}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/v1/models/boosted:predict", body, headers)
        with urllib.request.urlopen(request) as reply:
            return (np.array(json.load(reply)["predictions"]) > 0).astype(np.int64)

    explainer = AnchorTabular(predict, [f"x{place}" for place in range(12)], seed=0)
    explainer.fit(data()[0])
    return measured(lambda row: len(explainer.explain(row, threshold=0.95).anchor), lambda: (asked[0], asked[1]))


def _peer(url: str) -> Figure | str:
    if not PEER.exists():
        return f"alibi not measured: {PEER} is not here; `make setup-profiles` makes it"
    done = subprocess.run([PEER, Path(__file__), url], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"alibi not measured: {done.stderr.strip().splitlines()[-1]}"
    return Figure(*json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Print the table."""
    from inferwatch_cli.demo.processes import answering, free_port, running

    print("## Rules and nearest rows of a served classifier, 12 features, 1,000 rows of reference, 20 ms a call\n")
    print("| how | wall ms | calls | rows | conditions | alibi's wall / this |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        port, log = free_port(), Path(folder) / "server.log"
        server = (SERVER_PYTHON, Path(__file__).with_name("explained_server.py"), "plain", str(port), str(DELAY_S))
        with running(server, log) as process:
            url = f"http://127.0.0.1:{port}"
            asyncio.run(answering(f"{url}/v2/health/ready", process, log))
            peer = _peer(url)
            figures = ours(url, "v1") | ours(url, "auto")
    if not isinstance(peer, str):
        figures["alibi 0.9.4, AnchorTabular, v1"] = peer
    for how, figure in figures.items():
        ratio = "" if isinstance(peer, str) else f"{peer.wall_ms / figure.wall_ms:.1f}"
        numbers = f"{figure.wall_ms:,.0f} | {figure.calls:.0f} | {figure.rows:,.0f} | {figure.conditions:.0f}"
        print(f"| {how} | {numbers} | {ratio} |", flush=True)
    if isinstance(peer, str):
        print(f"\n{peer}")


if __name__ == "__main__":
    print(json.dumps(peers(sys.argv[1]))) if len(sys.argv) > 1 else main()
