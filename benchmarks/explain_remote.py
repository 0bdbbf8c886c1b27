"""Explanations of a served model: time, calls and rows over V1 and over V2 with binary tensors, against `shap` over V1.

The peer is `shap`'s KernelExplainer, which is also what alibi's KernelShap calls, in the environment of
`make setup-profiles`, or by the interpreter that `SHAP_PYTHON` names. One row is explained; the server's time is in
every wall time.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

SERVER_PYTHON = Path(".venvs/demo/bin/python")
PEER = Path(os.environ.get("SHAP_PYTHON", ".venvs/modern/bin/python"))
SAMPLES = 2072
ROWS = 1
SETTINGS = (("plain", 0.0), ("plain", 0.02), ("kserve", 0.0))


class Figure(NamedTuple):
    """Of one row: wall time and own CPU time, ms, and what the predictor was asked."""

    wall_ms: float
    cpu_ms: float
    calls: float
    rows: float


def data() -> tuple[Matrix, Matrix]:
    """Return the background and the rows to explain."""
    generator = np.random.default_rng(7)
    return generator.normal(size=(100, 12)), generator.normal(size=(ROWS, 12))


def ours(url: str, protocol: Literal["auto", "v1"], samples: int | None) -> Figure:
    """Return our figure with so many coalitions."""
    from inferwatch.rows import Feature, Schema
    from inferwatch_explainers import KernelShap
    from inferwatch_explainers.predictor import RemotePredictor

    background, rows = data()
    schema = Schema(tuple(Feature(f"x{place}", "numeric") for place in range(12)))
    figures = []
    with RemotePredictor(url, "boosted", schema, protocol=protocol) as predict:
        KernelShap(predict, background, schema=schema, samples=samples).explain(rows[:1])  # a service lives long
        for row in rows:
            calls, asked, wall, cpu = predict.calls, predict.rows, time.perf_counter(), time.process_time()
            KernelShap(predict, background, schema=schema, samples=samples).explain(row[None])
            spent = 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu)
            figures.append(Figure(*spent, predict.calls - calls, predict.rows - asked))
    return Figure(*np.median(figures, axis=0).tolist())


def peers(url: str) -> Figure:
    """Return the peer's figure, asking V1 with one call a batch of its own choice."""
    import shap

    background, rows = data()
    counted = [0, 0]

    def predict(asked: Matrix) -> Matrix:
        counted[0] += 1
        counted[1] += len(asked)
        body = json.dumps({"instances": asked.tolist()}).encode()
        headers = {"Content-Type": "application/json"}
        request = urllib.request.Request(f"{url}/v1/models/boosted:predict", body, headers)
        with urllib.request.urlopen(request) as reply:
            return np.array(json.load(reply)["predictions"])

    explainer = shap.KernelExplainer(predict, background)
    counted[:] = [0, 0]
    wall, cpu = time.perf_counter(), time.process_time()
    for row in rows:
        explainer.shap_values(row, nsamples=SAMPLES, l1_reg=False, silent=True)
    spent = 1000 * (time.perf_counter() - wall), 1000 * (time.process_time() - cpu)
    return Figure(*(each / ROWS for each in (*spent, *counted)))


def _peer(url: str) -> Figure | str:
    if not PEER.exists():
        return f"`shap` not measured: {PEER} is not here; `make setup-profiles` makes it"
    done = subprocess.run([PEER, Path(__file__), url], capture_output=True, text=True, check=False)
    if done.returncode:
        return f"`shap` not measured: {done.stderr.strip().splitlines()[-1]}"
    return Figure(*json.loads(done.stdout))


def main() -> None:
    """Print the table."""
    from inferwatch_cli.demo.processes import answering, free_port, running

    print(f"## Kernel SHAP of a served model, 12 features, 100 background rows ({SAMPLES} coalitions where not said)\n")
    print("| server, delay | how | wall ms | own CPU ms | calls | rows | shap's wall / this |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    for kind, delay_s in SETTINGS:
        with tempfile.TemporaryDirectory() as folder:
            port, log = free_port(), Path(folder) / "server.log"
            script = Path(__file__).with_name("explained_server.py")
            server = (SERVER_PYTHON, script, kind, str(port), str(delay_s))
            with running(server, log) as process:
                url = f"http://127.0.0.1:{port}"
                asyncio.run(answering(f"{url}/v2/health/ready", process, log))
                peer = _peer(url)
                figures = {
                    "ours, v1": ours(url, "v1", SAMPLES),
                    "ours, auto (v2_binary)": ours(url, "auto", SAMPLES),
                    "ours, v1, about 1 % error": ours(url, "v1", None),
                    "ours, auto (v2_binary), about 1 % error": ours(url, "auto", None),
                }
        if not isinstance(peer, str):
            figures["shap, v1"] = peer
        for how, figure in figures.items():
            ratio = "" if isinstance(peer, str) else f"{peer.wall_ms / figure.wall_ms:.1f}"
            numbers = f"{figure.wall_ms:,.0f} | {figure.cpu_ms:,.0f} | {figure.calls:.0f} | {figure.rows:,.0f}"
            print(f"| {kind}, {1000 * delay_s:.0f} ms | {how} | {numbers} | {ratio} |", flush=True)
        if isinstance(peer, str):
            print(f"\n{peer}")


if __name__ == "__main__":
    print(json.dumps(peers(sys.argv[1]))) if len(sys.argv) > 1 else main()
