"""What commands that serve have in common: a socket that listens, an event loop, memory, and a log."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import logging
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from inferwatch.errors import InferwatchError

_TRIM_THRESHOLD: Final = -1
_MMAP_THRESHOLD: Final = -3
"""As `mallopt` numbers them."""


@contextmanager
def listening(host: str, port: int) -> Iterator[socket.socket]:
    """Yield a socket that listens, before anything else is opened."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind, protocol) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
            listener.listen(2048)
            yield listener
    except socket.gaierror as fault:
        raise InferwatchError(f"{host} is no address to listen on: {fault.strerror}") from fault
    except OSError as fault:
        if fault.errno == errno.EADDRINUSE:
            raise InferwatchError(f"port {port} of {host} is in use; take another one with --port") from fault
        if fault.errno in (errno.EACCES, errno.EADDRNOTAVAIL):
            raise InferwatchError(f"cannot listen on port {port} of {host}: {fault.strerror}") from fault
        raise


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    """Return what makes the event loops that serve."""
    import uvloop

    return uvloop.new_event_loop


def reuse_freed_memory() -> None:
    """Keep up to 16 MiB of freed memory for what comes next, where the C library can be told to (glibc).

    Left alone it gives blocks as large as bodies back to the system, and each next one costs a page fault every 4 KiB.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_TRIM_THRESHOLD, 16 << 20)
        mallopt(_MMAP_THRESHOLD, 8 << 20)


def log_to_stderr() -> None:
    """Log to standard error; what Kafka's clients fail in is told in words of ours, without theirs."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("kafka").setLevel(logging.CRITICAL)
