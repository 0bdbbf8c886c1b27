"""Anchors and counterfactuals of a served classifier: time and calls, against alibi's AnchorTabular over V1.

Both explain the same rows of the same model, and look for rules of the same precision over the same reference; medians.
The server waits 20 ms before each answer, and its own time is in every wall time. An interval is one condition to
alibi, and two to us.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from benchmarks.explained import NAMES, Figure, Matrix, data, measured, peer, served
from benchmarks.processes import machine

DELAY_S = 0.02
_ALIBI = "alibi AnchorTabular"


def ours(url: str, protocol: Literal["auto", "v1"]) -> Iterator[tuple[str, Figure]]:
    """Yield our figures over V1, or with binary tensors."""
    from inferwatch.rows import Feature, Schema
    from inferwatch_explainers import AnchorsTabular, Counterfactual
    from inferwatch_explainers.predictor import RemotePredictor

    reference = data()[0]
    schema = Schema(tuple(Feature(name, "numeric") for name in NAMES))
    with RemotePredictor(url, "boosted", schema, protocol=protocol) as remote:

        def predict(rows: Matrix) -> NDArray[np.int64]:
            return (remote(rows) > 0).astype(np.int64)

        anchors, nearest = AnchorsTabular(predict, reference), Counterfactual(predict, reference)
        rules = measured(lambda row: len(anchors.explain(row[None]).anchors[0]), remote, 3)
        yield f"ours, anchors_tabular, {protocol}", rules
        rows = measured(lambda row: len(nearest.explain(row[None]).changed[0]), remote, 3)
        yield f"ours, counterfactual, {protocol}", rows


def main() -> None:
    """Print the table."""
    print("## Rules and nearest rows of a served classifier, 12 features, 1,000 rows of reference, 20 ms a call\n")
    print(f"{machine('numpy', 'aiohttp')}\n")
    print("| how | wall ms | own CPU ms | calls | rows | conditions | alibi's wall / this |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    with served("plain", DELAY_S) as url:
        alibi = peer(_ALIBI, url)
        figures = dict(ours(url, "v1")) | dict(ours(url, "auto"))
    if not isinstance(alibi, str):
        figures[_ALIBI] = alibi
    for how, figure in figures.items():
        ratio = "" if isinstance(alibi, str) else f"{alibi.wall_ms / figure.wall_ms:.1f}"
        spent = f"{figure.wall_ms:,.0f} | {figure.cpu_ms:,.0f} | {figure.calls:.0f} | {figure.rows:,.0f}"
        print(f"| {how} | {spent} | {figure.said:.0f} | {ratio} |", flush=True)
    if isinstance(alibi, str):
        print(f"\n{alibi}")


if __name__ == "__main__":
    main()
