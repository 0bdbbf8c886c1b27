"""Serves what a command opens, an ASGI application, until the process is told to end, and closes it in order."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import typer
import uvicorn

from inferwatch_cli.checks import Checked, checked
from inferwatch_cli.listening import listening, log_to_stderr, loop_factory
from inferwatch_cli.parts import Service
from inferwatch_logger.access import Application
from inferwatch_logger.bounded_http import REQUEST_TIMEOUT_S, bounded_http

logger = logging.getLogger(__name__)

DRAIN_S = 4
"""Seconds that requests under way have after SIGTERM."""

_YOUNG_OBJECTS = 20_000
"""Objects between two collections. An event makes dozens, none of them a cycle: by default each thirtieth event waited
for a search that found nothing, a sixth of all processor time."""


Opening = Callable[[Checked, Path | None], AbstractContextManager[Service]]
"""Opens a service; the path is that of the payload log, where it is not the configured one."""


def serve(opening: Opening, verb: str, config: Path, data: Path | None, host: str, port: int) -> None:
    """Serve until SIGTERM or SIGINT. Raises `ConfigError`, or `InferwatchError` where it cannot start.

    `verb`: what the first line says that inferwatch does.
    """
    log_to_stderr()
    configuration = checked(config)
    with listening(host, port) as listener, opening(configuration, data) as service:
        address, bound_port = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        gc.collect()
        gc.freeze()  # what is loaded by now stays: no collection need walk over it again
        gc.set_threshold(_YOUNG_OBJECTS)
        typer.echo(f"inferwatch {verb} on http://{shown}:{bound_port}, {service.what}")
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            timeout_s = configuration.settings.ingest.request_timeout_s
            runner.run(run_application(service.application, listener, request_timeout_s=timeout_s))


class _Server(uvicorn.Server):
    """A server that ends with exit code 0 on SIGTERM, where uvicorn raises the signal again."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        yield


async def run_application(
    application: Application, listener: socket.socket, *, request_timeout_s: float = REQUEST_TIMEOUT_S
) -> None:
    """Serve an application until SIGTERM or SIGINT, and let requests under way end.

    A request that has not come whole within `request_timeout_s` is given up.
    """
    config = uvicorn.Config(
        application,
        http=bounded_http(request_timeout_s),
        log_config=None,
        log_level=logging.WARNING,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # nothing asks who the client is
        timeout_graceful_shutdown=DRAIN_S,
        timeout_keep_alive=75,
    )
    await _Server(config).serve(sockets=[listener])
