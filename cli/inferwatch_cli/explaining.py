"""The explainer alone: the explainer container of an InferenceService, with the arguments that KServe gives it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import typer
from fastapi import FastAPI

from inferwatch.errors import ConfigError, Fault
from inferwatch_cli.checks import Checked, checked
from inferwatch_cli.explained import explained_models, explanations
from inferwatch_cli.listening import listening, loop_factory
from inferwatch_cli.parts import own_registry, serve_metrics
from inferwatch_cli.serving import run_application
from inferwatch_cli.telling import ToldCollector, delivery_to, running
from inferwatch_explainers.kserve_routes import kserve_router
from inferwatch_explainers.served import ExplainedModel
from inferwatch_explainers.ways import Spoken
from inferwatch_logger.access import Application, guarded
from inferwatch_logger.refusals import refuse_in_sentences

_HEADLESS_PORTS: Final = {"grpc": 8081}
"""Where a predictor listens whose service is headless, if not at 8080: KServe names no port then either."""

_PROTOCOLS: Final[Mapping[str, Spoken]] = {"v1": "v1", "v2": "v2", "grpc-v2": "grpc"}
"""What KServe calls each."""


@dataclass(frozen=True, slots=True)
class PredictorOptions:
    """Where KServe says that the predictor is: `host` with or without a port, of the model `model_name`."""

    model_name: str | None = None
    host: str | None = None
    protocol: str | None = None
    use_ssl: bool = False


def run_explain(config: Path, options: PredictorOptions, host: str, port: int) -> None:
    """Serve explanations until SIGTERM or SIGINT. Raises `ConfigError`, or `InferwatchError` where it cannot start."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    configuration = checked(config, needs_predictor=options.host is None)
    models = pointed(explained_models(configuration.models), options)
    application = explain_application(configuration, models)
    with listening(host, port) as listener:
        address, bound_port = listener.getsockname()[:2]
        shown = f"[{address}]" if ":" in address else address
        names = ", ".join(model.name for model in models)
        typer.echo(f"inferwatch explains {names} on http://{shown}:{bound_port}")
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            runner.run(run_application(application, listener))


def pointed(models: list[ExplainedModel], options: PredictorOptions) -> list[ExplainedModel]:
    """Return the models, the named one with its predictor where KServe says. Raises `ConfigError`."""
    if not models:
        raise ConfigError([Fault("models", "none has `explainers`, so there is nothing to explain")])
    if options.model_name is not None and options.model_name not in [model.name for model in models]:
        names = ", ".join(model.name for model in models)
        raise ConfigError(
            [Fault("--model_name", f"{options.model_name!r} has no explainer here; those that do: {names}")]
        )
    if options.host is None:
        return models
    url = f"{'https' if options.use_ssl else 'http'}://{options.host}"
    return [_at(model, url, options) if options.model_name in (None, model.name) else model for model in models]


def _at(model: ExplainedModel, url: str, options: PredictorOptions) -> ExplainedModel:
    named, has_port = _protocol(options.protocol), urlsplit(url).port is not None
    specs = [
        replace(
            spec,
            predictor_url=url,
            protocol=named or spec.protocol,
            other_url=None if has_port else f"{url}:{_HEADLESS_PORTS.get(named or spec.protocol, 8080)}",
        )
        for spec in model.explainers
    ]
    return replace(model, explainers=specs)


def _protocol(named: str | None) -> Spoken | None:
    if named is None or named in _PROTOCOLS:
        return None if named is None else _PROTOCOLS[named]
    raise ConfigError([Fault("--predictor_protocol", f"{named!r}: allowed here: {', '.join(_PROTOCOLS)}")])


def explain_application(configuration: Checked, models: list[ExplainedModel]) -> Application:
    """Return the service as an application, behind the token where one is configured."""
    registry = own_registry()
    settings = configuration.settings
    delivery = None if settings.explain.sink is None else delivery_to(settings.explain.sink)
    app = FastAPI(title="inferwatch explain", lifespan=None if delivery is None else running(delivery))
    if delivery is not None:
        registry.register(ToldCollector(delivery))
    app.include_router(explanations(settings, models, registry, None if delivery is None else delivery.emit))
    app.include_router(kserve_router([model.name for model in models]))
    serve_metrics(app, registry)
    refuse_in_sentences(app)
    return guarded(app, configuration.bearer_token)
