"""What the benchmarks of the middleware and of the sidecar share: a round, its row, and the events that arrived."""

from __future__ import annotations

import statistics
import time
import urllib.request
from collections.abc import Sequence

from benchmarks.load import Sample

SIZES = {"100 B": (4, 16), "10 KiB": (480, 16), "1 MiB": (47_600, 4)}
"""Flowers a request, and connections; few of large ones, so that no queue is full."""
_DELIVERY_S = 15.0


def conditions(sizes: dict[str, tuple[int, int]], rounds: int, seconds: float) -> str:
    """Say under what load is measured."""
    connections = ", ".join(f"{connections} at {size}" for size, (_, connections) in sizes.items())
    return f"keep-alive connections, {connections}; {rounds} rounds of {seconds:g} s in turns, medians."


def row(size: str, kind: str, taken: Sequence[Sample], compared: str) -> str:
    """Return a Markdown row of medians, and what the processor time is compared with its peer's."""

    def median(field: str) -> float:
        return float(statistics.median(getattr(sample, field) for sample in taken))

    spent = [sample.cpu_us for sample in taken]
    return (
        f"| {size} | {kind} | {median('rate'):,.0f} | {median('cpu_us'):.0f} ({min(spent):.0f} to {max(spent):.0f}) "
        f"| {compared} | {median('events'):.2f} | {median('p50_ms'):.1f} / {median('p99_ms'):.1f} |"
    )


def paired(taken: Sequence[Sample], peer: Sequence[Sample]) -> float:
    """Return the ratio of the processor times of two servers, the median over the rounds that ran side by side."""
    return statistics.median(ours.cpu_us / theirs.cpu_us for ours, theirs in zip(taken, peer, strict=True))


def received(sink: int) -> int:
    """Return how many events a sink on this port has received."""
    with urllib.request.urlopen(f"http://127.0.0.1:{sink}/") as reply:
        return int(reply.read())


def arrived(sink: int, before: int, expected: int) -> int:
    """Return how many events have arrived once all that are expected have, or after a while."""
    deadline = time.monotonic() + _DELIVERY_S
    while (count := received(sink)) < before + expected and time.monotonic() < deadline:
        time.sleep(0.05)
    return count
