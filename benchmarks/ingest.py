"""Ingest, wire to stored: ours beside a FastAPI and cloudevents-SDK sink with the same storage, in one run.

Both keep events in our journal with the same group commit and answer after it; only what parses HTTP and CloudEvents
differs. A raw ASGI application that stores nothing shows what HTTP alone costs. The whole service stands beside them,
measured until all that was sent is joined and scored. Rounds alternate between the targets, and medians are shown. The
processor time is the server process's own.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.load import Sample, run_load
from benchmarks.processes import cpu_s, machine, running
from inferwatch.payload_log.views import StateReader, count_services
from inferwatch_cli.demo.processes import free_port

CONNECTIONS = (1, 16)
SIZES = (1024, 10240)
ROUNDS = 3
SECONDS = 2.0
_CONFIGURATION = """
models:
  - namespace: default
    name: income
    reference: reference.npy
    burn_in_rows: 0
    detectors:
      - {kind: drift, method: histogram, window: {rows: 500}}
      - {kind: outlier, method: mahalanobis, false_alarm_rate: 0.001}
"""


@dataclass(frozen=True, slots=True)
class Target:
    """A server to load. `done(directory, events)` says whether it has dealt with all that was sent, as a reply does.

    A server that does more after its reply (joins, scores) is measured until `done`.
    """

    name: str
    command: Callable[[int, Path], Sequence[str]]
    done: Callable[[Path, int], bool] = lambda directory, events: True  # noqa: ARG005 - named as others are


def sink(kind: str) -> Callable[[int, Path], Sequence[str]]:
    """Return the command of one of `benchmarks.sinks`."""
    return lambda port, directory: [sys.executable, "-m", "benchmarks.sinks", kind, str(port), str(directory)]


def up(port: int, directory: Path) -> Sequence[str]:
    """Return the command of the whole service: joins, and judges rows of 16 numbers by two detectors."""
    rows = np.random.default_rng(20261121).normal(np.arange(16) + 0.125, 1.0, size=(5000, 16))
    np.save(directory / "reference.npy", rows)
    (directory / "config.yaml").write_text(_CONFIGURATION)
    data = str(directory / "data")
    options = ["--config", str(directory / "config.yaml"), "--data", data, "--port", str(port)]
    return [str(Path(sys.executable).with_name("inferwatch")), "up", *options]


def scored(directory: Path, events: int) -> bool:
    """Say whether `up` has joined and judged so many events: it commits both together."""
    reader = StateReader(directory / "data")
    with closing(reader), reader.read() as connection:
        return events <= sum(counts.events for counts in count_services(connection))


TARGETS = (
    Target("inferwatch up, until joined and scored", up, scored),
    Target("inferwatch, stored", sink("ours")),
    Target("raw ASGI, nothing stored", sink("bare")),
    Target("FastAPI + cloudevents SDK, stored", sink("sdk")),
)


def measure(target: Target, body_bytes: int, connections: int, *, seconds: float = SECONDS) -> Sample:
    """Start the server on an empty directory, load it, and end it. The first half second is not counted."""
    with tempfile.TemporaryDirectory() as name:
        port, directory = free_port(), Path(name)
        with running(target.command(port, directory), port) as process:
            warm = run_load("events", port, body_bytes, connections, 0.5)
            _settle(target, directory, warm.requests)
            before = cpu_s(process)
            result = run_load("events", port, body_bytes, connections, seconds)
            answered = time.perf_counter()
            _settle(target, directory, warm.requests + result.requests)
            elapsed = result.seconds + time.perf_counter() - answered
            return Sample.of(result, cpu_s=cpu_s(process) - before, seconds=elapsed)


def compare(
    targets: Sequence[Target], body_bytes: int, connections: int, rounds: int = ROUNDS
) -> dict[str, list[Sample]]:
    """Return the samples of each target, taken in turns."""
    samples: dict[str, list[Sample]] = {target.name: [] for target in targets}
    for _ in range(rounds):
        for target in targets:
            samples[target.name].append(measure(target, body_bytes, connections))
    return samples


def table(samples: dict[str, list[Sample]], body_bytes: int, connections: int) -> list[str]:
    """Return Markdown rows of medians; the last target is the peer that ratios are to."""
    peer = _median([sample.rate for sample in list(samples.values())[-1]])
    peer_cpu = _median([sample.cpu_us for sample in list(samples.values())[-1]])
    rows = []
    for name, taken in samples.items():
        rates = [sample.rate for sample in taken]
        cpu = _median([sample.cpu_us for sample in taken])
        p50, p99 = (_median([getattr(sample, field) for sample in taken]) for field in ("p50_ms", "p99_ms"))
        rows.append(
            f"| {body_bytes / 1024:g} KiB | {connections} | {name} "
            f"| {_median(rates):,.0f} ({min(rates):,.0f} to {max(rates):,.0f}) "
            f"| {_median(rates) / peer:.1f} | {cpu:.0f} | {peer_cpu / cpu:.1f} | {p50:.1f} / {p99:.1f} |"
        )
    return rows


def main(targets: Sequence[Target] = TARGETS, sizes: Sequence[int] = SIZES) -> None:
    """Print the table."""
    print(f"Ingest: keep-alive connections, one event under way on each, {ROUNDS} rounds of {SECONDS:g} s in turns.")
    print(f"{machine('uvicorn', 'uvloop', 'httptools', 'fastapi', 'cloudevents')}\n")
    print("| body | connections | sink | events/s (lowest to highest) | ratio | CPU µs/event | ratio | p50 / p99 ms |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for size in sizes:
        for connections in CONNECTIONS:
            print("\n".join(table(compare(targets, size, connections), size, connections)), flush=True)


def _median(values: Sequence[float]) -> float:
    return statistics.median(values)


def _settle(target: Target, directory: Path, events: int) -> None:
    deadline = time.monotonic() + 60
    while not target.done(directory, events):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{target.name} has not dealt with {events} events in a minute")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
