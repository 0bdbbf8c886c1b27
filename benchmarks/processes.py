"""The server processes that benchmarks load: started on a free port, waited for, their processor time read, ended."""

from __future__ import annotations

import os
import platform
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_START_S = 60.0


@contextmanager
def running(
    command: Sequence[str], port: int, *, ending: signal.Signals = signal.SIGTERM, **environment: str
) -> Iterator[int]:
    """Yield the id of the process that runs the command, once it listens on the port; end it by a signal afterwards.

    Its linear algebra has one thread, since more of them spin while they wait, which counts as processor time.
    """
    alone = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", **environment}
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, env=alone) as server:
        try:
            _wait_for(port, server)
            yield server.pid
        finally:
            server.send_signal(ending)


def cpu_s(process: int) -> float:
    """Return the processor seconds that a process has taken, in steps of 10 ms."""
    fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


def machine(*packages: str) -> str:
    """Return a line on the machine, its load, and the versions of Python and of packages."""
    versions = ", ".join([f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in packages)])
    return f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}, {versions}"


def _wait_for(port: int, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_S
    while server.poll() is None and time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
        except ConnectionRefusedError:
            time.sleep(0.05)
        else:
            return
    raise RuntimeError(f"{server.args!r} does not listen")
