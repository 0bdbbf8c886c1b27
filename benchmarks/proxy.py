"""The sidecar: what relaying and capturing a request costs, beside proxies of Starlette and of FastAPI, in one run.

A predictor that answers at once stands behind each proxy, a sink that answers at once beside it, each a process of its
own; rounds alternate between the proxies, and medians are shown. The processor time is the proxy process's own, until
the events of everything that was answered have arrived. `direct` is the predictor without a proxy: its latency is what
the others add to.
"""

from __future__ import annotations

import importlib.util
import statistics
import sys
import time
import urllib.request
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.load import run_load
from benchmarks.processes import cpu_s, free_port, machine, running

ROWS = {"100 B": 4, "10 KiB": 480}
"""Flowers a request."""
CONNECTIONS = 16
SECONDS = 1.5
ROUNDS = 3
_DELIVERY_S = 15.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One round: requests a second, processor microseconds a request, latency, and events delivered a request."""

    rate: float
    cpu_us: float
    p50_ms: float
    p99_ms: float
    events: float


def command(kind: str, port: int, upstream: int, sink: int) -> Sequence[str]:
    """Return the command of a proxy."""
    addresses = f"http://127.0.0.1:{upstream}", f"http://127.0.0.1:{sink}/"
    if kind == "ours":
        options = ["--upstream", addresses[0], "--sink", addresses[1], "--port", str(port), "--host", "127.0.0.1"]
        return [str(Path(sys.executable).with_name("inferwatch")), "proxy", *options]
    return [sys.executable, "-m", "benchmarks.proxied", kind, str(port), *addresses]


def measure(kind: str, rows: int, upstream: int, sink: int) -> Sample:
    """Start a proxy, load it, and wait for the events of what it answered."""
    if kind == "direct":
        result = run_load("predictions", upstream, rows, CONNECTIONS, SECONDS)
        return Sample(result.requests / result.seconds, 0.0, result.p50_ms, result.p99_ms, 0.0)
    port = free_port()
    with running(command(kind, port, upstream, sink), port) as process:
        warm = run_load("predictions", port, rows, CONNECTIONS, 0.5)
        arrived = _arrived(sink, _received(sink), 2 * warm.requests)
        before = cpu_s(process)
        result = run_load("predictions", port, rows, CONNECTIONS, SECONDS)
        events = _arrived(sink, arrived, 2 * result.requests) - arrived
        cpu_us = 1e6 * (cpu_s(process) - before) / result.requests
    return Sample(result.requests / result.seconds, cpu_us, result.p50_ms, result.p99_ms, events / result.requests)


def main(rows: dict[str, int] = ROWS, rounds: int = ROUNDS) -> None:
    """Print the table."""
    kinds = ["direct", "ours", "starlette"]
    if importlib.util.find_spec("httpx") is None:
        print("Without httpx, and so without the proxy of FastAPI and httpx: pip install httpx\n")
    else:
        kinds.append("fastapi")
    print(f"Proxy: {CONNECTIONS} keep-alive connections, {rounds} rounds of {SECONDS:g} s in turns, medians.")
    print(f"{machine('uvloop', 'httptools', 'starlette', 'aiohttp', 'fastapi')}\n")
    print(
        "| body | proxy | requests/s | CPU µs/request (lowest to highest) | / ours | events a request | p50 / p99 ms |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    upstream, sink = free_port(), free_port()
    own = [sys.executable, "-m", "benchmarks.proxied"]
    with ExitStack() as servers:
        servers.enter_context(running([*own, "predictor", str(upstream)], upstream))
        servers.enter_context(running([*own, "sink", str(sink)], sink))
        for size, count in rows.items():
            samples: dict[str, list[Sample]] = {kind: [] for kind in kinds}
            for _ in range(rounds):
                for kind, taken in samples.items():
                    taken.append(measure(kind, count, upstream, sink))
            ours = statistics.median(sample.cpu_us for sample in samples["ours"])
            for kind, taken in samples.items():
                print(_row(size, kind, taken, ours), flush=True)


def _row(size: str, kind: str, taken: Sequence[Sample], ours_us: float) -> str:
    def median(field: str) -> float:
        return float(statistics.median(getattr(sample, field) for sample in taken))

    spent = [sample.cpu_us for sample in taken]
    return (
        f"| {size} | {kind} | {median('rate'):,.0f} | {median('cpu_us'):.0f} ({min(spent):.0f} to {max(spent):.0f}) "
        f"| {median('cpu_us') / ours_us:.1f} | {median('events'):.2f} "
        f"| {median('p50_ms'):.1f} / {median('p99_ms'):.1f} |"
    )


def _received(sink: int) -> int:
    with urllib.request.urlopen(f"http://127.0.0.1:{sink}/") as reply:
        return int(reply.read())


def _arrived(sink: int, before: int, expected: int) -> int:
    """Return how many events have arrived once all that are expected have, or after a while."""
    deadline = time.monotonic() + _DELIVERY_S
    while (count := _received(sink)) < before + expected and time.monotonic() < deadline:
        time.sleep(0.05)
    return count


if __name__ == "__main__":
    main()
