"""Kernel SHAP of a model at hand and of a served one, over V1 and over V2 with binary tensors: wall, CPU, calls, rows.

The peers ask V1: alibi's KernelShap, which calls shap's, and lime, whose 5,000 rows are its own default and whose
figures are no Shapley values. One row is explained; the server's time is in every wall time.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Literal

from benchmarks.explained import HERE, NAMES, SAMPLES, Asked, Figure, Matrix, data, measured, peer, served

PLACES = (HERE, "plain", "kserve")
_ALIBI = "alibi KernelShap"


def ours(where: str) -> Iterator[tuple[str, Figure]]:
    """Yield our figures, at the peers' coalitions and where we stop by ourselves."""
    equal, enough = f"{SAMPLES:,} coalitions", "about 1 % of error"
    if where == HERE:
        yield f"ours, {equal}", _kernel_shap(Asked(where), SAMPLES)
        yield f"ours, {enough}", _kernel_shap(Asked(where), None)
    else:
        yield f"ours, auto, {equal}", _remote(where, "auto", SAMPLES)
        yield f"ours, auto, {enough}", _remote(where, "auto", None)
        yield f"ours, v1, {enough}", _remote(where, "v1", None)


def _remote(where: str, protocol: Literal["v1", "auto"], samples: int | None) -> Figure:
    from inferwatch.rows import Feature, Schema
    from inferwatch_explainers.predictor import RemotePredictor

    schema = Schema(tuple(Feature(name, "numeric") for name in NAMES))
    with RemotePredictor(where, "boosted", schema, protocol=protocol) as predict:
        return _kernel_shap(predict, samples)


def _kernel_shap(asked: Any, samples: int | None) -> Figure:  # noqa: ANN401 - what counts alike
    from inferwatch_explainers import KernelShap

    background = data()[0][:100]

    def explain(row: Matrix) -> int:
        KernelShap(asked, background, samples=samples).explain(row[None])
        return 0

    return measured(explain, asked, 1)


def main() -> None:
    """Print the table."""
    print(f"## Kernel SHAP of a boosted model, 12 features, 100 background rows, {SAMPLES:,} coalitions\n")
    print("| model | how | wall ms | own CPU ms | calls | rows | alibi's wall / this |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: |")
    missing: set[str] = set()
    for place in PLACES:
        with ExitStack() as stack:
            where = place if place == HERE else stack.enter_context(served(place, 0.0))
            figures: dict[str, Figure | str] = dict(ours(where))
            figures |= {name: peer(name, where) for name in (_ALIBI, "lime")}
        alibi = figures[_ALIBI]
        for how, figure in figures.items():
            if isinstance(figure, str):
                missing.add(figure)
                continue
            ratio = "" if isinstance(alibi, str) else f"{alibi.wall_ms / figure.wall_ms:.1f}"
            numbers = f"{figure.wall_ms:,.0f} | {figure.cpu_ms:,.0f} | {figure.calls:.0f} | {figure.rows:,.0f}"
            print(f"| {place} | {how} | {numbers} | {ratio} |", flush=True)
    for why in sorted(missing):
        print(f"\n{why}")


if __name__ == "__main__":
    main()
