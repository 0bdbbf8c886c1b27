"""How the peers and the doubles of the benchmarks are served: all alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import uvicorn


def serve(app: Callable[..., Any], port: int, lifespan: Literal["auto", "off"] = "auto") -> None:
    """Serve an ASGI application as fast as uvicorn can, until a signal ends it."""
    uvicorn.run(
        app,
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan=lifespan,
        access_log=False,
        proxy_headers=False,
        log_level="warning",
    )
