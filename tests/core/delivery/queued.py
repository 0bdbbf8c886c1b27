"""Events of a queue file, and queues filled with them."""

from __future__ import annotations

from pathlib import Path

from inferwatch.delivery.file_queue import FileQueue
from inferwatch.delivery.queue_file import MIN_BYTES
from inferwatch.events import CloudEvent

SINKS = ("http://a", "kafka://b/c")
EXTENSIONS = {"namespace": "prod", "inferenceservicename": "m\u00e9", "metadata": '{"A": ["b"]}'}


def event(number: int, size_bytes: int = 10, truncated: bool = False) -> CloudEvent:
    body = (number.to_bytes(4, "big") * (size_bytes // 4 + 1))[:size_bytes]
    return CloudEvent(str(number), "/s", "t", number - 10**19, "text/plain", EXTENSIONS, body, truncated)


def filled(path: Path, count: int, sinks: tuple[str, ...] = SINKS) -> None:
    queue = FileQueue(path, MIN_BYTES, sinks)
    for number in range(count):
        queue.put(event(number), 0.0)
    queue.close()


def ids(queue: FileQueue) -> list[int]:
    return [int(item.event.id) for item in queue.positions[0].take(1000, 10**9)]
