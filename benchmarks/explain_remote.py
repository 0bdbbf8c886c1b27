"""Kernel SHAP of a model at hand and of a served one, by each way of asking: wall, CPU, calls, rows, error.

The peers ask V1: alibi's KernelShap, which calls shap's, and lime, whose 5,000 rows are its own default and whose
figures are no Shapley values. One row is explained, after it was once before, by which `auto` found out how to ask;
wall and CPU are medians of seven turns, but one turn of alibi's, which takes seconds. Errors are against the values by
definition, over all 4,096 coalitions. Ours come thrice: at as many coalitions as alibi's, at as many as give its error,
and where we stop by ourselves. The server's time is in every wall time: "at hand" without our own CPU time is what the
model alone takes for so many rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any, Literal

from benchmarks.explained import (
    AS_ACCURATE,
    HERE,
    NAMES,
    SAMPLES,
    TURNS,
    Asked,
    Figure,
    Matrix,
    data,
    error_of,
    exact_values,
    measured,
    peer,
    served,
)
from benchmarks.processes import machine

PLACES = (HERE, "plain", "kserve")
_ALIBI = "alibi KernelShap"


def ours(where: str) -> Iterator[tuple[str, Figure]]:
    """Yield our figures: at the peers' coalitions, at their error, and where we stop by ourselves."""
    for samples in (SAMPLES, AS_ACCURATE, None):
        much = "about 1 % of error" if samples is None else f"{samples:,} coalitions"
        if where == HERE:
            yield f"ours, {much}", _kernel_shap(Asked(where), samples)
        else:
            way, figure = _remote(where, "auto", samples)
            yield f"ours, {way}, {much}", figure
    if where != HERE:
        _, figure = _remote(where, "v1", None)
        yield f"ours, v1, {much}", figure


def _remote(where: str, protocol: Literal["auto", "v1"], samples: int | None) -> tuple[str, Figure]:
    from inferwatch.rows import Feature, Schema
    from inferwatch_explainers.predictor import RemotePredictor

    schema = Schema(tuple(Feature(name, "numeric") for name in NAMES))
    with RemotePredictor(where, "boosted", schema, protocol=protocol) as predict:
        figure = _kernel_shap(predict, samples)
        chosen = ", ".join(way.dialect for way in predict._remote.ways.values())
    return f"{protocol}: {chosen}" if chosen else protocol, figure


def _kernel_shap(asked: Any, samples: int | None) -> Figure:  # noqa: ANN401 - what counts alike
    from inferwatch_explainers import KernelShap

    background = data()[0][:100]

    def explain(row: Matrix) -> float:
        return error_of(KernelShap(asked, background, samples=samples).explain(row[None]).values[0])

    exact_values()  # which is to be told from what explaining takes
    return measured(explain, asked, 1, turns=TURNS)


def main() -> None:
    """Print the table."""
    print(f"## Kernel SHAP of a boosted model, 12 features, 100 background rows, {SAMPLES:,} coalitions\n")
    print(f"{machine('numpy', 'aiohttp', 'grpcio')}\n")
    print("| model | how | wall ms | own CPU ms | calls | rows | error | alibi's wall / this |")
    print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
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
            error = "" if how == "lime" else f"{figure.said:.2f}%"
            print(f"| {place} | {how} | {numbers} | {error} | {ratio} |", flush=True)
    for why in sorted(missing):
        print(f"\n{why}")


if __name__ == "__main__":
    main()
