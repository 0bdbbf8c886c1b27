"""The sidecar: what relaying and capturing a request costs, beside other proxies that do so, in one run.

A predictor that answers at once stands behind each proxy, a sink that answers at once beside it, each a process of its
own; rounds alternate between the proxies, and medians are shown. The processor time is the proxy process's own, until
the events of everything that was answered have arrived, compared round by round. `direct` is the predictor without a
proxy: its latency is what the others add to. Ours runs with a queue file of 256 MiB, and with the queue in memory of
64 MiB that it has without `--spool`; what waits in the others has no bound.

The peers: the proxies that one writes with Starlette and aiohttp, and with FastAPI, httpx and the CloudEvents SDK, in
an environment of their own (`make setup-peers`); and KServe's agent, where `KSERVE_AGENT` names its program, as `go
build github.com/kserve/kserve/cmd/agent` makes it. It logs its errors alone, as a line an event would double its work.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from benchmarks.captured import SIZES, arrived, conditions, paired, received, row
from benchmarks.load import Sample, run_load
from benchmarks.processes import cpu_s, machine, running
from inferwatch_cli.demo.processes import free_port

PEERS = Path(__file__).parents[1] / ".venvs" / "peers" / "bin" / "python"
AGENT = "KSERVE_AGENT"
"""The variable that names the program of KServe's agent."""
OURS = "ours"
IN_MEMORY = "ours, queue in memory"
SECONDS = 1.0
ROUNDS = 5


@contextmanager
def proxying(kind: str, port: int, upstream: int, sink: int) -> Iterator[int]:
    """Run a proxy; yield the id of its process."""
    with tempfile.TemporaryDirectory() as spool, _started(kind, port, upstream, sink, spool) as process:
        yield process


def _started(kind: str, port: int, upstream: int, sink: int, spool: str) -> AbstractContextManager[int]:
    addresses = f"http://127.0.0.1:{upstream}", f"http://127.0.0.1:{sink}/"
    if kind in (OURS, IN_MEMORY):
        options = ["--upstream", addresses[0], "--sink", addresses[1], "--port", str(port), "--host", "127.0.0.1"]
        options += ["--spool", spool] if kind == OURS else []
        return running([str(Path(sys.executable).with_name("inferwatch")), "proxy", *options], port)
    if kind == "KServe's agent":
        options = ["--component-port", str(upstream), "--log-url", addresses[1], "--port", str(port)]
        options += ["--inference-service", "income", "--namespace", "default", "--component", "predictor"]
        probe = f'{{"tcpSocket": {{"port": {upstream}}}}}'
        # SIGTERM would have it wait for half a minute.
        return running(
            [os.environ[AGENT], *options],
            port,
            ending=signal.SIGKILL,
            SERVING_READINESS_PROBE=probe,
            SERVING_LOGGING_LEVEL="error",
        )
    return running([str(PEERS), "-m", "benchmarks.proxied", kind, str(port), *addresses], port)


def measure(kind: str, size: tuple[int, int], upstream: int, sink: int) -> Sample:
    """Start a proxy, load it, and wait for the events of what it answered."""
    rows, connections = size
    if kind == "direct":
        return Sample.of(run_load("predictions", upstream, rows, connections, SECONDS))
    port = free_port()
    with proxying(kind, port, upstream, sink) as process:
        unloaded = received(sink)
        warm = run_load("predictions", port, rows, connections, 0.5)
        warmed = arrived(sink, unloaded, 2 * warm.requests)
        before = cpu_s(process)
        result = run_load("predictions", port, rows, connections, SECONDS)
        events = arrived(sink, warmed, 2 * result.requests) - warmed
        return Sample.of(result, cpu_s=cpu_s(process) - before, events=events)


def present() -> list[str]:
    """Return the kinds that can be measured here; print what the others lack."""
    kinds = ["direct", OURS, IN_MEMORY]
    if PEERS.exists():
        kinds += ["starlette", "fastapi"]
    else:
        print("Without the proxies of Starlette and of FastAPI: make setup-peers\n")
    if AGENT in os.environ:
        kinds.append("KServe's agent")
    else:
        print(f"Without KServe's agent: {AGENT} names no program of `go build github.com/kserve/kserve/cmd/agent`\n")
    return kinds


def main(sizes: dict[str, tuple[int, int]] = SIZES, rounds: int = ROUNDS) -> None:
    """Print the table."""
    kinds = present()
    print(f"Proxy: {conditions(sizes, rounds, SECONDS)}")
    print(f"{machine('uvloop', 'httptools')}{_versions()}\n")
    print(
        "| body | proxy | requests/s | CPU µs/request (lowest to highest) | / ours | events a request | p50 / p99 ms |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- |")
    upstream, sink = free_port(), free_port()
    own = [sys.executable, "-m", "benchmarks.proxied"]
    with ExitStack() as servers:
        servers.enter_context(running([*own, "predictor", str(upstream)], upstream))
        servers.enter_context(running([*own, "sink", str(sink)], sink))
        for name, size in sizes.items():
            samples: dict[str, list[Sample]] = {kind: [] for kind in kinds}
            for _ in range(rounds):
                for kind, taken in samples.items():
                    taken.append(measure(kind, size, upstream, sink))
            for kind, taken in samples.items():
                print(row(name, kind, taken, f"{paired(taken, samples[OURS]):.1f}"), flush=True)


def _versions() -> str:
    """Return the versions of the peers' packages."""
    if not PEERS.exists():
        return ""
    names = ("starlette", "aiohttp", "fastapi", "httpx")
    code = (
        f"from importlib.metadata import version\nprint(*(f', {{name}} {{version(name)}}' for name in {names}), sep='')"
    )
    return subprocess.run([PEERS, "-c", code], check=True, stdout=subprocess.PIPE, text=True).stdout.rstrip()


if __name__ == "__main__":
    main()
