"""Explainers as the configuration names them, and the routes that serve them."""

from __future__ import annotations

from collections.abc import Sequence

from fastapi import APIRouter
from prometheus_client import CollectorRegistry

from inferwatch.reference import Reference
from inferwatch.settings import ExplainerSettings, Settings
from inferwatch_detectors.worker import MonitoredModel
from inferwatch_explainers.adapters.child_process import ChildProcess
from inferwatch_explainers.artifact import Artifact
from inferwatch_explainers.cache import ExplanationCache
from inferwatch_explainers.recording import Record
from inferwatch_explainers.served import ExplainedModel, ExplainerSpec
from inferwatch_explainers.service import explain_router


def explained_models(models: Sequence[MonitoredModel]) -> list[ExplainedModel]:
    """Return the models that have explainers, artefacts read."""
    return [
        ExplainedModel(
            model.settings.namespace,
            model.settings.name,
            model.reference,
            [_spec(explainer, model.reference) for explainer in model.settings.explainers],
        )
        for model in models
        if model.settings.explainers
    ]


def artifact_of(explainer: ExplainerSettings, reference: Reference) -> Artifact | None:
    """Return the model that an explainer has at hand. Raises `InvalidOption` or `MissingExtra` where it has no use."""
    if explainer.artifact is None:
        return None
    return Artifact(
        explainer.artifact,
        reference.schema,
        trust_pickle=explainer.trust_pickle,
        input_shape=explainer.input_shape,
    )


def explanations(
    settings: Settings, models: Sequence[ExplainedModel], registry: CollectorRegistry, record: Record | None
) -> APIRouter:
    """Return the routes that explain these models; `record` takes the event of each answer."""
    python, kept = settings.explain.legacy_python, settings.explain.cache_bytes
    return explain_router(
        models,
        registry=registry,
        max_queue=settings.explain.max_queue,
        origin=settings.auth.origin(),
        legacy=None if python is None else ChildProcess(python),
        record=record,
        cache=ExplanationCache(kept, settings.explain.cache_seconds) if kept else None,
    )


def _spec(explainer: ExplainerSettings, reference: Reference) -> ExplainerSpec:
    return ExplainerSpec(
        explainer.method,
        explainer.predictor,
        explainer.protocol,
        explainer.deadline_s,
        explainer.samples,
        artifact_of(explainer, reference),
        explainer.immutable,
        explainer.options,
        explainer.input_shape,
        explainer.examples,
        grpc_port=explainer.grpc_port,
    )
