"""A thousand models in one process: memory, a window of every model judged, and a restart.

Every model has a reference of its own, 5,000 rows of 20 features, and `histogram` with windows of 500 rows. Requests
hold 50 rows and are given to the worker decoded, as the pipeline gives them. The restart reads what the worker kept,
its windows half full, with the references at hand; detectors are made again with the first window of each. Run with
`python -m benchmarks.fleet`; a number behind it asks for so many models instead.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.processes import machine
from inferwatch.clock import NS_PER_S
from inferwatch.events import REQUEST_TYPE, CloudEvent, Role
from inferwatch.pipeline import Item
from inferwatch.reference import Reference
from inferwatch.rows import Column, Rows
from inferwatch.settings import ModelSettings
from inferwatch.wire.decode import Decoded
from inferwatch_detectors.worker import MonitoredModel, Worker

MODELS, FEATURES, REFERENCE, WINDOW, REQUEST = 1_000, 20, 5_000, 500, 50
NAMES = tuple(f"x{place}" for place in range(FEATURES))


def rows(random: np.random.Generator, count: int) -> Rows:
    """Return rows of independent numbers."""
    values = random.normal(size=(FEATURES, count))
    return Rows(tuple(map(Column, NAMES, values)), count)


def watched(number: int) -> MonitoredModel:
    """Return one of the models."""
    reference = Reference.build(rows(np.random.default_rng(number), REFERENCE), created_ns=0)
    rule = {"kind": "drift", "method": "histogram", "window": {"rows": WINDOW}}
    about = {"name": f"model-{number}", "reference": Path("reference.parquet"), "burn_in_rows": 0, "detectors": [rule]}
    return MonitoredModel(ModelSettings.model_validate(about), reference)


def requests(models: int, first: int, count: int) -> Iterator[Item]:
    """Yield so many requests of each of the models, a second apart, models in turns."""
    random = np.random.default_rng(first)
    for second in range(first, first + count):
        for model in range(models):
            named = {"namespace": "default", "inferenceservicename": f"model-{model}"}
            key, at_ns = f"{model}-{second}", second * NS_PER_S
            event = CloudEvent(key, "benchmark", REQUEST_TYPE, at_ns, "application/json", named, b"")
            decoded = Decoded("v1", rows(random, REQUEST), None)
            yield Item(event, event.stream, Role.REQUEST, at_ns, decoded, key, None, at_ns, "request_only")


def seconds(worker: Worker, items: Sequence[Item], findings: int) -> float:
    """Return the processor time of judging the items, of which as many findings come."""
    began = time.process_time()
    found = len(worker.judge(items))
    spent = time.process_time() - began
    if found != findings:
        raise AssertionError(f"{found} findings where {findings} were expected")
    return spent


def resident_mib() -> float:
    """Return the memory that the process holds."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


def main(count: int = MODELS) -> None:
    """Print the table."""
    before = resident_mib()
    models = [watched(number) for number in range(count)]
    references = resident_mib() - before
    worker, whole, half = Worker(models), WINDOW // REQUEST, WINDOW // REQUEST // 2
    first = seconds(worker, list(requests(count, 0, 1)), 0)
    seconds(worker, list(requests(count, 1, whole - 1)), count)
    filling = seconds(worker, list(requests(count, whole, whole - 1)), 0)
    full = seconds(worker, list(requests(count, 2 * whole - 1, 1)), count)
    seconds(worker, list(requests(count, 2 * whole, half)), 0)
    kept = {name: data for name, data in worker.dump().items() if data is not None}
    held = resident_mib()
    fresh = Worker([replace(model, given=replace(model.reference)) for model in models])
    began = time.process_time()
    fresh.load(kept)
    restart = time.process_time() - began
    seconds(fresh, list(requests(count, 2 * whole + half, half)), count)
    print(f"{count:,} models of {FEATURES} features; {machine('numpy')}\n")
    print("| | |\n|---|---:|")
    print(f"| references, MiB | {references:,.0f} |")
    print(f"| the whole process, with the requests of a window, MiB | {held:,.0f} |")
    print(f"| the first request of each model, for which its detector is made, CPU s | {first:.2f} |")
    print(f"| {whole - 1} requests of {REQUEST} rows of each model, CPU s | {filling:.2f} |")
    print(f"| one more of each, with which windows of {WINDOW} rows are full and judged, CPU s | {full:.2f} |")
    print(f"| restart with {sum(map(len, kept.values())) / 2**20:,.0f} MiB of state, CPU s | {restart:.2f} |")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
