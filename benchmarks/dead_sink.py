"""Memory over a dead sink: `python -m benchmarks.dead_sink [SECONDS]`, ten minutes unless given.

Four processes at once capture at a steady rate, as many events as a busy model server makes, and nobody takes them:
the sink refuses connections, or takes them and never answers. The queue is a file or memory, and small enough to be
full after half a minute, so that most of the run drops what is oldest. What counts is the anonymous memory of each
process over time; the mapped file is the page cache's, and is there whether or not anybody uses it.
"""

from __future__ import annotations

import asyncio
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

from benchmarks.delivery import event
from benchmarks.processes import machine
from inferwatch.delivery.delivery import Delivery
from inferwatch.events import CloudEvent
from inferwatch_cli.demo.processes import free_port

SECONDS: Final = 600.0
EVENTS_PER_S: Final = 200
EVENT_BYTES: Final = 10_240
QUEUE_BYTES: Final = 64 << 20
QUEUES: Final = ("file", "memory")
SINKS: Final = ("refuses", "hangs")
_SHARES: Final = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0)
_WARM_S: Final = 0.5


def anonymous_mib() -> float:
    """Return the anonymous memory of this process."""
    fields = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(fields["RssAnon"].split()[0]) / 1024


@contextmanager
def dead(sink: str) -> Iterator[int]:
    """Yield the port of a sink that refuses connections, or takes them and never answers."""
    if sink == "refuses":
        yield free_port()
        return
    with socket.create_server(("127.0.0.1", 0)) as listener:  # the kernel takes connections for it
        yield int(listener.getsockname()[1])


async def captured(delivery: Delivery, seconds: float) -> list[float]:
    """Emit at the steady rate; return the anonymous MiB at the start and after every second."""
    bodies = [event(number, EVENT_BYTES) for number in range(64)]
    delivery.emit(bodies[0])
    await asyncio.sleep(_WARM_S)
    found = [anonymous_mib()]
    start = time.monotonic()
    for number in count():
        due = start + number / EVENTS_PER_S
        if number and number % EVENTS_PER_S == 0:
            found.append(anonymous_mib())
        if number >= seconds * EVENTS_PER_S:
            break
        await asyncio.sleep(max(0.0, due - time.monotonic()))
        one = bodies[number % 64]  # as capture does, every event is made anew
        body, extensions = bytes(memoryview(one.data)), dict(one.extensions)
        delivery.emit(CloudEvent(one.id, one.source, one.type, time.time_ns(), one.content_type, extensions, body))
    return found


async def measured(queue: str, sink: str, seconds: float) -> dict[str, Any]:
    """Return one process's memory over time, and its account in the end."""
    with dead(sink) as port, tempfile.TemporaryDirectory() as spool:
        delivery = Delivery(
            [f"http://127.0.0.1:{port}"], spool=Path(spool) if queue == "file" else None, queue_bytes=QUEUE_BYTES
        )
        found = await captured(delivery, seconds)
        account = delivery.account()
        await delivery.aclose(0.01)
    parts = account.delivered + account.queued + account.in_flight + sum(account.dropped.values())
    return {"mib": found, "account": account.as_dict(), "sums": parts == account.captured}


def main(seconds: float = SECONDS) -> None:
    """Run the four at once and print the table."""
    kinds = [(queue, sink) for queue in QUEUES for sink in SINKS]
    command = [sys.executable, "-m", "benchmarks.dead_sink", str(seconds)]
    running = [subprocess.Popen([*command, *kind], stdout=subprocess.PIPE) for kind in kinds]
    found = [json.loads(process.communicate()[0]) for process in running]
    print(
        f"{EVENTS_PER_S} events of 10 KiB a second for {seconds:g} s; {QUEUE_BYTES >> 20} MiB of queue; {machine()}\n"
    )
    times = " | ".join(f"{share * seconds:g} s" for share in _SHARES)
    print(f"| queue | sink | anonymous MiB at {times} | most | captured | dropped | sums |")
    print(f"| --- | --- |{' --- |' * (len(_SHARES) + 4)}")
    for (queue, sink), one in zip(kinds, found, strict=True):
        memory: list[float] = one["mib"]
        cells = [f"{memory[round(share * (len(memory) - 1))]:.1f}" for share in _SHARES]
        account = one["account"]
        print(
            f"| {queue} | {sink} | {' | '.join(cells)} | {max(memory):.1f} | {account['captured']:,} "
            f"| {sum(account['dropped'].values()):,} | {'yes' if one['sums'] else 'NO'} |"
        )


if __name__ == "__main__":
    lasting = float(sys.argv[1]) if len(sys.argv) > 1 else SECONDS
    if len(sys.argv) > 2:
        print(json.dumps(asyncio.run(measured(sys.argv[2], sys.argv[3], lasting))))
    else:
        main(lasting)
