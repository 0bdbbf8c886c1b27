"""Delivery of every event to one or several sinks, each at its own pace, through a queue that survives the process."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, get_args
from urllib.parse import urlsplit

from inferwatch.delivery.account import Account, total
from inferwatch.delivery.emitter import Emitter
from inferwatch.delivery.http import HttpSink
from inferwatch.delivery.queue import MemoryQueue, WhenFull
from inferwatch.errors import ConfigError, Fault, QueueFileError
from inferwatch.events import CloudEvent

if TYPE_CHECKING:  # protocols imports NumPy, which a model server need not pay for
    from inferwatch.delivery.file_queue import FileQueue
    from inferwatch.delivery.queue import Queue
    from inferwatch.delivery.tls import Tls
    from inferwatch.protocols import Sink

logger = logging.getLogger(__name__)

FILE_BYTES: Final = 268_435_456
MEMORY_BYTES: Final = 67_108_864
_LEAST_FILE_BYTES: Final = 65_536
_FILE_DEADLINE_S: Final = 86_400.0
_MEMORY_DEADLINE_S: Final = 3_600.0


class Delivery:
    """Takes events without waiting and delivers each to every sink. `emit` is to be called on an event loop.

    `sinks` are URLs (`http://host:port/path`) or `Sink` objects. With `spool`, a directory, events wait in a queue file
    of `queue_bytes` there (256 MiB unless given), and what an earlier process left is delivered too; an event that
    could not be delivered for a day expires. Without, or where no file can be made, which is logged once, they wait in
    memory: at most `queue_bytes` (64 MiB unless given) a sink, for an hour. A full queue lets go of what has waited
    longest, or with `drop_newest` of what comes, which in a file then concerns every sink. Nothing starts before
    `start` or the first event. Raises `ConfigError` for sinks that cannot be used.
    """

    def __init__(
        self,
        sinks: Sequence[str | Sink],
        *,
        spool: Path | None = None,
        queue_bytes: int | None = None,
        when_full: WhenFull = "drop_oldest",
    ) -> None:
        if when_full not in get_args(WhenFull):
            raise ConfigError([Fault("when_full", f"{when_full!r} is none of {', '.join(get_args(WhenFull))}")])
        if spool is not None and queue_bytes is not None and queue_bytes < _LEAST_FILE_BYTES:
            raise ConfigError(
                [
                    Fault(
                        "queue_bytes",
                        f"{queue_bytes} is too small for a queue file; allowed is {_LEAST_FILE_BYTES} or more",
                    )
                ]
            )
        self.names = _names(sinks)
        self.spool_fault: str | None = None
        """Why events wait in memory although there is a `spool`."""
        self.sinks: Sequence[Sink] = sinks_of(sinks, None)
        self._spool = spool
        self._queue_bytes = queue_bytes
        self._when_full: WhenFull = when_full
        self._emitters: list[Emitter] = []
        self._file: FileQueue | None = None
        self._memory: list[MemoryQueue] = []

    def start(self) -> None:
        """Open the queue and deliver what is in it."""
        if self._emitters:
            return
        if self._spool is not None:
            self._file = self._opened(self._spool)
        queues: Sequence[Queue]
        if self._file is not None:
            queues, deadline_s = self._file.positions, _FILE_DEADLINE_S
        else:
            size_bytes = MEMORY_BYTES if self._queue_bytes is None else self._queue_bytes
            self._memory = [MemoryQueue(size_bytes, self._when_full) for _ in self.sinks]
            queues, deadline_s = [*self._memory], _MEMORY_DEADLINE_S
        pairs = zip(self.sinks, queues, strict=True)
        self._emitters = [Emitter(sink, queue, deadline_s=deadline_s) for sink, queue in pairs]
        for emitter, queue in zip(self._emitters, queues, strict=True):
            if len(queue):
                emitter.wake()

    def emit(self, event: CloudEvent) -> None:
        """Take an event; it is sent later to every sink, or dropped and counted."""
        if not self._emitters:
            self.start()
        self._emitters[0].emit(event)
        for emitter in self._emitters[1:]:
            if self._file is None:
                emitter.emit(event)
            else:  # it is in the one file already
                emitter.wake()

    def accounts(self) -> Mapping[str, Account]:
        """Return where every event is, for each sink by its name."""
        if not self._emitters:
            return {name: total([]) for name in self.names}
        return {name: emitter.account() for name, emitter in zip(self.names, self._emitters, strict=True)}

    def account(self) -> Account:
        """Return the sum of the accounts of all sinks."""
        return total(self.accounts().values())

    def fill(self) -> tuple[int, int]:
        """Return how many bytes undelivered events take, and how many they may."""
        if self._file is not None:
            return self._file.fill()
        return sum(queue.used_bytes for queue in self._memory), sum(queue.max_bytes for queue in self._memory)

    async def aclose(self, timeout_s: float = 5.0) -> None:
        """Deliver what is queued, for `timeout_s` at most; the rest stays in the queue file, or is dropped."""
        self.start()
        await asyncio.gather(*(emitter.aclose(timeout_s) for emitter in self._emitters))
        if self._file is not None:
            self._file.close()

    def _opened(self, directory: Path) -> FileQueue | None:
        from inferwatch.delivery.spool import open_spool  # needs a POSIX system

        try:
            size_bytes = FILE_BYTES if self._queue_bytes is None else self._queue_bytes
            return open_spool(directory, size_bytes, self.names, self._when_full)
        except QueueFileError as fault:
            self.spool_fault = str(fault)
            logger.warning("events wait in memory, where a crash loses them: %s", fault)
            return None


def sinks_of(sinks: Iterable[str | Sink], tls: Tls | None) -> list[Sink]:
    """Return sinks, those that URLs name verified as `tls` says. Raises as `sink_of`, and where nothing needs `tls`."""
    given = list(sinks)
    if tls is not None and not any(isinstance(sink, str) and sink.startswith("https:") for sink in given):
        raise ConfigError([Fault("tls", "is for sinks with a URL https://..., and there is none")])
    return [sink_of(sink, tls) if isinstance(sink, str) else sink for sink in given]


def sink_of(url: str, tls: Tls | None = None) -> Sink:
    """Return the sink that a URL names, one over https verified as `tls` says.

    Raises `ConfigError` where it names none or a file cannot be used, `MissingExtra` for Kafka without.
    """
    if url.startswith("kafka:"):
        from inferwatch.delivery.kafka import KafkaSink

        return KafkaSink(url)
    return HttpSink(url, tls=tls)


def _names(sinks: Sequence[str | Sink]) -> list[str]:
    """What queue files and accounts call the sinks: a URL without its query, which may hold a secret, or the type."""
    if not sinks:
        raise ConfigError([Fault("sink", "is missing; at least one is needed")])
    names: list[str] = []
    for sink in sinks:
        url = sink if isinstance(sink, str) else str(getattr(sink, "url", ""))
        name = urlsplit(url)._replace(query="", fragment="").geturl() if url else type(sink).__name__
        same = sum(other.partition("#")[0] == name for other in names)
        names.append(f"{name}#{same + 1}" if same else name)
    return names
