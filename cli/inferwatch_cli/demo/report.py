"""The demo's words and tables."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from inferwatch_cli.demo.census import MEANINGS
from inferwatch_cli.demo.verdict import Outcome, Outliers

SHOWN_FEATURES = 4


def show_explanation(console: Console, payload_id: str, row: int, explanation: Mapping[str, Any]) -> None:
    """Print what moved one prediction away from the average."""
    pairs = sorted(zip(explanation["features"], explanation["values"], strict=True), key=lambda pair: -abs(pair[1]))
    console.print(
        f"\nWhy {explanation['prediction']:.2f} for row {row} of {payload_id}, where the average is"
        f" {explanation['base_value']:.2f}?"
        f"  ({explanation['method']}, {explanation['predictor_calls']} calls, {explanation['elapsed_s']:.1f} s)"
    )
    for name, value in pairs[:SHOWN_FEATURES]:
        bar = "█" * max(1, round(40 * abs(value)))
        console.print(f"  {MEANINGS[name]:>26} {value:+.3f} {bar}", style="red" if value < 0 else "green")


def show(console: Console, outcome: Outcome) -> None:
    """Print what was planted, what was found, after how many rows, and which rows were flagged."""
    _show_flags(console, outcome.outliers)
    table = Table(title="\nwhat was planted, and what was found", title_justify="left", title_style="bold")
    for column in ("planted", "found", "after", "beside it"):
        table.add_column(column)
    table.add_row(
        "nothing (clean rows)",
        _verdict(outcome.false_alarms == 0, f"{outcome.false_alarms} alarms"),
        f"{outcome.windows} windows",
        "one false alarm in 1,000 windows is promised",
    )
    table.add_row("a younger population", *_drift_cells(outcome))
    outliers = outcome.outliers
    table.add_row(
        f"{len(outliers.planted)} ages in months",
        _verdict(outliers.missed == 0, f"{len(outliers.found)} rows flagged"),
        "1 row each",
        f"{len(outliers.false)} of {outliers.judged:,} other rows flagged: {len(outliers.false) / outliers.judged:.2%}",
    )
    table.add_row(
        "traffic of the explainer",
        _verdict(outcome.judged_rows == outcome.expected_rows, f"{outcome.explain_calls} calls left out"),
        "",
        f"{outcome.judged_rows:,} rows judged, {outcome.expected_rows:,} sent by clients",
    )
    console.print(table)
    ledger = outcome.ledger
    console.print(
        f"{outcome.requests:,} requests, every event accounted for: {ledger['received']:,} received ="
        f" {ledger['stored']:,} stored + {ledger['duplicate']} duplicate"
    )
    style = "green" if outcome.found else "red"
    verdict = "everything that was planted was found" if outcome.found else "what was planted was NOT found"
    console.print(f"[bold {style}]{verdict}[/]")


def _show_flags(console: Console, outliers: Outliers) -> None:
    table = Table(title="\nflagged rows", title_justify="left", title_style="bold")
    for column in ("request", "row", "planted", "why"):
        table.add_column(column, justify="right" if column == "row" else "left")
    for flag in outliers.flags:
        planted = (flag["payload_id"], flag["row"]) in outliers.planted
        table.add_row(flag["payload_id"], str(flag["row"]), "yes" if planted else "[yellow]no[/]", flag["why"])
    console.print(table)


def _drift_cells(outcome: Outcome) -> tuple[str, str, str]:
    drift = outcome.drift
    if drift is None:
        return _verdict(False, "no drift alarm"), "", ""
    shown = ", ".join(MEANINGS[name] for name in drift.named[:SHOWN_FEATURES])
    more = len(drift.named) - SHOWN_FEATURES
    names = shown + (f" and {more} more" if more > 0 else "")
    return (
        _verdict(drift.right, "drift alarm"),
        f"{drift.after_rows} rows",
        f"{names}; score {drift.finding['score']:.1f} over {drift.finding['threshold']:.1f}",
    )


def _verdict(good: bool, text: str) -> str:
    return f"[green]✔ {text}[/]" if good else f"[red]✘ {text}[/]"
