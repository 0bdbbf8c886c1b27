"""Tells the demo: starts the servers, sends two phases of real rows, shows what was planted and what was found."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import aiohttp
import pandas as pd
import yaml
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from inferwatch.errors import InferwatchError
from inferwatch_cli.demo.census import AGE, FEATURES, LABEL, Census, plant, read_census, take
from inferwatch_cli.demo.processes import answering, free_port, running
from inferwatch_cli.demo.report import show, show_explanation
from inferwatch_cli.demo.traffic import Sent, send
from inferwatch_cli.demo.verdict import (
    Outcome,
    Outliers,
    changed_features,
    false_alarms,
    first_alarm,
    judge_outliers,
)

MODEL = "employment"
WINDOW_ROWS = 500
BURN_IN_ROWS = 2_000
CLEAN_ROWS = BURN_IN_ROWS + 6 * WINDOW_ROWS
SHIFTED_ROWS = 3 * WINDOW_ROWS
SHIFT_START = 70_000
"""Where the traffic of the changed phase begins: far behind the clean rows, in the data of a later year."""

PLANTED = 8
UNDER_AGE = 30.0
PLAIN_WIDTH = 120
"""Columns of the output where there is no terminal to ask."""


def tell(directory: Path, server_python: Path, *, drift: bool) -> bool:
    """Run the demo and return whether everything planted was found. Raises `InferwatchError` where it cannot run."""
    if not server_python.exists():
        raise InferwatchError(f"the demo's model server needs {server_python}; make it with: make setup-demo")
    console = Console(highlight=False, width=None if sys.stdout.isatty() else PLAIN_WIDTH)
    census = read_census(server_python)
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return asyncio.run(_tell(console, directory, server_python, census, drift=drift))


async def _tell(console: Console, directory: Path, server_python: Path, census: Census, *, drift: bool) -> bool:
    port, model_port = free_port(), free_port()
    url, model_url = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{model_port}"
    config = _configure(directory, census, model_url)
    console.print(
        f"A gradient-boosting classifier of US census answers, trained on {len(census.training):,} rows of 2015,\n"
        f"served by KServe at {model_url}; its middleware sends every request and response to inferwatch at {url}.\n"
    )
    up: list[str | Path] = [sys.executable, "-m", "inferwatch_cli", "up", "--config", config, "--port", str(port)]
    server: list[str | Path] = [
        server_python, "-m", "inferwatch_cli.demo.model_server", "--training", directory / "training.parquet",
        "--label", LABEL, "--name", MODEL, "--sink", url, "--http_port", str(model_port),
    ]  # fmt: skip
    with ExitStack() as stack:
        started = []
        for command, log, probe in (
            (up, directory / "inferwatch.log", f"{url}/readyz"),
            (server, directory / "model-server.log", f"{model_url}/v1/models/{MODEL}"),
        ):
            started.append(answering(probe, stack.enter_context(running(command, log)), log))
        with console.status("starting both servers"):
            await asyncio.gather(*started)
        async with aiohttp.ClientSession(url) as api:
            outcome = await _traffic(console, api, model_url, census, drift=drift)
            show(console, outcome)
            await _leave_page(console, api, url, directory)
    return outcome.found


def _configure(directory: Path, census: Census, model_url: str) -> Path:
    census.training.to_parquet(directory / "training.parquet")
    census.training[FEATURES].to_parquet(directory / "reference.parquet")
    model = {
        "namespace": "default",
        "name": MODEL,
        "reference": "reference.parquet",
        "reference_rows": 20_000,
        "features": [{"name": name, "kind": "numeric" if name == AGE else "categorical"} for name in FEATURES],
        "burn_in_rows": BURN_IN_ROWS,
        "false_alarms": {"expected_run_length_windows": 1_000},
        "detectors": [
            {"name": "inputs", "kind": "drift", "method": "histogram", "window": {"rows": WINDOW_ROWS}},
            {"name": "rows", "kind": "outlier", "method": "mahalanobis", "false_alarm_rate": 0.001},
        ],
        "explainers": [{"method": "kernel_shap", "predictor": model_url, "deadline_s": 3.0}],
    }
    config = directory / "inferwatch.yaml"
    config.write_text(yaml.safe_dump({"payload_log": {"path": "data"}, "models": [model]}, sort_keys=False))
    return config


async def _traffic(
    console: Console, api: aiohttp.ClientSession, model_url: str, census: Census, *, drift: bool
) -> Outcome:
    clean, planted = plant(take(census.traffic, 0, CLEAN_ROWS), PLANTED)
    shifted = take(census.traffic, SHIFT_START, SHIFTED_ROWS, under_age=UNDER_AGE if drift else None)
    with Progress(
        TextColumn("{task.description:36}"), BarColumn(), MofNCompleteColumn(), TextColumn("rows"), TimeElapsedColumn(),
        console=console,
    ) as progress:  # fmt: skip
        title = f"clean rows of 2016, {PLANTED} unit errors"
        sent = await _phase(progress, title, model_url, "clean", clean)
        title = f"only people under {UNDER_AGE:g}, 2017" if drift else "more rows of the same population"
        sent_later = await _phase(progress, title, model_url, "shifted", shifted)
    total = len(clean) + len(shifted)
    await _settled(api, total, 2 * (len(sent) + len(sent_later)))
    windows = (await _all(api, f"/api/findings?model=default/{MODEL}&detector=inputs"))[::-1]
    flags = await _all(api, f"/api/findings?model=default/{MODEL}&detector=rows&fired=true")
    outliers = judge_outliers(flags, planted, sent)
    explanation = await _explain(api, console, clean, outliers, sent)
    count, alarms = false_alarms(windows, len(clean), BURN_IN_ROWS)
    changed = changed_features(census.training[FEATURES], census.traffic[census.traffic[AGE] < UNDER_AGE])
    models = (await _get(api, "/api/models"))["items"]
    explained = await _all(api, f"/api/payloads?model=default/{MODEL}&excluded=explain")
    return Outcome(
        windows=count,
        false_alarms=alarms,
        drift=first_alarm(windows, len(clean), BURN_IN_ROWS, changed),
        outliers=outliers,
        explanation=explanation,
        explain_calls=len(explained),
        judged_rows=models[0]["rows"] - sum(payload["rows"] for payload in explained),
        expected_rows=total,
        ledger=(await _get(api, "/api/ledger"))["ingest"],
        requests=len(sent) + len(sent_later),
    )


async def _phase(progress: Progress, title: str, url: str, name: str, rows: pd.DataFrame) -> list[Sent]:
    task = progress.add_task(title, total=len(rows))
    sent = []
    async for request in send(url, MODEL, name, rows):
        sent.append(request)
        progress.advance(task, request.rows)
    return sent


async def _settled(api: aiohttp.ClientSession, rows: int, events: int, patience_s: float = 20.0) -> None:
    """Return once so many rows of so many events are stored and judged. Raises `InferwatchError` where they are not."""
    model: dict[str, Any] = {}
    for _ in range(round(patience_s / 0.1)):
        model = (await _get(api, "/api/models"))["items"][0]
        if model["rows"] >= rows and model["events"] >= events:
            return
        await asyncio.sleep(0.1)
    raise InferwatchError(
        f"{rows} rows in {events} events were sent, and after {patience_s:g} s there are {model['rows']} rows in"
        f" {model['events']} events"
    )


async def _explain(
    api: aiohttp.ClientSession, console: Console, rows: pd.DataFrame, outliers: Outliers, sent: Sequence[Sent]
) -> Mapping[str, Any]:
    """Return the explanation of the prediction for the first flagged row of the planted ones."""
    places = outliers.found or outliers.false
    if not places:
        raise InferwatchError("no row was flagged, so there is no flagged prediction to explain")
    payload_id, row = places[0]
    position = next(request.first for request in sent if request.id == payload_id) + row
    body = {"instances": [rows.iloc[position].tolist()]}
    with console.status("explaining one flagged prediction"):
        async with api.post(f"/v1/models/{MODEL}:explain", json=body) as response:
            answer = await response.json()
            if response.status != 200:
                raise InferwatchError(f"the explanation failed with {response.status}: {answer.get('error')}")
    explanation: Mapping[str, Any] = answer["explanations"][0]
    show_explanation(console, payload_id, row, explanation)
    return explanation


async def _leave_page(console: Console, api: aiohttp.ClientSession, url: str, directory: Path) -> None:
    """Serve the page until Ctrl-C on a terminal; leave it as a file without one."""
    page = directory / "page.html"
    async with api.get("/fleet.html") as response:
        page.write_text(await response.text(), encoding="utf-8")
    if not sys.stdout.isatty():
        console.print(f"page: {page}", soft_wrap=True)
        return
    console.print(f"page: [bold]{url}[/]   (Ctrl-C ends; a copy stays in {page})")
    try:
        await asyncio.Event().wait()
    except asyncio.CancelledError:
        console.print("ended")


async def _get(api: aiohttp.ClientSession, path: str) -> Any:  # noqa: ANN401 - JSON
    async with api.get(path) as response:
        answer = await response.json()
        if response.status != 200:
            raise InferwatchError(f"{path} answered {response.status}: {answer.get('error')}")
        return answer


async def _all(api: aiohttp.ClientSession, path: str) -> list[dict[str, Any]]:
    """Return every item of a list, newest first."""
    items: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        page = await _get(api, f"{path}&limit=1000" + (f"&cursor={cursor}" if cursor else ""))
        items.extend(page["items"])
        cursor = page["next"]
        if cursor is None:
            return items
