"""What KServe asks of an explainer container beside explanations: whether it lives, and what it serves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from inferwatch._version import __version__


def kserve_router(model_names: Sequence[str]) -> APIRouter:
    """Return the routes of KServe's own servers that an explainer shares, with their replies (python/kserve 0.21).

    The metadata of a model is among the routes of `service.explain_router`.
    """
    router = APIRouter(tags=["kserve"])
    router.include_router(_process_router())
    router.include_router(_model_router(model_names))
    return router


def _process_router() -> APIRouter:
    router = APIRouter()

    @router.get("/")
    async def alive() -> dict[str, str]:
        """Answer that the process lives."""
        return {"status": "alive"}

    @router.get("/v2")
    async def server() -> dict[str, Any]:
        """Answer what this server is."""
        return {"name": "inferwatch", "version": __version__, "extensions": []}

    @router.get("/v2/health/live")
    async def live() -> dict[str, bool]:
        """Answer that the process lives."""
        return {"live": True}

    @router.get("/v2/health/ready")
    async def ready() -> dict[str, bool]:
        """Answer that explanations can be asked for."""
        return {"ready": True}

    for path in ("/healthz", "/readyz"):
        router.get(path, include_in_schema=False)(alive)

    return router


def _model_router(model_names: Sequence[str]) -> APIRouter:
    router = APIRouter()

    def of_model(name: str, reply: dict[str, Any]) -> Response:
        if name in model_names:
            return JSONResponse(reply)
        return JSONResponse({"error": f"Model with name {name[:64]} does not exist."}, 404)

    @router.get("/v1/models")
    @router.get("/v2/models")
    async def models() -> dict[str, list[str]]:
        """Answer the models that can be explained."""
        return {"models": list(model_names)}

    @router.get("/v1/models/{name}")
    @router.get("/v2/models/{name}/ready")
    async def model(name: str) -> Response:
        """Answer whether a model can be explained; 404 where it is not known."""
        return of_model(name, {"name": name, "ready": True})

    return router
